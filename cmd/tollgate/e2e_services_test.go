//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// received is what an upstream was sent.
type received struct {
	target, body string
	header       http.Header
}

// testServices sends what services other than OpenAI's take: forms of any size, with
// the model last or in chunks, and bodies that nobody reads. The upstream gets them
// as they were, but for the model's name.
func testServices(t *testing.T, b *bench) {
	got := make(chan received, 100)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		got <- received{r.URL.String(), string(body), r.Header}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"base_resp":{"status_code":0,"status_msg":""},"file":{"file_id":95157322514444}}`)
	}))
	t.Cleanup(upstream.Close)
	g := newGate(t, b)
	catalog := filepath.Join(g.dir, "services.yaml")
	text := fmt.Sprintf("workspaces: [{id: demo, plan: open, keyDefaults: {actions: [infer, wake]}}]\nplans: [{id: open}]\n"+
		"routes: [{dialect: openai}, {dialect: minibase}, {dialect: baseten}, {dialect: minimax, model: voices}]\n"+
		"models:\n  - {id: micro_base, upstreamModel: 'org/micro base', upstreams: [{url: %q}]}\n"+
		"  - {id: abcd1234, upstreamModel: 'upstream 7', upstreams: [{url: %q}]}\n  - {id: asleep, deployed: false, upstreams: [{url: %q}]}\n"+
		"  - {id: voices, upstreams: [{url: %q}], credential: 'env:SERVICES_KEY'}\n", upstream.URL+"/sub", upstream.URL, upstream.URL, upstream.URL)
	if err := os.WriteFile(catalog, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "TOLLGATE_CATALOG="+catalog, "SERVICES_KEY=upstream-secret")
	g.start("up")
	g.waitReady()
	key := g.key("--name", "services").Key

	// send lets a request through, or not; in chunks if it is a plain reader.
	send := func(method, path, contentType string, body io.Reader) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.gateway+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Api-Key "+key)
		req.Header.Set("Content-Type", contentType)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{res.StatusCode, res.Header, string(data)}
	}
	passed := func(a answer, target, body, authorization string) {
		t.Helper()
		if a.status != http.StatusOK {
			t.Errorf("%s: %v", target, a)
			return
		}
		if r := <-got; r.target != target || r.body != body || r.header.Get("Authorization") != authorization || r.header.Get("X-Tollgate-Workspace") != "demo" {
			t.Errorf("the upstream got %s %v %.300s, want %s %.300s", r.target, r.header, r.body, target, body)
		}
	}

	const form = "application/x-www-form-urlencoded"
	for _, size := range []int{0, 1 << 10, 2 << 20} { // held in one go, and after a look at the headers
		fields := "action=mt_inference&max_tokens=8&prompt=" + url.QueryEscape(strings.Repeat("é &", size/3)) + "&model_id="
		passed(send("POST", "/api.php", form, strings.NewReader(fields+"micro_base")), "/sub/api.php", fields+"org%2Fmicro+base", "")
		passed(send("POST", "/api.php?lang=en", form, io.MultiReader(strings.NewReader(fields+"micro_base&x=1"))), "/sub/api.php?lang=en", fields+"org%2Fmicro+base&x=1", "")
	}
	for body, want := range map[string]string{
		"action=mt_inference&model_id=micro_base&model.id=asleep": `"code":"model_ambiguous"`,
		"action=mt_inference&model_id=nope":                       "model_id: The model `nope`",
		"action=mt_inference&model_id=asleep":                     "Deploy it first",
		"action=mt_train&model_id=micro_base":                     "Invalid action",
	} {
		if a := send("POST", "/api.php", form, strings.NewReader(body)); a.status < 400 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %v", body, a)
		}
	}

	bytesOfAnyKind := bytes.Repeat([]byte{0, 0xff, '{', '\r', '\n'}, 600<<10)
	passed(send("POST", "/models/abcd1234/predict?x=%20y", "application/octet-stream", bytes.NewReader(bytesOfAnyKind)), "/models/upstream%207/predict?x=%20y", string(bytesOfAnyKind), "")
	passed(send("POST", "/models/abcd1234/predict", "multipart/form-data", io.MultiReader(bytes.NewReader(bytesOfAnyKind))), "/models/upstream%207/predict", string(bytesOfAnyKind), "")
	passed(send("POST", "/models/abcd1234/wake", form, http.NoBody), "/models/upstream%207/wake", "", "")
	for path, status := range map[string]int{
		"/models/asleep/wake": http.StatusNotFound, "/models/nope/predict": http.StatusNotFound, "/models/abcd1234/predict/": http.StatusNotFound,
		"/models/a%2Fb/predict": http.StatusNotFound, "/models/abcd1234;x/predict": http.StatusNotFound,
	} {
		if a := send("POST", path, form, strings.NewReader("x")); a.status != status || !strings.HasPrefix(a.body, `{"error":{"message":`) {
			t.Errorf("%s: %v", path, a)
		}
	}

	upload := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n" + string(bytesOfAnyKind) +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvoice_clone\r\n--b--\r\n"
	passed(send("POST", "/v1/files/upload", "multipart/form-data; boundary=b", strings.NewReader(upload)), "/v1/files/upload", upload, "Bearer upstream-secret")
	if a := send("POST", "/v1/files/upload", "multipart/form-data; boundary=b", strings.NewReader(strings.Replace(upload, "voice_clone", "assistants", 1))); a.status != http.StatusBadRequest || !strings.Contains(a.body, `{"base_resp":{"status_code":2013,`) {
		t.Errorf("another purpose: %v", a)
	}
	select {
	case r := <-got:
		t.Errorf("the upstream got what was refused: %s %.300s", r.target, r.body)
	default:
	}
}
