package dialect

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"tollgate/authz/key"
)

// TestTables holds every dialect to what the code takes for granted.
func TestTables(t *testing.T) {
	if got := Names(); !slices.IsSorted(got) || len(got) != len(slices.Compact(slices.Clone(got))) {
		t.Errorf("names are not sorted or not unique: %v", got)
	}
	for _, name := range Names() {
		d, ok := Lookup(name)
		if !ok || d.Name != name {
			t.Fatalf("Lookup(%s) = %v, %v", name, d, ok)
		}
		if d.RootHeader != "" && (d.Root == "" || !Wanted(d.RootHeader)) {
			t.Errorf("%s: RootHeader without a Root, or no Check carries it", name)
		}
		if h := d.KeyHeader; h != "" && (!isToken(h) || h != strings.ToLower(h) || !Wanted(h)) || d.KeyScheme != "" && !isToken(d.KeyScheme) {
			t.Errorf("%s: KeyHeader %q or KeyScheme %q is not one, or no Check carries it", name, h, d.KeyScheme)
		}
		seen := map[string]bool{}
		for i := range d.Paths {
			p := &d.Paths[i]
			where := name + " " + p.Method + " " + p.Pattern
			if seen[p.Method+p.Pattern] {
				t.Errorf("%s: twice", where)
			}
			seen[p.Method+p.Pattern] = true
			if !strings.HasPrefix(p.Pattern, "/") || (p.Action == "") != (p.Answer == AnswerManaged) {
				t.Errorf("%s: no path, or no action where a Check looks at one", where)
			}
			if d.Root != "" && !d.Has(p.Pattern) && p.Answer != AnswerManaged {
				t.Errorf("%s: not below %s", where, d.Root)
			}
			if p.Answer == AnswerManaged {
				if before, _ := strings.CutSuffix(p.Pattern, "/{id}"); strings.Contains(before, "{") {
					t.Errorf("%s: only the last segment of a managed path may vary", where)
				}
				continue
			}
			if _, rest, variable := strings.Cut(p.Pattern, "{"); variable != (p.ModelIn == ModelInPath || p.names(ModelInPath)) ||
				p.ModelIn == ModelInPath && !strings.HasPrefix(rest, "model}") && !strings.HasPrefix(rest, "model...}") ||
				p.names(ModelInPath) && (p.ModelIn != ModelNone || !strings.HasPrefix(rest, "id}")) {
				t.Errorf("%s: pattern, Mentions and ModelIn %d don't fit", where, p.ModelIn)
			}
			checkObjects(t, where, p)
			if named := p.BodyIn() >= ModelInJSON; named != (p.ModelField != "") {
				t.Errorf("%s: ModelField %q with ModelIn %d", where, p.ModelField, p.ModelIn)
			}
			if p.Header != "" && !Wanted(p.Header) {
				t.Errorf("%s: no Check carries %s", where, p.Header)
			}
			fields := append([]string{p.ModelField}, p.Refused...)
			for i := range p.Must {
				fields = append(fields, p.Must[i].Field)
				if p.Must[i].Else == "" || len(p.Must[i].Values) == 0 || p.BodyIn() != ModelInForm && p.BodyIn() != ModelInURLForm {
					t.Errorf("%s: %q has no values or no sentence, or nobody reads it", where, p.Must[i].Field)
				}
			}
			for _, field := range fields {
				var f folded
				if len(field) >= foldedSize || !f.fold([]byte(field)) || !f.exact {
					t.Errorf("%s: %q is not a short name in lower case", where, field)
				}
			}
			if p.BodyIn() == ModelInJSON {
				for role, names := range map[role][]string{outputRole: p.MaxOutput, choicesRole: p.Choices} {
					for _, name := range names {
						if !readAs(name, role) {
							t.Errorf("%s: nobody reads the member %q: add it to members, with what it tells", where, name)
						}
					}
				}
			}
			if p.WebSocket && (p.Method != http.MethodGet || p.ModelIn == ModelInJSON || p.ModelIn == ModelInForm) {
				t.Errorf("%s: a handshake is a GET without a body", where)
			}
			if len(p.Refused) > 64 {
				t.Errorf("%s: %d refused members", where, len(p.Refused))
			}
		}
	}
	if _, ok := Lookup("OpenAI"); ok {
		t.Error("names are exact")
	}
	for _, m := range members {
		var f folded
		if !f.fold([]byte(m.name)) || !f.exact {
			t.Errorf("member %q is not a short name in lower case", m.name)
		}
	}
}

// names reports whether a request to the path mentions something there.
func (p *Path) names(in ModelIn) bool {
	return slices.ContainsFunc(p.Mentions, func(m Mention) bool { return m.In == in })
}

