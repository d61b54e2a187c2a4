package dialect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

const someKey = "tg_abcdefgh_0123456789ABCDEFGHIJKLMNOPQRSTUV3jZRME"

func headers(pairs ...string) []Header {
	var h []Header
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, Header{pairs[i], pairs[i+1]})
	}
	return h
}

func TestCredential(t *testing.T) {
	const auth = "authorization"
	for name, tt := range map[string]struct {
		headers []Header
		want    reason.Reason
		detail  string // a part of it
	}{
		"bearer":             {headers(auth, "Bearer "+someKey), reason.None, ""},
		"bearer, lower case": {headers(auth, "bearer "+someKey), reason.None, ""},
		"bearer, upper case": {headers(auth, "BEARER "+someKey), reason.None, ""},
		"api-key scheme":     {headers(auth, "Api-Key "+someKey), reason.None, ""},
		"blanks around":      {headers(auth, "  Bearer \t  "+someKey+" \t "), reason.None, ""},
		"tab behind scheme":  {headers(auth, "Bearer\t"+someKey), reason.None, ""},
		"x-api-key":          {headers("x-api-key", someKey), reason.None, ""},
		"x-api-key, blanks":  {headers("x-api-key", " \t"+someKey+"\t "), reason.None, ""},
		"api-key":            {headers("api-key", someKey), reason.None, ""},
		"the same twice":     {headers(auth, "Bearer "+someKey, "x-api-key", someKey), reason.None, ""},
		"the same two lines": {headers(auth, "Bearer "+someKey, auth, "Bearer  "+someKey), reason.None, ""},
		"one empty":          {headers(auth, "", "x-api-key", someKey), reason.None, ""},
		"bearer empty":       {headers(auth, "Bearer ", "api-key", someKey), reason.None, ""},
		"others in between":  {headers("accept", "*/*", auth, "Bearer "+someKey, "cookie", "authorization=Bearer x"), reason.None, ""},

		"none":                 {nil, reason.KeyMissing, ""},
		"empty":                {headers(auth, ""), reason.KeyMissing, ""},
		"blank":                {headers(auth, " \t ", "x-api-key", " "), reason.KeyMissing, ""},
		"scheme alone":         {headers(auth, "Bearer"), reason.KeyMissing, ""},
		"scheme and blanks":    {headers(auth, "Bearer \t "), reason.KeyMissing, ""},
		"in another header":    {headers("proxy-authorization", "Bearer "+someKey), reason.KeyMissing, ""},
		"no scheme":            {headers(auth, someKey), reason.KeyInvalid, "has no scheme. Send Authorization: Bearer KEY"},
		"basic":                {headers(auth, "Basic dXNlcjpwYXNz"), reason.KeyInvalid, "a scheme that is not known here"},
		"basic beside a key":   {headers("x-api-key", someKey, auth, "Basic dXNlcjpwYXNz"), reason.KeyInvalid, "a scheme that is not known"},
		"scheme with a colon":  {headers(auth, "Bearer: "+someKey), reason.KeyInvalid, "a scheme that is not known"},
		"scheme twice":         {headers(auth, "Bearer Bearer "+someKey), reason.KeyInvalid, "white space inside"},
		"blank inside":         {headers("x-api-key", "tg_abc def"), reason.KeyInvalid, "white space inside"},
		"scheme in x-api-key":  {headers("x-api-key", "Bearer "+someKey), reason.KeyInvalid, "white space inside"},
		"line feed":            {headers(auth, "Bearer "+someKey+"\n"), reason.KeyInvalid, "control characters"},
		"nul":                  {headers(auth, "Bearer "+someKey+"\x00"), reason.KeyInvalid, "control characters"},
		"delete":               {headers(auth, "Bearer "+someKey+"\x7f"), reason.KeyInvalid, "control characters"},
		"no-break space":       {headers(auth, "Bearer "+someKey+"\u00a0"), reason.KeyInvalid, "outside ASCII"},
		"zero-width space":     {headers(auth, "Bearer \u200b"+someKey), reason.KeyInvalid, "outside ASCII"},
		"latin-1":              {headers(auth, "Bearer "+someKey+"\xe9"), reason.KeyInvalid, "outside ASCII"},
		"too long":             {headers(auth, "Bearer "+strings.Repeat("x", MaxSecretSize+1)), reason.KeyInvalid, "too long"},
		"long, not too long":   {headers(auth, "Bearer "+strings.Repeat("x", MaxSecretSize)), reason.None, ""},
		"a comma":              {headers(auth, "Bearer "+someKey+",x"), reason.None, ""}, // unknown, but one
		"two keys":             {headers(auth, "Bearer "+someKey, auth, "Bearer "+someKey+"x"), reason.KeyAmbiguous, ""},
		"two headers":          {headers(auth, "Bearer "+someKey, "x-api-key", "other"), reason.KeyAmbiguous, ""},
		"two, one blank apart": {headers("x-api-key", someKey, "api-key", strings.ToUpper(someKey)), reason.KeyAmbiguous, ""},
		"joined":               {headers(auth, "Bearer "+someKey+",Bearer "+someKey), reason.KeyAmbiguous, "Several Authorization headers"},
		"joined with blanks":   {headers(auth, "Bearer "+someKey+" , api-key other"), reason.KeyAmbiguous, "Several Authorization headers"},
		"joined, third":        {headers(auth, "Bearer a,b,Bearer c"), reason.KeyAmbiguous, "Several Authorization headers"},
	} {
		secret, r, detail := Credential(&Request{Headers: tt.headers})
		if r != tt.want || !strings.Contains(detail, tt.detail) || (detail != "") != (tt.detail != "") {
			t.Errorf("%s: %v, %q; want %v, %q", name, r, detail, tt.want, tt.detail)
		}
		if (secret != "") != (r == reason.None) {
			t.Errorf("%s: secret %q with %v", name, secret, r)
		}
		if r == reason.None && !strings.HasPrefix(name, "long") && name != "a comma" && secret != someKey {
			t.Errorf("%s: secret %q", name, secret)
		}
	}
}

