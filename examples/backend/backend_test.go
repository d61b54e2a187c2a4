package backend_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/examples/backend"
)

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

type answer struct {
	Model   string
	Choices []struct {
		Message struct{ Content string }
		Delta   struct{ Content string }
		Text    string
		Finish  *string `json:"finish_reason"`
	}
	Usage *usage
	Error *struct {
		Message, Type string
		Param, Code   *string
	}
}

// post sends a body with headers given as "name: value" and returns status and
// body of the answer.
func post(t *testing.T, h http.Handler, path, body string, headers ...string) (int, []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

func chat(t *testing.T, h http.Handler, body string, headers ...string) answer {
	t.Helper()
	status, data := post(t, h, "/v1/chat/completions", body, headers...)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, data)
	}
	return decode[answer](t, data)
}

func TestChat(t *testing.T) {
	b := backend.New(backend.Options{})
	const body = `{"messages":[{"role":"system","content":"be  brief\nplease"},
		{"role":"user","content":[{"type":"text","text":"two words"},{"type":"image_url","image_url":{"url":"x y z"}}]},
		{"role":"assistant","content":null}],"model":"m"}`
	got := chat(t, b, body)
	if want := 3 + 2 + 0 + 3*3; got.Usage.Prompt != want || got.Usage.Prompt != backend.ChatTokens("be brief please", "two words", "") {
		t.Errorf("prompt tokens %d, want %d", got.Usage.Prompt, want)
	}
	text := got.Choices[0].Message.Content
	if n := backend.Tokens(text); n != got.Usage.Completion || n < 8 || n > 63 {
		t.Errorf("stated %d completion tokens for %q", got.Usage.Completion, text)
	}
	if got.Usage.Total != got.Usage.Prompt+got.Usage.Completion {
		t.Errorf("total %+v", got.Usage)
	}
	if again := chat(t, b, body); again.Choices[0].Message.Content != text {
		t.Error("the same request got another answer")
	}
	if other := chat(t, b, strings.Replace(body, "two words", "too words", 1)); other.Choices[0].Message.Content == text {
		t.Error("another request got the same answer")
	}
}

func TestChatIsServedBehindAnyPrefix(t *testing.T) {
	b := backend.New(backend.Options{})
	const body = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	for path, want := range map[string]int{
		"/v1/chat/completions": 200, "/inference/v1/chat/completions": 200, "/a/v1/b/v1/chat/completions": 200,
		"/chat/completions": 404, "/v1/chat": 404, "/v1/": 404,
	} {
		if got, data := post(t, b, path, body); got != want {
			t.Errorf("%s: %d %s, want %d", path, got, data, want)
		}
	}
}

func TestLimits(t *testing.T) {
	b := backend.New(backend.Options{})
	const format = `{"model":"m","messages":[{"role":"user","content":"hi"}]%s}`
	for extra, want := range map[string]struct {
		tokens  int
		finish  string
		choices int
	}{
		``:                                 {20, "stop", 1},
		`,"max_tokens":5`:                  {5, "length", 1},
		`,"max_tokens":20`:                 {20, "stop", 1},
		`,"max_tokens":500`:                {20, "stop", 1},
		`,"max_tokens":9,"n":3`:            {27, "length", 3},
		`,"max_completion_tokens":4`:       {4, "length", 1},
		`,"max_completion_tokens":0,"n":2`: {0, "length", 2},
		`,"max_tokens":null,"n":null`:      {20, "stop", 1},
	} {
		got := chat(t, b, fmt.Sprintf(format, extra), "x-backend-tokens: 20", "x-backend-cached: 2")
		if got.Usage.Completion != want.tokens || *got.Choices[0].Finish != want.finish || len(got.Choices) != want.choices {
			t.Errorf("%s: %d tokens, %s, %d choices, want %v", extra, got.Usage.Completion, *got.Choices[0].Finish, len(got.Choices), want)
		}
		sum := 0
		for _, c := range got.Choices {
			sum += backend.Tokens(c.Message.Content)
		}
		if sum != want.tokens || got.Usage.Details.Cached != 2 {
			t.Errorf("%s: %d words, %d cached, want %d and 2", extra, sum, got.Usage.Details.Cached, want.tokens)
		}
	}
}

