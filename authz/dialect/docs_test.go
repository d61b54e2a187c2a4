package dialect

import (
	"os"
	"strings"
	"testing"
)

// TestDocs: the page has a line for each dialect that names its paths, and an example
// that is in the code.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/dialects.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if name, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); ok && strings.HasPrefix(line, "| `") {
			lines[name] = rest
		}
	}
	for _, name := range Names() {
		d, _ := Lookup(name)
		if lines[name] == "" {
			t.Errorf("docs/dialects.md has no line for %s", name)
		}
		for i := range d.Paths {
			if strings.HasPrefix(d.Paths[i].Pattern, "/openai/v1/") {
				continue // "all of openai"
			}
			last := "" // segment that is no placeholder
			for segment := range strings.SplitSeq(d.Paths[i].Pattern, "/") {
				if !strings.HasPrefix(segment, "{") {
					last = segment
				}
			}
			if parent, _, nested := strings.Cut(d.Paths[i].Pattern, "/"+last); !strings.Contains(lines[name], last) &&
				(!nested || !strings.Contains(lines[name], parent[strings.LastIndex(parent, "/")+1:]+"/…")) {
				t.Errorf("docs/dialects.md does not say that %s has %s", name, d.Paths[i].Pattern)
			}
		}
	}
	if code, err := os.ReadFile("cohere.go"); err != nil || !strings.Contains(string(code), "p.Stated = &Stated{\n\t\tInput:  []string{\"usage.billed_units.input_tokens\"") ||
		!strings.Contains(string(page), "p.Stated = &Stated{\n\t\tInput:  []string{\"usage.billed_units.input_tokens\"") {
		t.Errorf("the example on the page is not what the code says (%v)", err)
	}
}
