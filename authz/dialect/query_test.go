package dialect

import (
	"net/url"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

// handshake asks for a WebSocket on a path.
func handshake(path string, headers ...Header) *Request {
	return &Request{Method: "GET", Path: path, Headers: append([]Header{{"upgrade", "websocket"}}, headers...)}
}

func readHandshake(t testing.TB, req *Request) (Call, reason.Reason, string) {
	t.Helper()
	var c Call
	path, _ := SplitPath(req.Path)
	if !openAI.Route(&c, req.Method, path) {
		t.Fatalf("no path for %s", req.Path)
	}
	r, detail, _ := c.Read(req)
	return c, r, detail
}

func TestModelInQuery(t *testing.T) {
	for query, want := range map[string]string{
		"?model=gpt-realtime":               "gpt-realtime",
		"?a=b&model=gpt-realtime&modelx=1":  "gpt-realtime",
		"?model=org%2Fgpt-realtime":         "org/gpt-realtime",
		"?model=org/a%3Bb":                  "org/a;b",
		"?model=a+b":                        "a b", // a space, which no model has in its name
		"?x=model&model=m&submodel=n&[]=":   "m",
		"?intent=transcription&&model=m&":   "m",
		"?model=m&other=%E2%82%AC&empty&=x": "m",
	} {
		if c, r, detail := readHandshake(t, handshake("/v1/realtime"+query)); r != reason.None || c.Model != want {
			t.Errorf("%s: %v %q, %s", query, r, c.Model, detail)
		} else if renamed := c.Retarget("/v1/realtime"+query, "b/c d"); !strings.Contains(renamed+"&", "model=b%2Fc+d&") ||
			len(renamed)-len("b%2Fc+d") != len("/v1/realtime"+query)-(c.ModelAt.End-c.ModelAt.Start) {
			t.Errorf("%s: renamed to %s", query, renamed)
		} else if _, _, ok := c.Rename("b"); ok {
			t.Errorf("%s: renamed in the body, too", query)
		}
	}
	for query, want := range map[string]reason.Reason{
		"":                        reason.ModelMissing,
		"?":                       reason.ModelMissing,
		"?model":                  reason.ModelMissing,
		"?model=":                 reason.ModelMissing,
		"?models=m":               reason.ModelMissing,
		"?model=m&model=m":        reason.ModelAmbiguous,
		"?model=&model=m":         reason.ModelAmbiguous,
		"?model=m&Model=n":        reason.ModelAmbiguous,
		"?MODEL=m":                reason.ModelAmbiguous,
		"?%6dodel=m":              reason.ModelAmbiguous,
		"?model=m&mode%6C=n":      reason.ModelAmbiguous,
		"?model=m&+model=n":       reason.ModelAmbiguous,
		"?model[]=m":              reason.ModelAmbiguous,
		"?model=m&model.x=n":      reason.ModelAmbiguous,
		"??model=m&model=m":       reason.ModelAmbiguous,
		"?model=m&model%5B0%5D=n": reason.ModelAmbiguous,
		"?model=m;model=n":        reason.ModelAmbiguous,
		"?x=y;model=n":            reason.ModelAmbiguous,
		"?model=%zz":              reason.ModelAmbiguous,
		"?model=m&%zz=n":          reason.ModelAmbiguous,
	} {
		if c, r, _ := readHandshake(t, handshake("/v1/realtime"+query)); r != want {
			t.Errorf("%s: %v (%q), want %v", query, r, c.Model, want)
		}
	}
}

func TestHandshake(t *testing.T) {
	const path = "/v1/realtime?model=m"
	for name, c := range map[string]struct {
		req  *Request
		want reason.Reason
	}{
		"a WebSocket":                {handshake(path), reason.None},
		"in other letters":           {&Request{Method: "GET", Path: path, Headers: []Header{{"upgrade", "WebSocket"}}}, reason.None},
		"a subprotocol":              {handshake(path, Header{"sec-websocket-protocol", "realtime, openai-beta.realtime-v1"}), reason.None},
		"no upgrade":                 {&Request{Method: "GET", Path: path}, reason.BodyInvalid},
		"another upgrade":            {&Request{Method: "GET", Path: path, Headers: []Header{{"upgrade", "h2c"}}}, reason.BodyInvalid},
		"a key in the subprotocol":   {handshake(path, Header{"sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-x"}), reason.KeyAmbiguous},
		"a key in its twin":          {handshake(path, Header{"sec-websocket-protocol", "OpenAI-Insecure-API-Key.sk-x"}), reason.KeyAmbiguous},
		"a key in the second line":   {handshake(path, Header{"sec-websocket-protocol", "realtime"}, Header{"sec-websocket-protocol", "openai-insecure-api-key.sk-x"}), reason.KeyAmbiguous},
		"a key before the upgrade":   {&Request{Method: "GET", Path: path, Headers: []Header{{"sec-websocket-protocol", "openai-insecure-api-key.sk-x"}}}, reason.KeyAmbiguous},
		"a body, which nobody reads": {&Request{Method: "GET", Path: path, Headers: []Header{{"upgrade", "websocket"}}, Body: []byte(`{"model":"n"}`)}, reason.None},
	} {
		if _, r, detail := readHandshake(t, c.req); r != c.want || strings.Contains(detail, "sk-x") {
			t.Errorf("%s: %v %s, want %v", name, r, detail, c.want)
		}
	}
}

// What is read as the model is what any other reader takes for the only one.
func FuzzModelInQuery(f *testing.F) {
	for _, q := range []string{"model=m", "model=a%2Fb&x=y", "model=m&Model=n", "%6dodel=m", "model=m;model=n", "model[]=m", "&&=&model", "model=%", "model=a+b"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if strings.Contains(query, "#") {
			return
		}
		c, r, _ := readHandshake(t, handshake("/v1/realtime?"+query))
		if r != reason.None {
			return
		}
		values, _ := url.ParseQuery(query) // a broken value of another parameter is not ours to judge
		if got := values["model"]; len(got) != 1 || got[0] != c.Model || c.Model == "" {
			t.Errorf("%q is read as %q, by net/url as %q", query, c.Model, got)
		}
		for name := range values {
			if name != "model" && strings.EqualFold(name, "model") {
				t.Errorf("%q has a twin %q", query, name)
			}
		}
	})
}
