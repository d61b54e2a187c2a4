//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ending is a row of the table in docs/events.md: how a request ends, and what
// its event says.
type ending struct {
	name string
	path string // "": /v1/chat/completions
	// answer is a name of answers, after which the upstream does end: "close" and
	// "reset" break the connection, "" waits until the client is gone.
	answer, end string
	// The client hangs up once it has read so many lines of the answer; at 0 it
	// has the head, at beforeHead it knows that the upstream has the request.
	// never: it waits for the end.
	hangUp int
	model  string // "": chatModel

	outcome, measurement string
	status               int
	input, output        amount
}

const (
	never      = -2
	beforeHead = -1
)

// amount is how many tokens an event should have: that many or, as some, any but
// none.
type amount int

const some amount = -1

func (a amount) is(n int) bool { return a == amount(n) || a == some && n > 0 }

// What the upstream stated, where it did.
const statedIn, statedOut = 5, 6

// limited is the path whose maxDuration is 1s and whose maxBody is 2KiB.
const limited = "/inference/v1/chat/completions"

func endings() []ending {
	rows := []ending{
		{name: "client hangs up before the answer", hangUp: beforeHead, outcome: "client_closed", measurement: "estimated", input: some},
		{name: "client hangs up before the first event", answer: "head", outcome: "client_closed", measurement: "estimated", status: 200, input: some},
		{name: "client hangs up in the middle", answer: "middle", hangUp: 4, outcome: "client_closed", measurement: "estimated", status: 200, input: some, output: some},
		{name: "client hangs up at [DONE], usage stated", answer: "done", hangUp: 5, outcome: "completed", measurement: "reported", status: 200, input: statedIn, output: statedOut},
		{name: "client hangs up at [DONE], no usage", answer: "done without usage", hangUp: 5, outcome: "client_closed", measurement: "estimated", status: 200, input: some, output: some},
		{name: "client hangs up in an answer in one piece", answer: "half of JSON", hangUp: 1, outcome: "client_closed", measurement: "estimated", status: 200, input: some, output: some},

		{name: "too long before the answer", path: limited, hangUp: never, outcome: "upstream_error", measurement: "estimated", status: 504, input: some},
		{name: "too long in the middle", path: limited, answer: "middle", hangUp: never, outcome: "upstream_error", measurement: "estimated", status: 200, input: some, output: some},
		{name: "too long after the usage", path: limited, answer: "done", hangUp: never, outcome: "upstream_error", measurement: "reported", status: 200, input: statedIn, output: statedOut},

		{name: "compressed JSON that nobody asked for", answer: "gzip", hangUp: never, outcome: "completed", measurement: "estimated", status: 200, input: some, output: some},
		{name: "a compressed stream that nobody asked for", answer: "gzip stream", hangUp: never, outcome: "completed", measurement: "estimated", status: 200, input: some, output: some},
		{name: "nobody listens", model: downModel, hangUp: never, outcome: "not_sent", measurement: "estimated", status: 503},
	}
	for _, end := range []string{"close", "reset"} {
		rows = append(rows,
			ending{name: "upstream ends before the answer: " + end, end: end, hangUp: never, outcome: "upstream_error", measurement: "estimated", status: 503},
			ending{name: "upstream ends before the first event: " + end, answer: "head", end: end, hangUp: never, outcome: "upstream_error", measurement: "estimated", status: 200, input: some},
			ending{name: "upstream ends in the middle: " + end, answer: "middle", end: end, hangUp: never, outcome: "upstream_error", measurement: "estimated", status: 200, input: some, output: some},
			ending{name: "upstream ends in a chunk: " + end, answer: "broken chunk", end: end, hangUp: never, outcome: "upstream_error", measurement: "estimated", status: 200, input: some, output: some},
			ending{name: "upstream ends after the usage: " + end, answer: "done", end: end, hangUp: never, outcome: "upstream_error", measurement: "reported", status: 200, input: statedIn, output: statedOut},
			ending{name: "upstream ends in an answer in one piece: " + end, answer: "half of JSON", end: end, hangUp: never, outcome: "upstream_error", measurement: "estimated", status: 200, input: some, output: some},
		)
	}
	return rows
}

