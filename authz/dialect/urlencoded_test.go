package dialect

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"tollgate/authz/reason"
)

const urlFormType = "application/x-www-form-urlencoded"

// documented is what the curl, Python and JavaScript of the service's document send.
const documented = "action=mt_inference&model_id=micro_base_t11_1755574721&prompt=Explain+quantum+entanglement+in+one+sentence." +
	"&max_tokens=128&temperature=0.7&format=json"

func readURLForm(t testing.TB, target, contentType, body string) (c Call, r reason.Reason, detail, param string) {
	t.Helper()
	path, _ := SplitPath(target)
	if !minibase.Route(&c, http.MethodPost, path) {
		t.Fatal("no route")
	}
	r, detail, param = c.Read(&Request{Method: http.MethodPost, Path: target, Body: []byte(body), Headers: headers("content-type", contentType)})
	return c, r, detail, param
}

func TestReadURLForm(t *testing.T) {
	for name, tt := range map[string]struct {
		body   string
		model  string
		prompt int64
		output int64
	}{
		"the document's":         {documented, "micro_base_t11_1755574721", 45, 128},
		"in another order":       {"max_tokens=128&model_id=m&action=mt_inference", "m", 0, 128},
		"no bound":               {"model_id=m&action=mt_inference", "m", 0, 0},
		"raw spaces, as curl -d": {"action=mt_inference&model_id=m&prompt=two words", "m", 9, 0},
		"raw UTF-8":              {"action=mt_inference&model_id=m&prompt=é", "m", 2, 0},
		"escaped UTF-8":          {"action=mt_inference&model_id=m&prompt=%C3%A9%26%3D%3B%2B", "m", 6, 0},
		"escaped model":          {"action=mt_inference&model_id=org%2Fm+1%2b", "org/m 1+", 0, 0},
		"an equals sign inside":  {"action=mt_inference&model_id=m&prompt=a=b==", "m", 5, 0},
		"empty pairs":            {"&&action=mt_inference&&model_id=m&", "m", 0, 0},
		"other fields twice":     {"action=mt_inference&model_id=m&stop=a&stop=b&stop[]=c&x", "m", 0, 0},
		"an empty prompt":        {"action=mt_inference&model_id=m&prompt=", "m", 0, 0},
		"names that look alike":  {"action=mt_inference&model_id=m&model=a&model_id2=b&xmodel_id=c&modelid=d&model-id=e&_model_id=f", "m", 0, 0},
		"a member of another":    {"action=mt_inference&model_id=m&x[model_id]=n&x.model_id=n", "m", 0, 0},
	} {
		c, r, detail, param := readURLForm(t, "/api.php", urlFormType, tt.body)
		if r != reason.None || c.Model != tt.model || c.PromptBytes != tt.prompt || c.MaxOutput != tt.output || c.Choices != 1 {
			t.Errorf("%s: %v %s %s, %+v", name, r, detail, param, c)
			continue
		}
		if err := sameToOthers(&c, tt.body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, model := range []string{"other", "a b&c=d;é%"} {
			at, text, ok := c.Rename(model)
			edited := tt.body[:at.Start] + text + tt.body[at.End:]
			if again, r, detail, _ := readURLForm(t, "/api.php", urlFormType, edited); !ok || r != reason.None || again.Model != model || again.PromptBytes != c.PromptBytes {
				t.Errorf("%s: renamed: %v %s %+v", name, r, detail, again)
			}
		}
	}
}

func TestReadURLFormRefuses(t *testing.T) {
	const rest = "action=mt_inference&"
	for _, tt := range []struct {
		body   string
		want   reason.Reason
		param  string
		detail string // a part of it
	}{
		{"", reason.BodyInvalid, "", "has no body"},
		{"model_id=m", reason.BodyInvalid, "action", "Invalid action"},
		{"action=&model_id=m", reason.BodyInvalid, "action", "Invalid action"},
		{"action=mt_train&model_id=m", reason.BodyInvalid, "action", "Invalid action"},
		{"action=MT_INFERENCE&model_id=m", reason.BodyInvalid, "action", "Invalid action"},
		{"action=mt_inference%20&model_id=m", reason.BodyInvalid, "action", "Invalid action"},
		{"action=mt_inference&action=mt_inference&model_id=m", reason.BodyInvalid, "action", "more than once"},
		{"action=mt_inference&Action=mt_train&model_id=m", reason.BodyInvalid, "action", "more than once"},
		{"action=mt_inference&action[]=mt_train&model_id=m", reason.BodyInvalid, "action", "more than once"},
		{"action=mt_inference", reason.ModelMissing, "model_id", ""},
		{rest + "model_id", reason.ModelMissing, "model_id", ""},
		{rest + "model_id=", reason.ModelMissing, "model_id", ""},
		{rest + "model_id=a&model_id=b", reason.ModelAmbiguous, "model_id", "more than once"},
		{rest + "model_id=a&model_id=a", reason.ModelAmbiguous, "model_id", "more than once"},
		{rest + "model_id=&model_id=a", reason.ModelAmbiguous, "model_id", "more than once"},
		{rest + "model_id&model_id=a", reason.ModelAmbiguous, "model_id", "more than once"},
		{rest + "model_id=a&MODEL_ID=b", reason.ModelAmbiguous, "model_id", "other letters"},
		{rest + "Model_Id=a", reason.ModelAmbiguous, "model_id", "other letters"},
		{rest + "model_id=a&model_id[]=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model_id[x]=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model_id%5B%5D=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model_id[0][y]z=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model.id=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model+id=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model id=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model%20id=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model[id=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model%5bid=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a& model_id=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&+model_id=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model_id.x=b", reason.ModelAmbiguous, "model_id", ""}, // an object, to qs
		{rest + "model_id=a&model_id.x[]=b", reason.ModelAmbiguous, "model_id", ""},
		{"?model_id=b&" + rest + "model_id=a", reason.ModelAmbiguous, "model_id", "more than once"}, // as URLSearchParams reads it
		{"?action=mt_train&" + rest + "model_id=a", reason.BodyInvalid, "action", "more than once"},
		{"\ufeffmodel_id=b&" + rest + "model_id=a", reason.ModelAmbiguous, "model_id", "more than once"},
		{rest + "model_id=a&%09model_id%0a=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&" + strings.Repeat("+", 100) + "model.id[" + strings.Repeat("x", 100) + "]=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model%5Fid=b", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model%5Fid=a", reason.ModelAmbiguous, "model_id", ""},
		{rest + "model_id=a&model_%C4%B1d=b", reason.ModelAmbiguous, "model_id", ""}, // a dotless i
		{rest + "model_id=a&model_id%00x=b", reason.BodyInvalid, "", "NUL"},
		{rest + "model_id=a%00b", reason.BodyInvalid, "", "NUL"},
		{rest + "model_id=a&prompt=x%00", reason.BodyInvalid, "", "NUL"},
		{rest + "model_id=a;model_id=b", reason.BodyInvalid, "", "semicolon"},
		{rest + "model_id=a&prompt=x;y", reason.BodyInvalid, "", "semicolon"},
		{rest + "model_id=a%", reason.BodyInvalid, "", "percent"},
		{rest + "model_id=a%4", reason.BodyInvalid, "", "percent"},
		{rest + "model_id=a&prompt=%zz", reason.BodyInvalid, "", "percent"},
		{rest + "model_id=a&model%id=b", reason.BodyInvalid, "", "percent"},
		{rest + "model_id=a&prompt=%FF", reason.BodyInvalid, "", "UTF-8"},
		{rest + "model_id=a&prompt=\xff", reason.BodyInvalid, "", "UTF-8"},
		{rest + "model_id=a&x%C0%80=b", reason.BodyInvalid, "", "UTF-8"},
		{rest + "model_id=a%0Ab", reason.BodyInvalid, "model_id", "must be the name of a model"},
		{rest + "model_id=a\n", reason.BodyInvalid, "model_id", "must be the name of a model"},
		{rest + "model_id=" + strings.Repeat("m", MaxModelSize+1), reason.BodyInvalid, "model_id", "must be the name of a model"},
		{rest + "model_id=a&max_tokens=", reason.BodyInvalid, "max_tokens", "whole number"},
		{rest + "model_id=a&max_tokens", reason.BodyInvalid, "max_tokens", "whole number"},
		{rest + "model_id=a&max_tokens=-1", reason.BodyInvalid, "max_tokens", "whole number"},
		{rest + "model_id=a&max_tokens=1e9", reason.BodyInvalid, "max_tokens", "whole number"},
		{rest + "model_id=a&max_tokens=+1", reason.BodyInvalid, "max_tokens", "whole number"},
		{rest + "model_id=a&max_tokens=1&max_tokens=9", reason.BodyInvalid, "max_tokens", "more than once"},
		{rest + "model_id=a&max_tokens=1&max.tokens=9", reason.BodyInvalid, "max_tokens", "more than once"},
		{rest + "model_id=a&prompt=x&prompt[]=y", reason.BodyInvalid, "prompt", "more than once"},
		{rest + "model_id=a" + strings.Repeat("&x", maxPairs), reason.BodyInvalid, "", "too many fields"},
		{`{"action":"mt_inference","model_id":"m"}`, reason.BodyInvalid, "action", "Invalid action"},
	} {
		_, r, detail, param := readURLForm(t, "/api.php", urlFormType, tt.body)
		if r != tt.want || param != tt.param || !strings.Contains(detail, tt.detail) {
			t.Errorf("%.80s: %v %s, %q; want %v %s, %q", tt.body, r, param, detail, tt.want, tt.param, tt.detail)
		}
	}
}

// TestURLFormAndQuery: to PHP's $_REQUEST the query is one with the form.
func TestURLFormAndQuery(t *testing.T) {
	for query, want := range map[string]reason.Reason{
		"":                   reason.None,
		"?":                  reason.None,
		"?debug=1&x[]=2":     reason.None,
		"?model_id=other":    reason.ModelAmbiguous,
		"?model%5Fid=other":  reason.ModelAmbiguous,
		"?model.id=other":    reason.ModelAmbiguous,
		"??model_id=other":   reason.ModelAmbiguous,
		"?x=1&action=train":  reason.BodyInvalid,
		"?prompt[]=x":        reason.BodyInvalid,
		"?max_tokens=9":      reason.BodyInvalid,
		"?x=1;model_id=m":    reason.BodyInvalid,
		"?x;model_id=other":  reason.BodyInvalid,
		"?%zz=1":             reason.BodyInvalid,
		"?model_id%00=other": reason.BodyInvalid,
	} {
		if _, r, detail, _ := readURLForm(t, "/api.php"+query, urlFormType, documented); r != want {
			t.Errorf("%s: %v %s, want %v", query, r, detail, want)
		}
	}
}

func TestURLFormHeaders(t *testing.T) {
	for contentType, detail := range map[string]string{
		urlFormType:                         "",
		"Application/X-WWW-Form-Urlencoded": "",
		urlFormType + "; charset=UTF-8":     "",
		urlFormType + ";charset=utf-16":     "another charset",
		urlFormType + "; charset=latin1":    "another charset",
		"":                                  "is another",
		"application/json":                  "is application/json",
		"multipart/form-data; boundary=x":   "is multipart/form-data",
		"text/plain":                        "is text/plain",
	} {
		_, r, got, _ := readURLForm(t, "/api.php", contentType, documented)
		if (r == reason.None) != (detail == "") || !strings.Contains(got, detail) {
			t.Errorf("%s: %v, %s", contentType, r, got)
		}
	}
	var c Call
	minibase.Route(&c, http.MethodPost, "/api.php")
	if r, _, _ := c.Read(&Request{HeadersOnly: true, Headers: headers("content-type", urlFormType)}); r != reason.None {
		t.Errorf("headers only: %v", r)
	}
	if r, _, _ := c.Read(&Request{BodyCut: true, Headers: headers("content-type", urlFormType)}); r != reason.BodyInvalid {
		t.Errorf("a body that didn't come: %v", r)
	}
}

// FuzzReadURLForm: what is accepted here says the same to Go, Python and PHP.
func FuzzReadURLForm(f *testing.F) {
	for _, body := range []string{
		documented, "action=mt_inference&model_id=m", "action=mt_inference&model_id=org%2Fm+1&&x=;", "action=mt_inference&model_id=a&model.id=b",
		"action=mt_inference&model_id=a&model[id=b", "action=mt_inference&model_id=a&x[]=1&x[]=2&=y&z", "action=mt_inference&model_id=\u212a&ModEl_id=",
		"action=mt_inference&model_id=m&max_tokens=007&prompt=%F0%9F%98%80+é=", "action=mt_inference&model_id=m& x=1&x =2&a.b=3&a b=4&a[b=5&a[b]c=6",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, r, _, _ := readURLForm(t, "/api.php", urlFormType, string(body))
		if r != reason.None {
			return
		}
		if err := sameToOthers(&c, string(body)); err != nil {
			t.Error(err)
		}
		at, text, ok := c.Rename("other/é")
		edited := string(body[:at.Start]) + text + string(body[at.End:])
		again, r, detail, _ := readURLForm(t, "/api.php", urlFormType, edited)
		if !ok || r != reason.None || again.Model != "other/é" || again.PromptBytes != c.PromptBytes || again.MaxOutput != c.MaxOutput {
			t.Errorf("renamed: %v %s, %+v and %+v", r, detail, c, again)
		}
	})
}

// sameToOthers compares an accepted form with what other readers make of it.
func sameToOthers(c *Call, body string) error {
	inGo, err := url.ParseQuery(body)
	if err != nil {
		return fmt.Errorf("Go: %w", err)
	}
	for name := range inGo {
		if name != "model_id" && strings.EqualFold(strings.TrimSpace(name), "model_id") {
			return fmt.Errorf("Go has %q too", name)
		}
	}
	inPython, err := python(body)
	if err != nil {
		return err
	}
	for reader, fields := range map[string]map[string][]string{"Go": inGo, "Python": inPython, "PHP": php(body)} {
		if got := fields["model_id"]; len(got) != 1 || got[0] != c.Model {
			return fmt.Errorf("%s has the models %q, %q was read", reader, got, c.Model)
		}
		if got := fields["action"]; len(got) != 1 || got[0] != "mt_inference" {
			return fmt.Errorf("%s has the actions %q", reader, got)
		}
		if got := fields["prompt"]; len(got) > 1 || len(got) == 1 && int64(len(got[0])) != c.PromptBytes || len(got) == 0 && c.PromptBytes != 0 {
			return fmt.Errorf("%s has the prompts %q, %d bytes were read", reader, got, c.PromptBytes)
		}
		if got := fields["max_tokens"]; len(got) > 1 || len(got) == 0 && c.MaxOutput != 0 {
			return fmt.Errorf("%s has the bounds %q, %d was read", reader, got, c.MaxOutput)
		}
	}
	return nil
}

// php reads a form as PHP fills $_POST, all values of a name that is assigned more
// than once in its list; of an array, that it is one.
func php(body string) map[string][]string {
	post := map[string][]string{}
	for pair := range strings.SplitSeq(body, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, _, _ = strings.Cut(phpDecode(name), "\x00")
		name = strings.TrimLeft(name, " ")
		open := strings.IndexByte(name, '[')
		if open >= 0 && strings.IndexByte(name[open:], ']') < 0 {
			name, open = name[:open]+"_"+name[open+1:], -1
		}
		base := name
		if open >= 0 {
			base, value = name[:open], "an array"
		}
		base = strings.NewReplacer(" ", "_", ".", "_").Replace(base)
		if base != "" {
			post[base] = append(post[base], phpDecode(value))
		}
	}
	return post
}

// phpDecode is urldecode: what escapes nothing stays.
func phpDecode(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			out = append(out, ' ')
		case s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

// reader is a Python that reads forms, a line of hexadecimal digits each, and answers
// with a line of JSON.
var reader = sync.OnceValues(func() (*pipe, error) {
	cmd := exec.Command("python3", "-c", `
import json, sys
from urllib.parse import parse_qs
for line in sys.stdin:
    body = bytes.fromhex(line)
    print(json.dumps(parse_qs(body.decode(), keep_blank_values=True, encoding="utf-8", errors="strict")), flush=True)
`)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &pipe{in: in, out: bufio.NewReader(out)}, cmd.Start()
})

type pipe struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// python reads a form as Python does.
func python(body string) (fields map[string][]string, err error) {
	p, err := reader()
	if err != nil {
		return nil, fmt.Errorf("Python: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err = io.WriteString(p.in, hex.EncodeToString([]byte(body))+"\n"); err != nil {
		return nil, fmt.Errorf("Python: %w", err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("Python can't read %q: %w", body, err)
	}
	err = json.Unmarshal(line, &fields)
	return fields, err
}

// TestURLFormsOfTwins makes forms of the pieces of which names are made that some
// server takes for another one.
func TestURLFormsOfTwins(t *testing.T) {
	pieces := []string{
		"model", "model", "_id", "_id", "id", "_", ".", "+", "%20", " ", "[", "]", "%5B", "%5D", "[]", "x", "M", "%6d", "%00", "%09",
		"&", "&", "=", "=", "m", "action", "=mt_inference", "prompt", "max", "_tokens", "1", "%", ";", "\u017f", "ı", "\xff",
	}
	random := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 30000 {
		body := "action=mt_inference&model_id=m&"
		for range 1 + random.IntN(8) {
			body += pieces[random.IntN(len(pieces))]
		}
		c, r, _, _ := readURLForm(t, "/api.php", urlFormType, body)
		if r != reason.None {
			continue
		}
		accepted++
		if err := sameToOthers(&c, body); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d forms were accepted", accepted)
	}
}
