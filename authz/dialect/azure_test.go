package dialect

import (
	"net/http"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

func readAzure(t *testing.T, path, body string, lines ...string) (Call, reason.Reason, string) {
	t.Helper()
	var c Call
	plain, _ := SplitPath(path)
	if !azure.Route(&c, http.MethodPost, plain) {
		t.Fatalf("no path %s", path)
	}
	r, detail, _ := c.Read(&Request{Path: path, Body: []byte(body), Headers: headers(lines...)})
	return c, r, detail
}

// The path names the model. A body may name it too, which some upstream might read,
// and is read for all else.
func TestModelInPathAndBody(t *testing.T) {
	const path = "/openai/deployments/org/m/chat/completions?api-version=2024-10-21"
	for body, want := range map[string]reason.Reason{
		`{"messages":[],"max_tokens":7}`:                   reason.None,
		`{"messages":[],"max_tokens":7,"model":"org/m"}`:   reason.None,
		`{"model":"other","max_tokens":7}`:                 reason.ModelAmbiguous,
		`{"model":"org/m","max_tokens":7,"Model":"other"}`: reason.ModelAmbiguous,
		`{"max_tokens":7,"model":1}`:                       reason.BodyInvalid,
		`{"max_tokens":7`:                                  reason.BodyInvalid,
	} {
		c, r, detail := readAzure(t, path, body)
		if r != want || r == reason.None && (c.Model != "org/m" || c.MaxOutput != 7) {
			t.Errorf("%s: %v %s %+v", body, r, detail, c)
		}
		if r != reason.None {
			continue
		}
		if got := c.Retarget(path, "a b/c"); got != "/openai/deployments/a%20b/c/chat/completions?api-version=2024-10-21" {
			t.Errorf("renamed to %s", got)
		}
		at, text, ok := c.Rename("a b/c")
		if ok != strings.Contains(body, "model") || ok && body[:at.Start]+text+body[at.End:] != `{"messages":[],"max_tokens":7,"model":"a b/c"}` {
			t.Errorf("%s: renamed %v %s", body, ok, text)
		}
	}
	c, r, detail := readAzure(t, "/openai/deployments/m/chat/completions", `{"stream":true}`)
	if u := c.UsageOption; r != reason.None || u.Text != `"stream_options":{"include_usage":true},` || u.Edit.Start != 1 {
		t.Errorf("%v %s %+v", r, detail, u)
	}
}

// Azure's "on your data" reads with the account of the upstream.
func TestAzureDataIsRefused(t *testing.T) {
	for _, member := range []string{
		`"data_sources":[{"type":"azure_search","parameters":{"index_name":"theirs","authentication":{"type":"system_assigned_managed_identity"}}}]`,
		`"dataSources":[]`, `"Data_Sources":{}`,
	} {
		if _, r, detail := readAzure(t, "/openai/deployments/m/chat/completions?api-version=1", `{"messages":[],`+member+`}`); r != reason.BodyInvalid {
			t.Errorf("%s: %v %s", member, r, detail)
		}
	}
	if _, r, detail := readAzure(t, "/openai/deployments/m/chat/completions", `{"messages":[],"data_sources":null}`); r != reason.None {
		t.Errorf("none: %v %s", r, detail)
	}
}

func TestModelInPathAndForm(t *testing.T) {
	form := func(fields ...string) string {
		var b strings.Builder
		for i := 0; i < len(fields); i += 2 {
			b.WriteString("--b\r\nContent-Disposition: form-data; name=\"" + fields[i] + "\"\r\n\r\n" + fields[i+1] + "\r\n")
		}
		return b.String() + "--b--\r\n"
	}
	for _, c := range []struct {
		body    string
		want    reason.Reason
		choices int64
	}{
		{form("prompt", "a cat"), reason.None, 1},
		{form("prompt", "a cat", "n", "3", "model", "m"), reason.None, 3},
		{form("model", "other"), reason.ModelAmbiguous, 0},
		{form("n", "0"), reason.BodyInvalid, 0},
		{form("n", "2", "n", "3"), reason.BodyInvalid, 0},
		{form("n", "-1"), reason.BodyInvalid, 0},
		{form("N", "9"), reason.BodyInvalid, 0},
	} {
		call, r, detail := readAzure(t, "/openai/deployments/m/images/edits", c.body, "content-type", "multipart/form-data; boundary=b")
		if r != c.want || r == reason.None && (call.Model != "m" || call.Choices != c.choices) {
			t.Errorf("%q: %v %s %+v", c.body, r, detail, call)
		}
	}
}

// A slash in a path's one segment can't make two of it.
func TestRetarget(t *testing.T) {
	for _, c := range []struct{ pattern, target, model, want string }{
		{"/models/{model}/predict", "/models/m1/predict?x=y", "a/b c", "/models/a%2Fb%20c/predict?x=y"},
		{"/models/{model...}", "/models/a/b", "c/d", "/models/c/d"},
		{"/models/{model}", "/models/a%2fb", "c", "/models/c"},
	} {
		call := Call{Path: &Path{Pattern: c.pattern, ModelIn: ModelInPath}}
		if got := call.Retarget(c.target, c.model); got != c.want {
			t.Errorf("%s: %s", c.target, got)
		}
	}
	if got := (&Call{Path: &Path{ModelIn: ModelInJSON}}).Retarget("/v1/x", "m"); got != "" {
		t.Errorf("%s", got)
	}
}

// What is to be said is counted in characters, of which a prompt elsewhere counts
// the bytes.
func TestSpeechCountsCharacters(t *testing.T) {
	for body, want := range map[string]int64{
		`{"model":"m","input":"Hello"}`:                                       5,
		`{"model":"m","input":"","instructions":"speak slowly"}`:              0,
		`{"model":"m","input":"é😀\u00e9\ud83d\ude00\n\"","voice":"alloy"}`:    6,
		`{"model":"m","input":"` + strings.Repeat("ü", 1000) + `","speed":1}`: 1000,
	} {
		c, r, detail := readBodyOf(t, "/v1/audio/speech", body)
		if r != reason.None || c.PromptBytes != want {
			t.Errorf("%.60s: %v %s, %d characters", body, r, detail, c.PromptBytes)
		}
	}
}

func readBodyOf(t *testing.T, path, body string) (Call, reason.Reason, string) {
	t.Helper()
	c, r, detail, _ := readBody(t, path, body)
	return c, r, detail
}

func TestCollision(t *testing.T) {
	path := func(method, pattern string) *Dialect {
		return &Dialect{Paths: []Path{{Method: method, Pattern: pattern}}}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"/a", "/a", true},
		{"/a", "/b", false},
		{"/a/{model}", "/a/b", true},
		{"/a/{model}", "/a/b/c", false},
		{"/a/{model...}", "/a/b/c", true},
		{"/a/{model...}", "/a", false},
		{"/a/{model}/x", "/a/{model}/y", false},
		{"/a/{model}/x", "/a/{model...}", true},
		{"/a/{model}", "/b/{model}", false},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if p, q := Collision(path("GET", pair[0]), path("GET", pair[1])); (p != nil) != c.want || (q != nil) != c.want {
				t.Errorf("%s and %s: %v", pair[0], pair[1], p)
			}
		}
		if p, _ := Collision(path("GET", c.a), path("POST", c.b)); p != nil {
			t.Errorf("%s and %s collide although their methods differ", c.a, c.b)
		}
	}
}