// events reads a stream to its end and returns the data of its events.
func events(t *testing.T, body []byte) []string {
	t.Helper()
	var out []string
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			out = append(out, data)
		} else if lines.Text() != "" {
			t.Fatalf("no event: %q", lines.Text())
		}
	}
	if len(out) == 0 || out[len(out)-1] != "[DONE]" {
		t.Fatalf("no [DONE] at the end of %q", out)
	}
	return out[:len(out)-1]
}

func TestStream(t *testing.T) {
	b := backend.New(backend.Options{})
	for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
		for _, includeUsage := range []bool{true, false} {
			body := fmt.Sprintf(`{"model":"m","stream":true,"n":2,"stream_options":{"include_usage":%v},
				"messages":[{"role":"user","content":"a b c"}],"prompt":["a b","c"]}`, includeUsage)
			status, data := post(t, b, path, body, "x-backend-tokens: 40")
			if status != http.StatusOK {
				t.Fatalf("%s: %d %s", path, status, data)
			}
			var text strings.Builder
			var stated *usage
			pieces := 0
			for _, e := range events(t, data) {
				a := decode[answer](t, []byte(e))
				if strings.Contains(e, `"usage"`) != includeUsage {
					t.Errorf("%s: include_usage %v, event %s", path, includeUsage, e)
				}
				if len(a.Choices) == 0 {
					stated = a.Usage
					continue
				}
				piece := a.Choices[0].Delta.Content + a.Choices[0].Text
				if piece == "" {
					text.WriteByte(' ') // between the choices
					continue
				}
				pieces++
				if n := backend.Tokens(piece); n < 1 || n > 8 {
					t.Errorf("%s: an event of %d tokens", path, n)
				}
				text.WriteString(piece)
			}
			if n := backend.Tokens(text.String()); n != 80 {
				t.Errorf("%s: %d tokens in the events, want 80", path, n)
			}
			if pieces >= 80 {
				t.Errorf("%s: %d events, one token in each", path, pieces)
			}
			if includeUsage != (stated != nil) {
				t.Errorf("%s: include_usage %v, usage %v", path, includeUsage, stated)
			}
			if stated != nil && stated.Completion != 80 {
				t.Errorf("%s: stated %+v", path, stated)
			}
		}
	}
	if got := b.Seen()[3]; got.OutputTokens != 80 || got.InputTokens != 3 {
		t.Errorf("seen %+v", got)
	}
}

func TestEmbeddings(t *testing.T) {
	b := backend.New(backend.Options{})
	type embeddings struct {
		Data []struct {
			Index     int
			Embedding json.RawMessage
		}
		Usage usage
	}
	for in, want := range map[string]struct{ items, tokens int }{
		`"one two three"`:        {1, 3},
		`["one two","three",""]`: {3, 3},
		`[5,6,7,8]`:              {1, 4},
		`[[5,6],[7]]`:            {2, 3},
	} {
		status, data := post(t, b, "/v1/embeddings", `{"input":`+in+`,"model":"e"}`)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", in, status, data)
		}
		got := decode[embeddings](t, data)
		if len(got.Data) != want.items || got.Usage.Prompt != want.tokens || got.Usage.Total != want.tokens {
			t.Errorf("%s: %d items, %+v, want %v", in, len(got.Data), got.Usage, want)
		}
	}
	_, data := post(t, b, "/v1/embeddings", `{"input":"x","model":"e","dimensions":16}`)
	floats := decode[[]float32](t, decode[embeddings](t, data).Data[0].Embedding)
	_, data = post(t, b, "/v1/embeddings", `{"input":"x","model":"e","dimensions":16,"encoding_format":"base64"}`)
	raw, err := base64.StdEncoding.DecodeString(decode[string](t, decode[embeddings](t, data).Data[0].Embedding))
	if err != nil || len(raw) != 64 || len(floats) != 16 {
		t.Fatalf("%d bytes, %d numbers, %v", len(raw), len(floats), err)
	}
	var square float64
	for i, f := range floats {
		if same := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])); same != f {
			t.Errorf("number %d: %v as JSON, %v in base64", i, f, same)
		}
		square += float64(f) * float64(f)
	}
	if math.Abs(square-1) > 1e-5 {
		t.Errorf("length² %v", square)
	}
}

