package dialect

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

func readMinimax(t testing.TB, method, target, body string, h ...Header) (c Call, r reason.Reason, detail, param string) {
	t.Helper()
	path, _ := SplitPath(target)
	if !minimax.Route(&c, method, path) {
		t.Fatalf("no route for %s %s", method, target)
	}
	r, detail, param = c.Read(&Request{Method: method, Path: target, Body: []byte(body), Headers: h})
	return c, r, detail, param
}

// ids are what a call mentions, as kind:id, with a ? where it may be the service's own.
func ids(c *Call) string {
	var all []string
	for _, m := range c.Mentioned {
		s := m.Kind + ":" + m.ID
		if m.Open {
			s += "?"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func TestMentionsInJSON(t *testing.T) {
	const (
		say   = "/v1/t2a_v2"
		later = "/v1/t2a_async_v2"
		clone = "/v1/voice_clone"
		chat  = "/v1/text/chatcompletion_v2"
	)
	for _, tt := range []struct{ path, body, ids, creating string }{
		{say, `{"model":"m","text":"x"}`, "", ""},
		{say, `{"model":"m","voice_setting":{"voice_id":"Wise_Woman","speed":1}}`, "voice:Wise_Woman?", ""},
		{say, `{"voice_setting":{"speed":1,"voice_id":"Chinese (Mandarin)_Lyrical_Voice"},"model":"m"}`, "voice:Chinese (Mandarin)_Lyrical_Voice?", ""},
		{say, `{"model":"m","voice_setting":{"voice_id":""},"timber_weights":[{"voice_id":"a","weight":1},{"weight":2,"voice_id":"b"}]}`, "voice:a? voice:b?", ""},
		{say, `{"model":"m","timbre_weights":[{"voice_id":"a"},7,"x",[{"voice_id":"c"}],{"voice_id":"a"}]}`, "voice:a? voice:a?", ""},
		{say, `{"model":"m","timbre_weights":[],"voice_setting":{},"voice_id":null}`, "", ""},
		{say, `{"model":"m","voice_setting":null,"voice_id":"top"}`, "voice:top?", ""},
		{say, `{"model":"m","voice_setting":{"voice_id":"\u0061\/b"}}`, "voice:a/b?", ""},
		{say, `{"model":"m","voice_setting":{"x":{"voice_id":"deep"}},"y":{"voice_id":"else"}}`, "", ""},
		{say, `{"model":"m","voice_setting.voice_id":"flat"}`, "", ""},
		{say, `{"model":"m","file_id":5}`, "", ""}, // which this path doesn't read
		{chat, `{"model":"m","messages":[{"content":"voice_id"}],"voice_setting":{"model":"speech-01","voice_id":"v"}}`, "voice:v?", ""},
		{later, `{"model":"m","text_file_id":95157322514444}`, "file:95157322514444", ""},
		{later, `{"model":"m","text_file_id":"95157322514444","voice_setting":{"voice_id":"v"}}`, "file:95157322514444 voice:v?", ""},
		{later, `{"model":"m","text_file_id":18446744073709551617}`, "file:18446744073709551617", ""},
		{clone, `{"file_id":123,"voice_id":"MyVoice001"}`, "file:123", "MyVoice001"},
		{clone, `{"model":"m","voice_id":"MyVoice001","file_id":"123","clone_prompt":{"prompt_audio":456,"prompt_text":"x"}}`, "file:123 file:456", "MyVoice001"},
		{clone, `{"voice_id":null}`, "", ""},
	} {
		c, r, detail, param := readMinimax(t, "POST", tt.path, tt.body)
		if r != reason.None || ids(&c) != tt.ids || c.Creating != tt.creating {
			t.Errorf("%s: %v %s %s, %q creating %q", tt.body, r, detail, param, ids(&c), c.Creating)
		}
	}
	for _, tt := range []struct{ path, body, param string }{
		{say, `{"model":"m","voice_setting":{"voice_id":"a","voice_id":"b"}}`, "voice_setting.voice_id"},
		{say, `{"model":"m","voice_setting":{"voice_id":"a","Voice_ID":"b"}}`, "voice_setting.voice_id"},
		{say, `{"model":"m","voice_setting":{"VOICE_ID":"b"}}`, "voice_setting.voice_id"},
		{say, `{"model":"m","voice_setting":{"voice_id\u0000":"b"}}`, "voice_setting.voice_id"},
		{say, `{"model":"m","voice_setting":{"voice_id":"a"},"voice_setting":{"voice_id":"b"}}`, "voice_setting"},
		{say, `{"model":"m","Voice_Setting":{"voice_id":"b"}}`, "voice_setting"},
		{say, `{"model":"m","voice_\u017fetting":{"voice_id":"b"}}`, "voice_setting"},
		{say, `{"model":"m","timbre_weights":[{"voice_id":"a","voice_id":"b"}]}`, "timbre_weights.voice_id"},
		{say, `{"model":"m","voice_id":["a"]}`, "voice_id"},
		{say, `{"model":"m","voice_id":{"a":1}}`, "voice_id"},
		{say, `{"model":"m","voice_id":true}`, "voice_id"},
		{say, `{"model":"m","voice_id":" a"}`, "voice_id"},
		{say, `{"model":"m","voice_id":"a\u00a0"}`, "voice_id"},
		{say, `{"model":"m","voice_id":"a\u0000b"}`, "voice_id"},
		{say, `{"model":"m","voice_id":"a\nb"}`, "voice_id"},
		{say, `{"model":"m","voice_id":"` + strings.Repeat("v", MaxObjectID+1) + `"}`, "voice_id"},
		{say, `{"model":"m","timbre_weights":[` + strings.Repeat(`{"voice_id":"v"},`, MaxMentioned) + `{"voice_id":"w"}]}`, "timbre_weights.voice_id"},
		{later, `{"model":"m","text_file_id":1.0}`, "text_file_id"},
		{later, `{"model":"m","text_file_id":1e3}`, "text_file_id"},
		{later, `{"model":"m","text_file_id":-1}`, "text_file_id"},
		{clone, `{"voice_id":"a","voice_id":"b"}`, "voice_id"},
		{clone, `{"voice_id":"a","VOICE_id":"b"}`, "voice_id"},
		{clone, `{"file_id":1,"file_id":2,"voice_id":"a"}`, "file_id"},
		{clone, `{"file_id":1,"voice_id":"a","clone_prompt":{"prompt_audio":1,"Prompt_Audio":2}}`, "clone_prompt.prompt_audio"},
	} {
		if c, r, detail, param := readMinimax(t, "POST", tt.path, tt.body); r != reason.BodyInvalid || param != tt.param {
			t.Errorf("%.80s: %v %s %s, %s", tt.body, r, detail, param, ids(&c))
		}
	}
}

// TestStoredFiles: what is written as mm_file://ID is a file of the upstream's account.
func TestStoredFiles(t *testing.T) {
	const chat = "/v1/text/chatcompletion_v2"
	for body, want := range map[string]reason.Reason{
		`{"model":"m","messages":[{"role":"user","content":"what is mm_file:// for?"}]}`:                         reason.None,
		`{"model":"m","messages":[{"content":[{"type":"video_url","video_url":{"url":"mm_file://123"}}]}]}`:      reason.BodyInvalid,
		`{"model":"m","messages":[{"content":[{"type":"video_url","video_url":"\u006dm_file:\/\/123"}]}]}`:       reason.BodyInvalid,
		`{"model":"m","messages":[{"content":[{"video_url":{"url":" \t\nMM_File://123"}}]}]}`:                    reason.BodyInvalid,
		`{"model":"m","video":"mm_file://123"}`:                                                                  reason.BodyInvalid,
		`{"model":"m","messages":[{"content":[{"video_url":{"url":"https://example.com/mm_file://123.mp4"}}]}]}`: reason.None,
	} {
		if _, r, detail, _ := readMinimax(t, "POST", chat, body); r != want || r != reason.None && !strings.Contains(detail, "mm_file://") {
			t.Errorf("%s: %v %s", body, r, detail)
		}
	}
}

func TestMentionsInQuery(t *testing.T) {
	const path = "/v1/query/video_generation"
	for query, want := range map[string]string{
		"?task_id=176843862716480":               "176843862716480",
		"?GroupId=1&task_id=a%2Fb&x=task_id":     "a/b",
		"?task_id=" + strings.Repeat("t", 256):   strings.Repeat("t", 256),
		"":                                       "",
		"?":                                      "",
		"?task_id":                               "",
		"?task_id=":                              "",
		"?task_id=1&task_id=2":                   "",
		"?task_id=1&task_id=1":                   "",
		"?task_id=1&Task_Id=2":                   "",
		"?task_id=1&task_id[]=2":                 "",
		"?task_id=1&task.id=2":                   "",
		"?task%5Fid=1":                           "",
		"?task_id=1;task_id=2":                   "",
		"?task_id=%zz":                           "",
		"?task_id=1%00":                          "",
		"?task_id=+1":                            "",
		"?task_id=1%20":                          "",
		"?task_id=%ff":                           "",
		"?task_id=" + strings.Repeat("t", 257):   "",
		"?task_id=1&%00task_id=2&task_id%00=3&x": "",
	} {
		c, r, detail, param := readMinimax(t, "GET", path+query, "")
		if want == "" {
			if r != reason.BodyInvalid || param != "task_id" || detail == "" || len(c.Mentioned) != 0 {
				t.Errorf("%.60s: %v %s %s, %s", query, r, detail, param, ids(&c))
			}
		} else if r != reason.None || ids(&c) != "task:"+want || c.Model != "" {
			t.Errorf("%.60s: %v %s, %s", query, r, detail, ids(&c))
		}
	}
	if c, r, detail, _ := readMinimax(t, "GET", "/v1/files/retrieve?file_id=205258526306433", ""); r != reason.None || ids(&c) != "file:205258526306433" {
		t.Errorf("%v %s, %s", r, detail, ids(&c))
	}
}

func TestMentionsInPath(t *testing.T) {
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/api/v1/sparks/550e8400-e29b-41d4-a716-446655440000", "mind:550e8400-e29b-41d4-a716-446655440000"},
		{"DELETE", "/api/v1/minds/a", "mind:a"},
		{"PUT", "/api/v1/flows/a%2Db", "flow:a-b"},
		{"POST", "/api/v1/sparks/a/completion?stream=1", "mind:a"},
		{"POST", "/api/v1/flows/a/run", "flow:a"},
		{"GET", "/api/v1/minds", ""},
		{"POST", "/api/v1/minds", ""},
	} {
		var c Call
		path, _ := SplitPath(tt.path)
		if !minds.Route(&c, tt.method, path) || c.Model != "" {
			t.Errorf("%s %s: no route, or a model %q", tt.method, tt.path, c.Model)
			continue
		}
		// A body isn't looked at, whatever it is, where there may be one. Reading again
		// finds the same.
		body := ""
		if strings.HasPrefix(tt.method, "P") {
			body = "{"
		}
		for range 2 {
			if r, detail, _ := c.Read(&Request{Method: tt.method, Path: tt.path, Body: []byte(body)}); r != reason.None || ids(&c) != tt.want {
				t.Errorf("%s %s: %v %s, %s", tt.method, tt.path, r, detail, ids(&c))
			}
		}
	}
	for _, path := range []string{
		"/api/v1/sparks/", "/api/v1/sparks//completion", "/api/v1/sparks/a/b/completion", "/api/v1/sparks/a%2Fb", "/api/v1/sparks/..", "/api/v1/sparks/%2e%2e/completion",
		"/api/v1/sparks/a%00", "/api/v1/sparks/a;b", "/api/v1/sparks/a/completion/", "/api/v1/sparks/a/patterns", "/api/v1/chats",
	} {
		var c Call
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if minds.Route(&c, method, path) {
				t.Errorf("%s %s: %s", method, path, c.Path.Pattern)
			}
		}
	}
}

// FuzzMentions: of whatever is accepted, the ids are those that encoding/json finds.
func FuzzMentions(f *testing.F) {
	for _, body := range []string{
		`{"model":"m","voice_setting":{"voice_id":"a"},"timbre_weights":[{"voice_id":"b"},{"voice_id":"c"}],"text_file_id":12}`,
		`{"model":"m","voice_id":"\u0061","text_file_id":"12","timber_weights":{"voice_id":"x"}}`,
		`{"model":"m","voice_setting":{"Voice_id":"a"},"voice_id":null,"timber_weights":[[{"voice_id":"b"}]]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, r, _, _ := readMinimax(t, "POST", "/v1/t2a_async_v2", string(body))
		if r != reason.None {
			return
		}
		want := decoded(t, body)
		var got []string
		for _, m := range c.Mentioned {
			if m.ID == "" || len(m.ID) > MaxObjectID || strings.TrimSpace(m.ID) != m.ID {
				t.Errorf("an id %q", m.ID)
			}
			got = append(got, fmt.Sprint(m.Field, " ", m.ID))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q were read, %q are there", body, got, want)
		}
	})
}