// FuzzCredential: no header makes it panic, or accept what isn't a key or wasn't
// presented.
func FuzzCredential(f *testing.F) {
	f.Add("Bearer "+someKey, someKey)
	f.Add("Bearer a,Bearer b", "")
	f.Add(" \tApi-Key\t", "\x00")
	f.Add("Basic dXNlcjpwYXNz", "x,Bearer")
	f.Fuzz(func(t *testing.T, auth, apiKey string) {
		secret, r, _ := Credential(&Request{Headers: headers("authorization", auth, "x-api-key", apiKey)})
		if (secret != "") != (r == reason.None) {
			t.Fatalf("secret %q with %v", secret, r)
		}
		if len(secret) > MaxSecretSize || strings.ContainsFunc(secret, func(c rune) bool { return c <= ' ' || c > '~' }) {
			t.Fatalf("accepted %q", secret)
		}
		if secret != "" && !strings.Contains(auth, secret) && !strings.Contains(apiKey, secret) {
			t.Fatalf("%q was not presented", secret)
		}
	})
}

// TestDetailsAreFixedTexts: a detail has nothing of what was presented in it.
func TestDetailsAreFixedTexts(t *testing.T) {
	const marker = "s3cretmarker"
	for _, value := range []string{marker, "Basic " + marker, "Bearer x " + marker, marker + "\x01", "Bearer \x01" + marker, "Bearer é" + marker, "Bearer " + strings.Repeat(marker, 100)} {
		if _, r, detail := Credential(&Request{Headers: headers("authorization", value)}); r == reason.None || strings.Contains(detail, marker) {
			t.Errorf("%.40q: %v, %q", value, r, detail)
		}
	}
	for _, query := range []string{"api_key=" + marker, "x=1&key=" + marker} {
		if r, detail := CheckQuery(query); r == reason.None || strings.Contains(detail, marker) {
			t.Errorf("%q: %v, %q", query, r, detail)
		}
	}
}

func TestCheckQuery(t *testing.T) {
	for query, want := range map[string]reason.Reason{
		"":                           reason.None,
		"api-version=2024-10-21":     reason.None,
		"model=x&limit=1":            reason.None,
		"keys=1&monkey=2&keyword=3":  reason.None,
		"x=api_key":                  reason.None,
		"x=key%3D1":                  reason.None,
		"%":                          reason.None,
		"%6":                         reason.None,
		"authorizationauthorization": reason.None,
		strings.Repeat("a&", 1000):   reason.None,
		"api_key=x":                  reason.KeyAmbiguous,
		"apikey=x":                   reason.KeyAmbiguous,
		"api-key=x":                  reason.KeyAmbiguous,
		"apiKey=x":                   reason.KeyAmbiguous,
		"API_KEY=":                   reason.KeyAmbiguous,
		"x-api-key=x":                reason.KeyAmbiguous,
		"token=x":                    reason.KeyAmbiguous,
		"page_token=x&tokens=5":      reason.None,
		"key=x":                      reason.KeyAmbiguous,
		"key":                        reason.KeyAmbiguous,
		"access_token=x":             reason.KeyAmbiguous,
		"accessToken=x":              reason.KeyAmbiguous,
		"authorization=Bearer+x":     reason.KeyAmbiguous,
		"a=b&key=x":                  reason.KeyAmbiguous,
		"a=b;key=x":                  reason.KeyAmbiguous,
		"%6bey=x":                    reason.KeyAmbiguous,
		"%6Bey=x":                    reason.KeyAmbiguous,
		"ap%69%5fkey=x":              reason.KeyAmbiguous,
		"+key=x":                     reason.KeyAmbiguous,
	} {
		r, detail := CheckQuery(query)
		if r != want || (detail != "") != (r != reason.None) {
			t.Errorf("%.40q: %v, %q", query, r, detail)
		}
	}
}