// form makes a multipart body; a field called file becomes a file.
func form(t *testing.T, fields ...[2]string) (body, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for _, f := range fields {
		part, err := w.CreateFormField(f[0])
		if f[0] == "file" {
			part, err = w.CreateFormFile("file", "speech.wav")
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String(), "content-type: " + w.FormDataContentType()
}

func TestTranscriptions(t *testing.T) {
	b := backend.New(backend.Options{})
	file := [2]string{"file", strings.Repeat("\x00", 2001)}
	model, prompt := [2]string{"model", "w"}, [2]string{"prompt", "names of people"}
	var texts []string
	for _, fields := range [][][2]string{{file, model, prompt}, {model, prompt, file}} {
		body, contentType := form(t, fields...)
		status, data := post(t, b, "/v1/audio/transcriptions", body, contentType)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, data)
		}
		got := decode[struct {
			Text  string
			Usage struct {
				Type          string
				Input, Output int
				Total         int `json:"total_tokens"`
				In            int `json:"input_tokens"`
				Out           int `json:"output_tokens"`
			}
		}](t, data)
		u := got.Usage
		if u.Type != "tokens" || u.In != 3+backend.AudioTokens(2001) || u.In != 6 || u.Out != backend.Tokens(got.Text) || u.Total != u.In+u.Out {
			t.Errorf("usage %+v of %q", u, got.Text)
		}
		texts = append(texts, got.Text)
	}
	if texts[0] != texts[1] {
		t.Error("the order of the fields changed the answer")
	}
	body, contentType := form(t, file, model, [2]string{"response_format", "text"})
	if status, data := post(t, b, "/v1/audio/transcriptions", body, contentType); status != 200 || backend.Tokens(string(data)) < 8 {
		t.Errorf("%d %s", status, data)
	}
}

func TestModels(t *testing.T) {
	b := backend.New(backend.Options{Models: []string{"a/b", "c"}})
	get := func(path string) (int, []byte) {
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.Bytes()
	}
	status, data := get("/v1/models")
	list := decode[struct{ Data []struct{ ID string } }](t, data).Data
	if status != 200 || len(list) != 2 || list[0].ID != "a/b" {
		t.Errorf("%d %s", status, data)
	}
	if status, data := get("/v1/models/a/b"); status != 200 {
		t.Errorf("%d %s", status, data)
	}
	if status, data := get("/v1/models/d"); status != 404 || *decode[answer](t, data).Error.Code != "model_not_found" {
		t.Errorf("%d %s", status, data)
	}
}

