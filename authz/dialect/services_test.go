package dialect

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"tollgate/authz/key"
	"tollgate/authz/reason"
)

// TestDocumentedRequests are what the services' own documents send.
func TestDocumentedRequests(t *testing.T) {
	for _, tt := range []struct {
		dialect, method, path, contentType, body string
		model, mentions                          string
		action                                   key.Action
	}{
		{"minibase", "POST", "/api.php", urlFormType, documented, "micro_base_t11_1755574721", "", key.Infer},
		// curl -d without a content type says that it is a form, whatever it is.
		{"baseten", "POST", "/models/MODEL_ID/predict", urlFormType, "MODEL_INPUT", "MODEL_ID", "", key.Infer},
		{"baseten", "POST", "/models/MODEL_ID/predict", "application/octet-stream", "\x00\xff", "MODEL_ID", "", key.Infer},
		{"baseten", "POST", "/models/MODEL_ID/predict", "", "", "MODEL_ID", "", key.Infer},
		{"baseten", "POST", "/models/MODEL_ID/wake", "", "", "MODEL_ID", "", key.Wake},
		{
			"minimax", "POST", "/v1/text/chatcompletion_v2", "application/json",
			`{"model": "abab6.5s-chat", "messages": [{"role": "user", "content": "Hello, MiniMax!"}]}`, "abab6.5s-chat", "", key.Infer,
		},
		{
			"minimax", "POST", "/v1/t2a_v2", "application/json",
			`{"model":"speech-02-hd","text":"Hello","stream":false,"voice_setting":{"voice_id":"English_expressive_narrator","speed":1},"audio_setting":{"format":"mp3"}}`,
			"speech-02-hd", "voice:English_expressive_narrator?", key.Infer,
		},
		{"minimax", "POST", "/v1/image_generation", "application/json", `{"model":"image-01","prompt":"a cat","n":3,"response_format":"url"}`, "image-01", "", key.Infer},
		{"minimax", "POST", "/v1/video_generation", "application/json", `{"model":"MiniMax-Hailuo-02","prompt":"a cat","duration":6}`, "MiniMax-Hailuo-02", "", key.Infer},
		{"minimax", "GET", "/v1/query/video_generation?task_id=176843862716480", "", "", "", "task:176843862716480", key.Infer},
		{"minimax", "GET", "/v1/files/retrieve?file_id=205258526306433", "", "", "", "file:205258526306433", key.Infer},
		{"minimax", "POST", "/v1/music_generation", "application/json", `{"model":"music-2.0","prompt":"jazz","lyrics":"[verse] la"}`, "music-2.0", "", key.Infer},
		{"minimax", "POST", "/v1/voice_clone", "application/json", `{"file_id":205258526306433,"voice_id":"MyVoice001"}`, "", "file:205258526306433", key.Infer},
		{"minds", "GET", "/api/v1/sparks/550e8400-e29b-41d4-a716-446655440000", "", "", "", "mind:550e8400-e29b-41d4-a716-446655440000", key.Infer},
		{"minds", "POST", "/api/v1/sparks", "application/json", `{"name":"Ada"}`, "", "", key.Manage},
	} {
		d, _ := Lookup(tt.dialect)
		var c Call
		path, _ := SplitPath(tt.path)
		if !d.Route(&c, tt.method, path) {
			t.Errorf("%s %s %s: no route", tt.dialect, tt.method, tt.path)
			continue
		}
		var h []Header
		if tt.contentType != "" {
			h = headers("content-type", tt.contentType)
		}
		r, detail, _ := c.Read(&Request{Method: tt.method, Path: tt.path, Body: []byte(tt.body), Headers: h})
		if r != reason.None || c.Model != tt.model || ids(&c) != tt.mentions || c.Action != tt.action {
			t.Errorf("%s %s: %v %s, %+v", tt.method, tt.path, r, detail, c)
		}
	}
}