// answers are what the upstream sends, byte by byte.
func answers(t *testing.T) map[string]string {
	t.Helper()
	const (
		stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
		event  = `data: {"choices":[{"index":0,"delta":{"content":"two words "}}]}` + "\n\n"
		usage  = `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}` + "\n\n"
		done   = "data: [DONE]\n\n"
		json   = `{"choices":[{"message":{"content":"quite a lot of words"}}],` + "\n" + `"usage":{"prompt_tokens":5,"completion_tokens":6}}`
	)
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	compressed := func(kind, text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, text); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-encoding: gzip\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s", kind, b.Len(), b.String())
	}
	return map[string]string{
		"":                   "",
		"head":               stream,
		"middle":             stream + chunk(event+event),
		"broken chunk":       stream + strings.TrimSuffix(chunk(event+event+event[:20]), "\r\n")[:len(event)*2+10],
		"done":               stream + chunk(event+event) + chunk(usage+done),
		"done without usage": stream + chunk(event+event) + chunk(done),
		"half of JSON":       fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", len(json), json[:len(json)-20]),
		"gzip":               compressed("application/json", json),
		"gzip stream":        compressed("text/event-stream", event+event+usage+done),
	}
}

// scripted is an upstream that does what a request's x-answer and x-end say.
type scripted struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]chan struct{} // by x-tag; closed when the request is there; guarded by mu
}