// checkObjects holds what a path says of objects and of its answer to what its
// readers can do.
func checkObjects(t *testing.T, where string, p *Path) {
	t.Helper()
	if p.names(ModelInJSON) && p.BodyIn() != ModelInJSON || len(p.Mentions) > 64 {
		t.Errorf("%s: nobody reads the body for what it mentions", where)
	}
	for i := range p.Mentions {
		m := &p.Mentions[i]
		if m.Kind == "" || strings.Count(m.Field, ".") > 1 || (m.Field == "") != (m.In == ModelInPath) ||
			!slices.Contains([]ModelIn{ModelInPath, ModelInQuery, ModelInJSON}, m.In) {
			t.Errorf("%s: mention %+v", where, m)
		}
		for name := range strings.SplitSeq(m.Field, ".") {
			var f folded
			if !f.fold([]byte(name)) || !f.exact {
				t.Errorf("%s: mention %q is not a short name in lower case", where, m.Field)
			}
		}
	}
	if c := p.Creates; c != nil {
		if c.Kind == "" || c.Keep <= 0 || (c.Member == "") == (c.Field == "") || c.Member == "" && c.Else != "" || c.Field != "" && p.BodyIn() != ModelInJSON {
			t.Errorf("%s: creates %+v", where, c)
		}
	}
	if r := p.Counts; r != nil && (r.Name == "" || r.Delta != 1 && r.Delta != -1) {
		t.Errorf("%s: counts %+v", where, r)
	}
	units := map[string]bool{}
	for _, u := range p.Units {
		if units[u.Name] || !slices.Contains([]string{"request", "second", "character", "image", "video", "song"}, u.Name) || (u.Member != "") != (u.From == InAnswer) {
			t.Errorf("%s: unit %+v", where, u)
		}
		units[u.Name] = true
	}
	if n := len(p.Watched()); n > 8 {
		t.Errorf("%s: %d members of the answer are watched", where, n)
	}
}

// readAs reports whether a member of a JSON body is read for what it tells.
func readAs(name string, as role) bool {
	for i := range members {
		if members[i].name == name {
			return members[i].role == as
		}
	}
	return false
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct{ dialect, method, path, pattern, tail string }{
		{"openai", "POST", "/v1/chat/completions", "/v1/chat/completions", ""},
		{"openai", "POST", "/v1/completions", "/v1/completions", ""},
		{"openai", "POST", "/v1/responses", "/v1/responses", ""},
		{"openai", "POST", "/v1/embeddings", "/v1/embeddings", ""},
		{"openai", "POST", "/v1/audio/transcriptions", "/v1/audio/transcriptions", ""},
		{"openai", "POST", "/v1/audio/translations", "/v1/audio/translations", ""},
		{"openai", "POST", "/v1/audio/speech", "/v1/audio/speech", ""},
		{"openai", "POST", "/v1/images/generations", "/v1/images/generations", ""},
		{"openai", "POST", "/v1/moderations", "/v1/moderations", ""},
		{"openai", "GET", "/v1/realtime", "/v1/realtime", ""},
		{"openai", "GET", "/v1/models", "/v1/models", ""},
		{"openai", "GET", "/v1/models/gpt-4", "/v1/models/{model...}", "gpt-4"},
		{"openai", "GET", "/v1/models/meta-llama/Llama-3.1-8B", "/v1/models/{model...}", "meta-llama/Llama-3.1-8B"},
		{"openai", "GET", "/v1/models/meta-llama%2FLlama-3.1-8B", "/v1/models/{model...}", "meta-llama/Llama-3.1-8B"},
		{"openai", "GET", "/v1/models/ft%3Agpt-4", "/v1/models/{model...}", "ft:gpt-4"},
		{"openai", "GET", "/v1/models/a+b", "/v1/models/{model...}", "a+b"},
		{"openai", "GET", "/v1/models/...", "/v1/models/{model...}", "..."},
		{"podstack", "POST", "/inference/v1/chat/completions", "/inference/v1/chat/completions", ""},
		{"podstack", "POST", "/inference/v1/audio/transcriptions", "/inference/v1/audio/transcriptions", ""},
		{"podstack", "GET", "/inference/v1/models", "/inference/v1/models", ""},
		{"podstack", "GET", "/inference/v1/models/m", "/inference/v1/models/{model...}", "m"},
		{"minibase", "POST", "/api.php", "/api.php", ""},
		{"baseten", "POST", "/models/abcd1234/predict", "/models/{model}/predict", "abcd1234"},
		{"minimax", "POST", "/v1/text/chatcompletion_v2", "/v1/text/chatcompletion_v2", ""},
		{"minimax", "GET", "/v1/query/video_generation", "/v1/query/video_generation", ""},
		{"minds", "GET", "/api/v1/sparks", "/api/v1/sparks", ""},
	} {
		d, _ := Lookup(tt.dialect)
		p, tail, ok := d.Match(tt.method, tt.path)
		if !ok || p.Pattern != tt.pattern || tail != tt.tail {
			t.Errorf("%s %s %s: %v, %q, %v", tt.dialect, tt.method, tt.path, p, tail, ok)
		}
		var c Call
		if !d.Route(&c, tt.method, tt.path) || c.Path != p || c.Dialect != d || c.Model != tt.tail ||
			c.Action != key.Infer || c.Answer != p.Answer || c.Choices != 1 {
			t.Errorf("%s %s %s: call %+v", tt.dialect, tt.method, tt.path, c)
		}
	}
}