// TestUpload: a file is uploaded for something that the paths here can tell apart.
func TestUpload(t *testing.T) {
	read := func(parts ...[2]string) (Call, reason.Reason, string) {
		c, r, detail, param := readMinimax(t, http.MethodPost, "/v1/files/upload", aForm(parts...), headers("content-type", formType)...)
		return c, r, detail + param
	}
	for _, purpose := range []string{"voice_clone", "prompt_audio", "t2a_async_input"} {
		if c, r, detail := read(theFile, field("purpose", purpose)); r != reason.None || c.Model != "" {
			t.Errorf("%s: %v %s, %+v", purpose, r, detail, c)
		} else if _, _, ok := c.Rename("m"); ok {
			t.Errorf("%s: a model that isn't named was renamed", purpose)
		}
	}
	if c, r, detail := read(field("purpose", "voice_clone"), field("model", "m"), theFile); r != reason.None || c.Model != "m" {
		t.Errorf("with a model: %v %s, %+v", r, detail, c)
	}
	for name, parts := range map[string][][2]string{
		"none":       {theFile},
		"another":    {theFile, field("purpose", "video_understanding")},
		"empty":      {theFile, field("purpose", "")},
		"twice":      {theFile, field("purpose", "voice_clone"), field("purpose", "voice_clone")},
		"a twin":     {theFile, field("purpose", "voice_clone"), field("Purpose", "assistants")},
		"as a list":  {theFile, field("purpose[]", "voice_clone")},
		"with blank": {theFile, field("purpose", "voice_clone ")},
		"as a file":  {theFile, {`Content-Disposition: form-data; name="purpose"; filename="x"`, "voice_clone"}},
	} {
		if _, r, detail := read(parts...); r != reason.BodyInvalid || !strings.Contains(detail, "purpose") {
			t.Errorf("%s: %v %s", name, r, detail)
		}
	}
}

// TestMiniMaxAnswers: the proxy is asked for what an answer is charged by, and for
// whether it succeeded, on every path.
func TestMiniMaxAnswers(t *testing.T) {
	for path, want := range map[string][]string{
		"POST /v1/text/chatcompletion_v2":  {"base_resp.status_code"},
		"POST /v1/t2a_v2":                  {"base_resp.status_code", "extra_info.usage_characters", "extra_info.audio_length"},
		"POST /v1/t2a_async_v2":            {"base_resp.status_code", "usage_characters", "task_id"},
		"GET /v1/query/t2a_async_query_v2": {"base_resp.status_code", "file_id"},
		"POST /v1/image_generation":        {"base_resp.status_code"},
		"POST /v1/video_generation":        {"base_resp.status_code", "task_id"},
		"GET /v1/query/video_generation":   {"base_resp.status_code", "file_id"},
		"POST /v1/music_generation":        {"base_resp.status_code", "extra_info.music_duration"},
		"POST /v1/files/upload":            {"base_resp.status_code", "file.file_id"},
		"GET /v1/files/retrieve":           {"base_resp.status_code"},
		"GET /v1/files/retrieve_content":   {"base_resp.status_code"},
		"POST /v1/voice_clone":             {"base_resp.status_code"},
	} {
		p := PathOf("minimax", path)
		if p == nil {
			t.Errorf("%s: no path", path)
			continue
		}
		if got := p.Watched(); !slices.Equal(got, want) {
			t.Errorf("%s: %q are watched, want %q", path, got, want)
		}
	}
	if len(minimax.Paths) != 12 {
		t.Errorf("%d paths", len(minimax.Paths))
	}
	for _, body := range []string{
		`{"model":"music-1","prompt":"x","refer_voice":"vocal-2024"}`, `{"model":"music-1","refer_instrumental":"i"}`, `{"model":"music-1","cover_feature_id":"c"}`,
	} {
		if _, r, _, _ := readMinimax(t, "POST", "/v1/music_generation", body); r != reason.BodyInvalid {
			t.Errorf("%s: %v", body, r)
		}
	}
	// What a hang-up is charged by, before the answer tells.
	if c, r, _, _ := readMinimax(t, "POST", "/v1/t2a_v2", `{"model":"m","text":"zwölf Zeichen","voice_setting":{"voice_id":"v"}}`); r != reason.None || c.PromptBytes != 13 {
		t.Errorf("%v %d", r, c.PromptBytes)
	}
	if c, r, _, _ := readMinimax(t, "POST", "/v1/text/chatcompletion_v2", `{"model":"m","tokens_to_generate":64,"max_tokens":32}`); r != reason.None || c.MaxOutput != 64 {
		t.Errorf("%v %d", r, c.MaxOutput)
	}
}