func (s *scripted) has(tag string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[tag] == nil {
		s.seen[tag] = make(chan struct{})
	}
	return s.seen[tag]
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	texts := answers(t)
	s := &scripted{seen: map[string]chan struct{}{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		close(s.has(r.Header.Get("x-tag")))
		_, _ = io.WriteString(conn, texts[r.Header.Get("x-answer")])
		switch r.Header.Get("x-end") {
		case "reset":
			// A reset overtakes what was sent: what Envoy hasn't read is lost.
			time.Sleep(200 * time.Millisecond)
			_ = conn.(*net.TCPConn).SetLinger(0)
		case "":
			_, _ = conn.Read(make([]byte, 1)) // until the other side is gone
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// startScripted is a gate in front of a scripted upstream. The podstack route
// ends requests after a second and takes bodies of 2 KiB.
func startScripted(t *testing.T, b *bench) (*gate, *scripted) {
	t.Helper()
	g, up := newGate(t, b), newScripted(t)
	catalog := filepath.Join(g.dir, "scripted.yaml")
	text := strings.Replace(catalogFor(up.URL, "http://"+freeAddr(t)), "{dialect: podstack}", "{dialect: podstack, maxDuration: 1s, maxBody: 2KiB}", 1) +
		"settings: {tagHeaders: [x-tag]}\n"
	if err := os.WriteFile(catalog, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "TOLLGATE_CATALOG="+catalog)
	g.start("up")
	g.waitReady()
	return g, up
}

// request does what a row says of the client, and returns once that is over.
func (e *ending) request(t *testing.T, g *gate, up *scripted, key string, reached func()) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path, model := first(e.path, "/v1/chat/completions"), first(e.model, chatModel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.gateway+path, strings.NewReader(chatBody(model, `,"stream":true`)))
	if err != nil {
		t.Error(err)
		return
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + key, "Content-Type": "application/json", "x-tag": e.name, "x-answer": e.answer, "x-end": e.end,
	} {
		req.Header.Set(name, value)
	}
	if e.hangUp == beforeHead {
		go func() {
			<-up.has(e.name)
			reached()
			cancel()
		}()
	}
	res, err := client.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for n := 0; n != e.hangUp; n++ {
		if _, err := lines.ReadString('\n'); err != nil {
			return
		}
	}
	reached()
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// endedEvent is what the tests of this file look at of an event.
type endedEvent struct {
	Type string
	Data struct {
		Tags                      map[string]string
		Outcome, Measurement      string
		Status                    int
		InputTokens, OutputTokens int
	}
}

// byTag waits for an event of each tag, and fails for one that has two.
func (g *gate) byTag(tags ...string) map[string]endedEvent {
	g.t.Helper()
	found := map[string]endedEvent{}
	within(g.t, time.Minute, "complete", func() error {
		clear(found)
		for line := range strings.Lines(g.cli("events", "list", "--since", "24h", "-o", "json")) {
			e := decodeJSON[endedEvent](g.t, line)
			if _, twice := found[e.Data.Tags["x-tag"]]; twice {
				g.t.Fatalf("two events of %q", e.Data.Tags["x-tag"])
			}
			found[e.Data.Tags["x-tag"]] = e
		}
		for _, tag := range tags {
			if _, ok := found[tag]; !ok {
				return fmt.Errorf("no event of %q", tag)
			}
		}
		return nil
	})
	return found
}

// testEndings tries every row of the table in docs/events.md.
func testEndings(t *testing.T, b *bench) {
	g, up := startScripted(t, b)
	k := g.key("--name", "endings")
	rows := endings()
	var all sync.WaitGroup
	var tags []string
	for i := range rows {
		tags = append(tags, rows[i].name)
		all.Go(func() { rows[i].request(t, g, up, k.Key, func() {}) })
	}
	all.Go(func() {
		res := g.try(http.MethodPost, "http://"+g.gateway+limited, k.Key, chatBody(chatModel, ""), "x-tag: too long")
		if _, message := res.refusal(t); res.status != http.StatusGatewayTimeout || !strings.Contains(message, "too long") {
			t.Errorf("what the caller is told after maxDuration: %v", res)
		}
	})
	all.Wait()
	events := g.byTag(tags...)
	for _, r := range rows {
		d := events[r.name].Data
		if d.Outcome != r.outcome || d.Measurement != r.measurement || d.Status != r.status || !r.input.is(d.InputTokens) || !r.output.is(d.OutputTokens) {
			t.Errorf("%s: want %s, %s, %d, tokens %d and %d; the event says %+v", r.name, r.outcome, r.measurement, r.status, r.input, r.output, d)
		}
	}
	t.Run("maxBody", func(t *testing.T) { at := *g; at.t = t; testMaxBody(t, &at, up) })
	t.Run("Envoy is killed", func(t *testing.T) {
		at := *g
		at.t = t
		for name, d := range endProxy(t, &at, up, k.Key, syscall.SIGKILL) {
			if d.Data.Outcome != "unknown" || d.Data.Measurement != "none" || d.Data.InputTokens+d.Data.OutputTokens != 0 {
				t.Errorf("%s: %+v", name, d)
			}
		}
	})
	t.Run("Envoy is asked to end", func(t *testing.T) {
		at := *g
		at.t = t
		for name, d := range endProxy(t, &at, up, k.Key, syscall.SIGTERM) {
			// It tells on its way out, and does not wait to be heard.
			switch d := d.Data; {
			case d.Outcome == "upstream_error" && d.Measurement == "estimated" && d.InputTokens > 0:
			case d.Outcome == "unknown" && d.Measurement == "none":
			default:
				t.Errorf("%s: %+v", name, d)
			}
			t.Logf("%s: %s", name, d.Data.Measurement)
		}
	})
}

// endProxy sends a signal to Envoy while requests are before and in the middle of
// their answers, waits for the next one, and returns their events.
func endProxy(t *testing.T, g *gate, up *scripted, key string, s syscall.Signal) map[string]endedEvent {
	t.Helper()
	envoy := envoyOf(t, g.cmd.Process.Pid)
	var reached, over sync.WaitGroup
	rows := []ending{{name: "before the answer", hangUp: beforeHead}, {name: "in the middle", answer: "middle", hangUp: 4}}
	var tags []string
	for i := range rows {
		r := &rows[i]
		r.name = fmt.Sprintf("%v %s", s, r.name)
		tags = append(tags, r.name)
		reached.Add(1)
		over.Go(func() {
			done := sync.OnceFunc(reached.Done)
			defer done()
			r.request(t, g, up, key, func() {
				done()
				waitGone(t, envoy)
			})
		})
	}
	reached.Wait()
	if err := syscall.Kill(envoy, s); err != nil {
		t.Fatal(err)
	}
	over.Wait()
	g.waitReady()
	events := g.byTag(tags...)
	ended := map[string]endedEvent{}
	for _, tag := range tags {
		ended[tag] = events[tag]
	}
	return ended
}

// testMaxBody sends bodies above a route's maxBody, whose length is told or not.
func testMaxBody(t *testing.T, g *gate, up *scripted) {
	t.Helper()
	k := g.key("--name", "bodies", "--requests-per-minute", "1", "--tokens-per-minute", "100000")
	url := "http://" + g.gateway + limited
	for _, size := range []int{3 << 10, 100 << 10} {
		for _, told := range []bool{true, false} {
			name := fmt.Sprintf("%d bytes, length told: %v", size, told)
			body := chatBody(chatModel, fmt.Sprintf(`,"user":%q`, strings.Repeat("x", size)))
			var reader io.Reader = strings.NewReader(body)
			if !told {
				reader = struct{ io.Reader }{reader}
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, reader)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+k.Key)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("x-tag", name)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			a := answer{res.StatusCode, res.Header, string(text)}
			if code, _ := a.refusal(t); a.status != http.StatusRequestEntityTooLarge || code != "request_too_large" {
				t.Errorf("%s: %v", name, a)
			}
		}
	}
	// The key's one request of the minute is still there, and only it counts.
	if res := g.try(http.MethodPost, url, k.Key, chatBody(chatModel, ""), "x-tag: small", "x-answer: gzip"); res.status != http.StatusOK {
		t.Errorf("a small one afterwards: %v", res)
	}
	g.eventsOf(k, 1)
	up.mu.Lock()
	defer up.mu.Unlock()
	for tag := range up.seen {
		if strings.Contains(tag, "length told") {
			t.Errorf("the upstream saw %s", tag)
		}
	}
}