func TestMatchRefuses(t *testing.T) {
	for _, tt := range []struct{ method, path string }{
		{"GET", "/v1/chat/completions"},
		{"PUT", "/v1/chat/completions"},
		{"OPTIONS", "/v1/chat/completions"},
		{"post", "/v1/chat/completions"},
		{"", "/v1/chat/completions"},
		{"POST", ""},
		{"POST", "/"},
		{"POST", "v1/chat/completions"},
		{"POST", "/v1/chat/completions/"},
		{"POST", "//v1/chat/completions"},
		{"POST", "/v1//chat/completions"},
		{"POST", "/v1/./chat/completions"},
		{"POST", "/v1/x/../chat/completions"},
		{"POST", "/V1/chat/completions"},
		{"POST", "/v1/chat%2fcompletions"},
		{"POST", "/v1/chat/%63ompletions"},
		{"POST", "/v1/chat/completions%00"},
		{"POST", "/v1/chat/completions;x=1"},
		{"POST", "/v1/chat/completions#x"},
		{"POST", "/v1/chat/completions?x=1"},
		{"POST", `/v1\chat\completions`},
		{"POST", "/v1/files"},
		{"POST", "/v1/realtime"},
		{"GET", "/v1/realtime/calls"},
		{"POST", "/v1/batches"},
		{"GET", "/v1/responses/resp_1"},
		{"DELETE", "/v1/models/gpt-4"},
		{"POST", "/v1/models"},
		{"GET", "/v1/models/"},
		{"GET", "/v1/models/a/"},
		{"GET", "/v1/models//a"},
		{"GET", "/v1/models/a//b"},
		{"GET", "/v1/models/."},
		{"GET", "/v1/models/.."},
		{"GET", "/v1/models/../files"},
		{"GET", "/v1/models/a/../b"},
		{"GET", "/v1/models/%2e%2e/files"},
		{"GET", "/v1/models/a%2f..%2fb"},
		{"GET", "/v1/models/a%"},
		{"GET", "/v1/models/a%zz"},
		{"GET", "/v1/models/a%00"},
		{"GET", "/v1/models/a%0d%0ab"},
		{"GET", "/v1/models/a%5cb"},
		{"GET", "/v1/models/a%2520b"}, // decodes to %20, which a second decoder would decode again
		{"GET", "/v1/models/a;b"},
		{"GET", "/v1/models/a?b"},
		{"GET", "/v1/models/a%3fb"},
		{"GET", "/v1/models/%ff"},
		{"GET", "/v1/models/" + strings.Repeat("a", MaxModelSize+1)},
		{"GET", "/v1/modelsx"},
	} {
		if p, tail, ok := openAI.Match(tt.method, tt.path); ok || p != nil || tail != "" {
			t.Errorf("%s %.60q matches %s with %q", tt.method, tt.path, p.Pattern, tail)
		}
		c := Call{Model: "kept"}
		if openAI.Route(&c, tt.method, tt.path) || c.Model != "kept" {
			t.Errorf("%s %.60q: call %+v", tt.method, tt.path, c)
		}
	}
}

// TestPatternInTheMiddle is how a dialect that names the model inside of its
// path will say it.
func TestPatternInTheMiddle(t *testing.T) {
	d := Dialect{Paths: []Path{
		{Method: http.MethodPost, Pattern: "/models/{model}/predict", ModelIn: ModelInPath},
		{Method: http.MethodPost, Pattern: "/deployments/{model...}/chat", ModelIn: ModelInPath},
	}}
	for path, want := range map[string]string{
		"/models/m1/predict":     "m1",
		"/models/predict":        "",
		"/models//predict":       "",
		"/models/a/b/predict":    "",
		"/models/a%2Fb/predict":  "",
		"/models/m1/predict/":    "",
		"/models/m1/predictx":    "",
		"/deployments/a/b/chat":  "a/b",
		"/deployments/a/../chat": "",
		"/deployments/chat":      "",
	} {
		if _, tail, ok := d.Match(http.MethodPost, path); tail != want || ok != (want != "") {
			t.Errorf("%s: %q, %v; want %q", path, tail, ok, want)
		}
	}
}

func TestSplitPath(t *testing.T) {
	for target, want := range map[string][2]string{
		"/v1/models":       {"/v1/models", ""},
		"/v1/models?":      {"/v1/models", ""},
		"/v1/models?a=b?c": {"/v1/models", "a=b?c"},
	} {
		if path, query := SplitPath(target); path != want[0] || query != want[1] {
			t.Errorf("%s: %q, %q", target, path, query)
		}
	}
}
