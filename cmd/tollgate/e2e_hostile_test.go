//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz/dialect/dialecttest"
)

// hostile is a request as it goes over the wire, to a gateway with all dialects on
// one listener.
type hostile struct {
	name    string
	request string // KEY, OTHER and HOST are put in, and the length where LENGTH stands
	body    string
	refused bool // it must be; else it may be refused, or must be read as it was
	// How an upstream reads the model: "" where the path says it.
	kind, field string
}

const hostileCatalog = `
workspaces: [{id: demo, plan: open}, {id: other, plan: open}]
plans: [{id: open}]
routes:
  - {dialect: openai, maxBody: 1MiB}
  - {dialect: anthropic}
  - {dialect: minibase}
  - {dialect: baseten}
  - {dialect: minimax}
  - {dialect: minds, upstream: %[1]q}
models:
  - {id: m, upstreams: [{url: %[1]q}]}
  - {id: n, upstreams: [{url: %[1]q}]}
  - {id: secret, workspaces: [other], upstreams: [{url: %[1]q}]}
`

// upstream records what it gets, by the id that Tollgate gives a request.
type upstream struct {
	mu   sync.Mutex
	seen map[string]taken
	all  int
}

type taken struct {
	*http.Request
	body []byte
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.all++
	u.seen[r.Header.Get("X-Tollgate-Request-Id")] = taken{r, body}
	u.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"usage":{"prompt_tokens":1,"completion_tokens":1},"base_resp":{"status_code":0}}`)
}

// jsonTricks are bodies that two readers may read differently.
var jsonTricks = map[string]string{
	"a twice":            `{"model":"m","model":"n","messages":[]}`,
	"another case":       `{"model":"m","Model":"n","messages":[]}`,
	"escaped twice":      `{"model":"m","mod\u0065l":"n","messages":[]}`,
	"with a NUL":         `{"model":"m","model\u0000":"n","messages":[]}`,
	"a model with a NUL": `{"model":"m\u0000","messages":[]}`,
	"no string":          `{"model":["m"],"messages":[]}`,
	"a mark in front":    "\ufeff" + `{"model":"m","messages":[]}`,
	"two documents":      `{"model":"m"}{"model":"n"}`,
	"a comment":          `{"model":"m"/*,"model":"n"*/}`,
	"not UTF-8":          "{\"model\":\"m\",\"x\":\"\xff\"}",
	"UTF-16":             "\xff\xfe{\x00\"\x00m\x00\"\x00:\x001\x00}\x00",
	"cut off":            `{"model":"m","messages":[`,
	"an array":           `[{"model":"m"}]`,
	"empty":              ``,
}

// hostileRequests are all of them.
func hostileRequests() []hostile {
	const chat, good = "POST /v1/chat/completions", `{"model":"m","messages":[]}`
	var all []hostile
	add := func(name, line, headers, body string, refused bool, kind, field string) {
		all = append(all, hostile{name, line + " HTTP/1.1\r\nHost: HOST\r\n" + headers + "\r\n", body, refused, kind, field})
	}
	ofJSON := func(name, line, headers, body string, refused bool) {
		add(name, line, "Authorization: Bearer KEY\r\nContent-Length: LENGTH\r\n"+headers, body, refused, dialecttest.JSON, "model")
	}
	for _, line := range []string{chat, "POST /v1/messages", "POST /v1/text/chatcompletion_v2", "POST /v1/responses"} {
		for name, body := range jsonTricks {
			ofJSON(line+": model "+name, line, "Content-Type: application/json\r\n", body, true)
		}
		ofJSON(line+": as it should be", line, "Content-Type: application/json\r\n", strings.Replace(good, "messages", "input", 1), false)
	}

	// What the body is said to be.
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/json; charset=utf-16", "application/json\r\nContent-Type: text/plain"} {
		ofJSON("a body of "+kind, chat, "Content-Type: "+kind+"\r\n", good, true)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, good)
	_ = z.Close()
	ofJSON("gzip", chat, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", zipped.String(), true)
	ofJSON("said to be gzip", chat, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", good, true)
	ofJSON("too large", chat, "Content-Type: application/json\r\n", `{"model":"m","x":"`+strings.Repeat("x", 1<<20)+`"}`, true)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(good), good)
	const auth = "Authorization: Bearer KEY\r\nContent-Type: application/json\r\n"
	add("chunked", chat, auth+"Transfer-Encoding: chunked\r\n", chunked, false, dialecttest.JSON, "model")
	add("chunked with trailers", chat, auth+"Transfer-Encoding: chunked\r\nTrailer: x-tollgate-user\r\n",
		strings.Replace(chunked, "0\r\n\r\n", "0\r\nx-tollgate-user: root\r\nx-tollgate-workspace: other\r\n\r\n", 1), false, dialecttest.JSON, "model")
	add("chunked and a length", chat, auth+"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunked, true, "", "")
	add("two lengths", chat, auth+"Content-Length: 4\r\nContent-Length: 27\r\n", good, true, "", "")
	add("chunked, misspelt", chat, auth+"Transfer-Encoding: chunked, identity\r\n", chunked, true, "", "")
	add("two sizes of chunks", chat, auth+"Transfer-Encoding: chunked\r\n", "1b;x=1 \r\n"+good+"\r\n0\r\n\r\n", false, dialecttest.JSON, "model")
	all = append(all, hostile{"HTTP/1.0", "POST /v1/chat/completions HTTP/1.0\r\n" + auth + "Content-Length: LENGTH\r\n\r\n", good, true, "", ""})

	// Whose key.
	for name, headers := range map[string]string{
		"two keys":               "Authorization: Bearer KEY\r\nAuthorization: Bearer OTHER\r\n",
		"two keys in one line":   "Authorization: Bearer KEY, Bearer OTHER\r\n",
		"two keys in two places": "Authorization: Bearer KEY\r\nx-api-key: OTHER\r\n",
		"a third place":          "Authorization: Bearer KEY\r\napi-key: OTHER\r\n",
		"another scheme":         "Authorization: Basic KEY\r\n",
		"an underscore":          "Authorization_: Bearer KEY\r\n",
	} {
		add(name, chat, headers+"Content-Type: application/json\r\nContent-Length: LENGTH\r\n", good, true, "", "")
	}
	add("a folded line", chat, "Authorization: Bearer\r\n KEY\r\nContent-Type: application/json\r\nContent-Length: LENGTH\r\n", good, false, dialecttest.JSON, "model")
	add("a key in the query", "POST /v1/chat/completions?api_key=KEY", auth+"Content-Length: LENGTH\r\n", good, true, "", "")
	add("a key in the query alone", "POST /v1/chat/completions?key=KEY", "Content-Type: application/json\r\nContent-Length: LENGTH\r\n", good, true, "", "")
	for _, h := range []string{"x-tollgate-workspace: other", "X-Tollgate-User: root", "x_tollgate_user: root", "x-tollgate-model: n", "x-tollgate-key-id: OTHER", "x-envoy-original-path: /v1/models",
		"x-envoy-decorator-operation: x", "connection: x-tollgate-request-id", "connection: content-type", "x-http-method-override: GET", "x-goog-api-key: KEY", "proxy-authorization: Bearer KEY", "x-original-url: /v1/models", "x-forwarded-host: other", "x-tollgate-cluster: model:n"} {
		ofJSON("smuggled "+h, chat, "Content-Type: application/json\r\n"+h+"\r\n", good, false)
	}

	// Where to.
	for _, target := range []string{
		"/v1/chat/../chat/completions", "/v1/./chat/completions", "/v1//chat/completions", "/v1/chat%2fcompletions", "/v1/chat%2Fcompletions", "/v1/chat/completions/", "/v1/chat/completions;x=1",
		"/v1/chat/completions%00", "/v1/%63hat/completions", "/V1/chat/completions", "/v1/chat/completions?model=n", "/v1/chat\\completions", "/v1/chat/completions#x",
		"/v1/models/%2e%2e/chat/completions", "http://elsewhere/v1/chat/completions", "/v1/chat/completions?a;b", "/v1/chat/completions%3fmodel=n", "/v1/files", "/v1/batches",
	} {
		ofJSON("target "+target, "POST "+target, "Content-Type: application/json\r\n", good, false)
	}
	for _, target := range []string{
		"/models/m/predict", "/models/secret/predict", "/models/../secret/predict", "/models/m/../secret/predict", "/models/m%2f..%2fsecret/predict", "/models/m/..%2fsecret/predict", "/models/m;x/predict", "/models/m%00/predict",
		"/models//predict", "/models/m//predict", "/models/m/predict?model=secret", "/models/%6d/predict", "/models/%2e/predict", "/models/m/predict/../../secret/predict", "/models/m%5cx/predict",
	} {
		add("target "+target, "POST "+target, "Authorization: Api-Key KEY\r\nContent-Length: LENGTH\r\n", `{"model":"secret"}`, strings.Contains(target, "secret") && !strings.Contains(target, "?"), "", "")
	}

	// Forms.
	formAs := func(name, target, contentType, body string, refused bool) {
		add("form: "+name, "POST "+target, "Authorization: Bearer KEY\r\nContent-Length: LENGTH\r\nContent-Type: "+contentType+"\r\n", body, refused, dialecttest.Form, "model_id")
	}
	const urlForm, fields = "application/x-www-form-urlencoded", "action=mt_inference&model_id=m&prompt=x"
	formAs("as it should be", "/api.php", urlForm, fields, false)
	for name, body := range map[string]string{
		"twice": fields + "&model_id=n", "an array": fields + "&model_id[]=n", "a dot": fields + "&model.id=n", "a space": fields + "&model+id=n", "escaped": fields + "&model%5fid=n", "a semicolon": fields + ";model_id=n",
		"a NUL": fields + "&model_id%00=n", "another case": fields + "&MODEL_ID=n", "two actions": fields + "&action=x",
		"a question mark in front": "?model_id=n&" + fields, "a mark in front": "\ufeffmodel_id=n&" + fields, "an object": fields + "&model_id.x=n",
	} {
		formAs(name, "/api.php", urlForm, body, true)
	}
	formAs("in the query too", "/api.php?model_id=n", urlForm, fields, true)
	formAs("the action in the query", "/api.php?action=delete", urlForm, fields, true)
	formAs("said to be JSON", "/api.php", "application/json", fields, true)
	formAs("said to be multipart", "/api.php", "multipart/form-data; boundary=b", fields, true)

	part := func(head, content string) string { return "--b\r\n" + head + "\r\n\r\n" + content + "\r\n" }
	named := func(name string) string { return `Content-Disposition: form-data; name="` + name + `"` }
	multi := func(name, contentType, body string, refused bool) {
		add("multipart: "+name, "POST /v1/audio/transcriptions", "Authorization: Bearer KEY\r\nContent-Length: LENGTH\r\nContent-Type: "+contentType+"\r\n", body, refused, dialecttest.Multipart, "model")
	}
	const form = "multipart/form-data; boundary=b"
	file := part(named("file")+`; filename="a.wav"`, "RIFF")
	multi("as it should be", form, file+part(named("model"), "m")+"--b--\r\n", false)
	for name, body := range map[string]string{
		"twice":                    file + part(named("model"), "m") + part(named("model"), "n"),
		"a file too":               part(named("model"), "m") + part(named("model")+`; filename="x"`, "n"),
		"escaped":                  part(named("model"), "m") + part(`Content-Disposition: form-data; name="mo\del"`, "n"),
		"extended":                 part(named("model"), "m") + part(`Content-Disposition: form-data; name*=utf-8''model`, "n"),
		"two dispositions":         part(named("model"), "m") + part(named("x")+"\r\n"+named("model"), "n"),
		"encoded as in mail":       part(named("model"), "m") + part(named("=?utf-8?q?model?="), "n"),
		"a length that isn't":      part(named("model")+"\r\nContent-Length: 0", "m"),
		"a compressed part":        part(named("model")+"\r\nContent-Encoding: gzip", "m"),
		"folded":                   part("Content-Disposition: form-data;\r\n name=\"model\"", "m"),
		"base64":                   part(named("model")+"\r\nContent-Transfer-Encoding: base64", "bQ=="),
		"line feeds":               strings.ReplaceAll(part(named("model"), "m"), "\r\n", "\n"),
		"a delimiter in a content": part(named("model"), "m") + part(named("x"), "a\r\n--b \r\n"+named("model")+"\r\n\r\nn"),
	} {
		multi(name, form, body+"--b--\r\n", true)
	}
	multi("two boundaries", form+"; boundary=c", file+part(named("model"), "m")+"--b--\r\n", true)
	multi("another charset", form+"; charset=utf-7", file+part(named("model"), "m")+part(named("+AG0-odel"), "n")+"--b--\r\n", true)
	multi("a boundary in quotes", `multipart/form-data; boundary="b"`, file+part(named("model"), "m")+"--b--\r\n", false)
	return all
}

// testHostile sends each of these over a socket of its own. Each is refused, and
// then nothing reaches an upstream; or it is let through, and then Python, Node and
// Go read at the upstream what the usage event says.
func testHostile(t *testing.T, b *bench) {
	g := newGate(t, b)
	u := &upstream{seen: map[string]taken{}}
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	if err := os.WriteFile(filepath.Join(g.dir, "catalog.yaml"), fmt.Appendf(nil, hostileCatalog, server.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start("up")
	g.waitReady()
	readers := dialecttest.Start(t)
	k, other := g.key("--workspace", "demo", "--name", "caller"), g.key("--workspace", "other", "--name", "other")

	passed := map[string]hostile{}
	for _, h := range hostileRequests() {
		status, id := h.send(t, g.gateway, k.Key, other.Key)
		switch {
		case status == http.StatusOK && h.refused:
			t.Errorf("%s: let through", h.name)
		case status == http.StatusOK:
			passed[id] = h
		case status < 300 || status >= 500:
			t.Errorf("%s: status %d", h.name, status)
		}
		if strings.HasSuffix(h.name, "as it should be") && status != http.StatusOK {
			t.Errorf("%s: status %d", h.name, status)
		}
	}
	if len(passed) < 20 {
		t.Errorf("only %d were let through: the test shows little", len(passed))
	}
	events := g.eventsOf(k, len(passed))
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all != len(passed) {
		t.Errorf("%d requests reached an upstream, %d were let through", u.all, len(passed))
	}
	for id, h := range passed {
		at, ok := u.seen[id]
		if !ok {
			t.Errorf("%s: the upstream saw no request %q", h.name, id)
			continue
		}
		model := events[id].Data.Model
		h.compare(t, readers, at, model)
		for name, values := range at.Header {
			if strings.Contains(strings.Join(values, ","), k.Key) || strings.Contains(strings.Join(values, ","), other.Key) {
				t.Errorf("%s: the upstream saw a key, in %s", h.name, name)
			}
			if strings.HasPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "x-tollgate-") && !ofTollgate[strings.ToLower(name)] || len(values) > 1 && ofTollgate[strings.ToLower(name)] {
				t.Errorf("%s: the upstream saw %s: %q", h.name, name, values)
			}
		}
		for name, values := range at.Trailer {
			if len(values) == 0 {
				continue // announced, and left out
			}
			t.Errorf("%s: the upstream saw the trailer %s", h.name, name)
		}
		if at.Header.Get("X-Tollgate-Workspace") != "demo" || at.Header.Get("X-Tollgate-Key-Id") != k.ID || at.Header.Get("X-Tollgate-User") != "" || model != "" && at.Header.Get("X-Tollgate-Model") != model {
			t.Errorf("%s: the upstream was told %v", h.name, at.Header)
		}
	}
	if found := contains(t, g.data, k.Key); len(found) > 0 || strings.Contains(g.out.String(), k.Key) {
		t.Errorf("the key is in %v or in the log", found)
	}
}

// ofTollgate are the headers that Tollgate sets.
var ofTollgate = map[string]bool{
	"x-tollgate-request-id": true, "x-tollgate-workspace": true, "x-tollgate-key-id": true, "x-tollgate-user": true, "x-tollgate-model": true, "x-tollgate-plan": true,
}

// compare sees to it that the upstream reads the model of the event.
func (h *hostile) compare(t *testing.T, readers *dialecttest.Readers, at taken, model string) {
	t.Helper()
	if h.kind == "" {
		if path := at.URL.Path; model == "" || path != "/models/"+model+"/predict" {
			t.Errorf("%s: the upstream got %s, the event says %q", h.name, at.RequestURI, model)
		}
		return
	}
	if differ := dialecttest.Differ(readers.Read(t, h.kind, at.Header.Get("Content-Type"), at.body, h.field), model); differ != "" || model == "" {
		t.Errorf("%s: the event says %q; %s", h.name, model, differ)
	}
	if strings.Contains(at.URL.RawQuery, "model") && !strings.Contains(h.request, "/v1/chat/completions?model=n") {
		t.Errorf("%s: the upstream got %s", h.name, at.RequestURI)
	}
}

// send sends the request and reads the answer's status and request id. A connection
// that is closed without one counts as a refusal: 400.
func (h *hostile) send(t *testing.T, gateway, key, other string) (status int, id string) {
	t.Helper()
	conn, err := net.Dial("tcp", gateway)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	request := strings.NewReplacer("KEY", key, "OTHER", other, "HOST", gateway, "LENGTH", fmt.Sprint(len(h.body))).Replace(h.request)
	go func() { _, _ = io.WriteString(conn, request+h.body) }() // which may be refused before its end
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // as it comes from the socket
			t.Errorf("%s: no answer", h.name)
		}
		return http.StatusBadRequest, ""
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if strings.Contains(string(body), key) || strings.Contains(string(body), other) {
		t.Errorf("%s: the answer repeats a key", h.name)
	}
	return res.StatusCode, res.Header.Get("X-Request-Id")
}
