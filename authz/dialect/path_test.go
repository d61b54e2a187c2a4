package dialect

import "testing"

func TestPathsAreFoundByTheirNames(t *testing.T) {
	for _, d := range dialects {
		for i := range d.Paths {
			if p := &d.Paths[i]; PathOf(d.Name, p.Name()) != p {
				t.Errorf("%s: %q is the name of another path", d.Name, p.Name())
			}
		}
	}
	if got := PathOf("openai", "POST /v1/embeddings"); got == nil || got.Pattern != "/v1/embeddings" {
		t.Errorf("POST /v1/embeddings of openai is %v", got)
	}
	for _, name := range []string{"", "POST", "GET /v1/embeddings", "POST /v1/embeddings/"} {
		if got := PathOf("openai", name); got != nil {
			t.Errorf("%q is %v", name, got)
		}
	}
	if PathOf("none", "POST /v1/embeddings") != nil {
		t.Error("a dialect that isn't there has paths")
	}
	if got := (&Path{Method: "PUT", Pattern: "/x"}).Name(); got != "PUT /x" {
		t.Errorf("a path of no dialect is called %q", got)
	}
	p := PathOf("openai", "POST /v1/embeddings")
	if n := testing.AllocsPerRun(10, func() { _ = p.Name() }); n != 0 {
		t.Errorf("%v allocations for a name", n)
	}
}