// TestPresented: a service brings the header and the scheme of its clients.
func TestPresented(t *testing.T) {
	if h := KeyHeaders(); h[0] != "authorization" || !slices.Contains(h, "x-api-key") || !slices.Contains(h, "api-key") || !slices.Contains(keySchemes, "Api-Key") {
		t.Errorf("keys are presented in %v, behind %v", h, keySchemes)
	}
	headers, schemes := presented([]*Dialect{{}, {KeyHeader: "xi-api-key", KeyScheme: "Token"}, {KeyHeader: "xi-api-key"}})
	if got := fmt.Sprint(headers, schemes); got != "[authorization xi-api-key] [Bearer Token]" {
		t.Errorf("with a service of its own: %s", got)
	}
}

// TestCheckSecret: the presented key is nowhere in the query, whatever the parameter is
// called. Of a part of a word, and of a key in the path, nobody takes it for one.
func TestCheckSecret(t *testing.T) {
	const secret = "a+b/c="
	for target, want := range map[string]reason.Reason{
		"/v1/models":                             reason.None,
		"/v1/models?":                            reason.None,
		"/v1/models?x=a+b/c=d":                   reason.None,
		"/v1/models?x=da%2Bb/c=":                 reason.None,
		"/v1/models?x=a+b/c=a+b/c=d":             reason.None,
		"/v1/models?x=a+b/c=da+b/c=":             reason.None,
		"/v1/models?x=a%2":                       reason.None,
		"/v1/models?x=a b/c=&a+b%252Fc=":         reason.None,
		"/models/a+b/c=/predict":                 reason.None,
		"/v1/models?x=a+b/c=":                    reason.KeyAmbiguous,
		"/v1/models?a+b/c=&x=y&&":                reason.KeyAmbiguous,
		"/v1/models?x=1;y=a+b/c=":                reason.KeyAmbiguous,
		"/v1/models?x=Bearer%20a+b/c=":           reason.KeyAmbiguous,
		"/v1/models?x=Bearer+a+b/c=":             reason.KeyAmbiguous,
		"/v1/models?x=%7B%22k%22:%22a%2Bb/c=%22": reason.KeyAmbiguous,
		"/v1/models?x=https://u:a+b/c=@h/":       reason.KeyAmbiguous,
		"/v1/models?x=a+b/c=d&y=a+b/c=":          reason.KeyAmbiguous,
		"/v1/models?x=1&y=a%2Bb%2Fc%3D":          reason.KeyAmbiguous,
		"/v1/models?x=%61%2bb/c%3d&y=%g":         reason.KeyAmbiguous,
	} {
		r, detail := CheckSecret(target, secret)
		if r != want || (detail != "") != (r != reason.None) || strings.Contains(detail, secret) {
			t.Errorf("%s: %v, %q", target, r, detail)
		}
	}
}

func TestWanted(t *testing.T) {
	for _, name := range []string{
		"authorization", "x-api-key", "api-key", "content-type", "content-encoding", "content-length", "transfer-encoding",
		"x-client-request-id", "x-request-id", "traceparent", "anthropic-version",
	} {
		if !Wanted(name) {
			t.Errorf("%s is not wanted", name)
		}
	}
	for _, name := range []string{"", "cookie", "accept", "x-tollgate-model", "authorization2"} {
		if Wanted(name) {
			t.Errorf("%s is wanted", name)
		}
	}
}

// TestReadingDoesNotAllocate is the reading's part of the allocation budget of a
// check: nothing, from the path to the model.
func TestReadingDoesNotAllocate(t *testing.T) {
	req := &Request{
		Method: http.MethodPost,
		Path:   "/v1/chat/completions?api-version=1",
		Headers: headers("authorization", "Bearer "+someKey, "content-type", "application/json; charset=utf-8",
			"content-encoding", "identity", "content-length", "300"),
		Body: []byte(`{"messages":[{"role":"user","content":"Hi \u00e9 😀"}],"tools":[{"type":"function"}],"model":"m/1",` +
			`"n":2,"max_tokens":64,"strea\u006d":true,"stream_options":{"include_usage":false},"Unknown":[1.5e3,null]}`),
	}
	var c Call
	read := func() {
		path, query := SplitPath(req.Path)
		if r, _ := CheckQuery(query); r != reason.None || !openAI.Route(&c, req.Method, path) {
			t.Fatal("refused")
		}
		if _, r, detail := Credential(req); r != reason.None {
			t.Fatal(r, detail)
		}
		if r, detail, _ := c.Read(req); r != reason.None {
			t.Fatal(r, detail)
		}
	}
	read()
	if c.Model != "m/1" || !c.Stream || c.Choices != 2 || c.MaxOutput != 64 {
		t.Errorf("read %+v", c)
	}
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	req.Body = []byte(`{"model":"m\/1"}`)
	if n := testing.AllocsPerRun(100, read); n > 1 {
		t.Errorf("%v allocations with an escaped model, want at most 1", n)
	}
}