func TestBadRequests(t *testing.T) {
	b := backend.New(backend.Options{Models: []string{"m"}, MaxBody: 1000})
	ok := `"model":"m","messages":[{"role":"user","content":"hi"}]`
	for _, c := range []struct {
		path, body string
		status     int
		header     string
	}{
		{"chat/completions", `{`, 400, ""},
		{"chat/completions", ``, 400, ""},
		{"chat/completions", `{` + ok + `}{}`, 400, ""},
		{"chat/completions", `{"model":"m"}`, 400, ""},
		{"chat/completions", `{"model":"m","messages":[{"content":5}]}`, 400, ""},
		{"chat/completions", `{` + ok + `,"n":0}`, 400, ""},
		{"chat/completions", `{` + ok + `,"n":100000}`, 400, ""},
		{"chat/completions", `{"model":"x","messages":[{"role":"user"}]}`, 404, ""},
		{"chat/completions", `{"messages":[{"role":"user"}]}`, 400, ""},
		{"chat/completions", strings.Repeat(" ", 2000), 413, ""},
		{"chat/completions", `{` + ok + `}`, 400, "x-backend-tokens: many"},
		{"chat/completions", `{` + ok + `}`, 400, "x-backend-delay: 6m"},
		{"chat/completions", `{` + ok + `}`, 503, "x-backend-status: 503"},
		{"embeddings", `{"model":"m"}`, 400, ""},
		{"embeddings", `{"model":"m","input":{}}`, 400, ""},
		{"embeddings", `{"model":"m","input":"x","encoding_format":"hex"}`, 400, ""},
		{"embeddings", `{"model":"m","input":"x","dimensions":-1}`, 400, ""},
		{"audio/transcriptions", `{"model":"m"}`, 400, ""},
		{"audio/transcriptions", "--b\r\n", 400, "content-type: multipart/form-data; boundary=b"},
		{"images/generations", `{}`, 404, ""},
	} {
		var headers []string
		if c.header != "" {
			headers = []string{c.header}
		}
		status, data := post(t, b, "/v1/"+c.path, c.body, headers...)
		if e := decode[answer](t, data).Error; status != c.status || e == nil || e.Message == "" || e.Type == "" {
			t.Errorf("%s %.60s %s: %d %s, want %d", c.path, c.body, c.header, status, data, c.status)
		}
	}
}

func TestAbort(t *testing.T) {
	srv := httptest.NewServer(backend.New(backend.Options{}))
	defer srv.Close()
	for _, stream := range []bool{true, false} {
		body := fmt.Sprintf(`{"model":"m","stream":%v,"messages":[{"role":"user","content":"hi"}]}`, stream)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-backend-tokens", "50")
		req.Header.Set("x-backend-abort", "2")
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil {
			t.Errorf("stream %v: the answer ended well: %s", stream, data)
		}
		if n := strings.Count(string(data), "data: "); stream && n != 2 {
			t.Errorf("%d events before the break, want 2", n)
		}
	}
}

// A delay takes its time, and none once the client has gone.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend.New(backend.Options{})
		const body = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
		start := time.Now()
		_, data := post(t, b, "/v1/chat/completions", body, "x-backend-delay: 2s", "x-backend-interval: 1s")
		want := 2*time.Second + time.Duration(len(events(t, data))+1)*time.Second
		if got := time.Since(start); got != want {
			t.Errorf("took %v, want %v", got, want)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
		r.Header.Set("x-backend-delay", "1m")
		start = time.Now()
		b.ServeHTTP(httptest.NewRecorder(), r)
		if got := time.Since(start); got != time.Second {
			t.Errorf("went on for %v after the client had gone", got-time.Second)
		}
		if seen := b.Seen(); seen[1].Status != 0 {
			t.Errorf("answered a client that had gone: %+v", seen[1])
		}
	})
}

func TestSeenKeepsTheNewest(t *testing.T) {
	b := backend.New(backend.Options{Keep: 3})
	for i := range 5 {
		body := fmt.Sprintf(`{"model":"m%d","messages":[{"role":"user","content":"hi"}]}`, i)
		post(t, b, "/v1/chat/completions?x=1", body, fmt.Sprintf("x-tollgate-user: u%d", i))
		seen := b.Seen()
		if len(seen) != min(i+1, 3) {
			t.Fatalf("%d seen after %d", len(seen), i+1)
		}
		for j, r := range seen {
			n := i + 1 - len(seen) + j
			if r.Model != fmt.Sprintf("m%d", n) || r.Header.Get("x-tollgate-user") != fmt.Sprintf("u%d", n) ||
				r.Path != "/v1/chat/completions?x=1" || r.Body != int64(len(body)) || r.Status != 200 || r.InputTokens != 4 {
				t.Errorf("after %d, place %d: %+v", i+1, j, r)
			}
		}
	}
}

func TestTokens(t *testing.T) {
	for text, want := range map[string]int{"": 0, " \n\t": 0, "a": 1, " a  b\nc ": 3, "käse\u00a0brot": 2, strings.Repeat("x", 1<<20): 1} {
		if got := backend.Tokens(text); got != want {
			t.Errorf("%.20q: %d, want %d", text, got, want)
		}
	}
}
