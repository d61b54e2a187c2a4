//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// walkExampleMinimax: both costs of each service to the last digit, answers that fail
// with HTTP 200, prepaid credit, and what tenants see of each other.
func walkExampleMinimax(t *testing.T, w *exampleWalk) {
	// Nothing on the caller's side may have the upstream's credential.
	w.secrets = append(w.secrets, w.credential)
	costsOfMinimax(t, w)
	creditOfMinimax(t, w)
	tenantsOfMinimax(t, w)
}

// minimax sends a request with a body of JSON, or without, and returns the answer,
// headers and all, and its status.
func (w *exampleWalk) minimax(k newKey, path, body string, args ...string) (status int, answer string) {
	w.t.Helper()
	args = append(append(bearer(k), "-i"), args...)
	if body != "" {
		args = append(args, "-H", "Content-Type: application/json", "-d", body)
	}
	status, answer = w.curl("@/v1/"+path, args...)
	w.said.WriteString(answer)
	return status, answer
}

// member is a member of an answer, a text or a number.
func member(t *testing.T, answer, name string) string {
	t.Helper()
	found := regexp.MustCompile(`"` + name + `": ?"?([^",}]+)`).FindStringSubmatch(answer)
	if found == nil {
		t.Fatalf("no %s in %s", name, answer)
	}
	return found[1]
}

func costsOfMinimax(t *testing.T, w *exampleWalk) {
	k := w.create("--workspace", "demo", "--name", "costs")
	task := ""
	type charged struct{ units, listCost, cost, outcome string }
	want := map[string]charged{}
	for _, c := range []struct {
		path, body string
		code       string // of base_resp
		charged
	}{
		// Four tokens at 0.14 a million, whether they are streamed or not.
		{"text/chatcompletion_v2", `{"model":"abab6.5s-chat","messages":[{"role":"user","content":"Hello!"}]}`, "0",
			charged{"null", "0.00000056", "0.000000224", "completed"}},
		{"text/chatcompletion_v2", `{"model":"abab6.5s-chat","stream":true,"messages":[{"role":"user","content":"Hello!"}]}`, "0",
			charged{"null", "0.00000056", "0.000000224", "completed"}},
		{"text/chatcompletion_v2", `{"model":"abab6.5s-chat","messages":[{"role":"user","content":"out of money"}]}`, "1008",
			charged{"null", "0", "0", "upstream_error"}},
		{"t2a_v2", `{"model":"speech-02-hd","text":"Thirteen char"}`, "0",
			charged{`{"character":"13","second":"0.78"}`, "0.00065", "0.00026", "completed"}},
		{"image_generation", `{"model":"image-01","prompt":"a lighthouse","n":3}`, "0", charged{`{"image":"3"}`, "0.0105", "0.0042", "completed"}},
		{"image_generation", `{"model":"image-01","prompt":"a lighthouse","n":10}`, "2013", charged{"null", "0", "0", "upstream_error"}},
		{"music_generation", `{"model":"music-1.5","prompt":"calm","lyrics":"x"}`, "0", charged{`{"second":"25.364","song":"1"}`, "0.03", "0.012", "completed"}},
		{"video_generation", `{"model":"MiniMax-Hailuo-02","prompt":"A dancer"}`, "0", charged{`{"video":"1"}`, "0.28", "0.112", "completed"}},
		{"query/video_generation?task_id=TASK", "", "0", charged{"null", "0", "0", "completed"}},
	} {
		status, res := w.minimax(k, strings.Replace(c.path, "TASK", task, 1), c.body, forged(k.Key)...)
		if code := member(t, res, "status_code"); status != 200 || code != c.code {
			t.Errorf("%s: %d %s, want status_code %s", c.path, status, res, c.code)
			continue
		}
		if strings.HasPrefix(c.path, "video") {
			task = member(t, res, "task_id")
		}
		id := regexp.MustCompile(`(?i)x-request-id: (\S+)`).FindStringSubmatch(res)
		if id == nil {
			t.Fatalf("%s: no request id", c.path)
		}
		want[id[1]] = c.charged
	}
	w.eventsOf(k, len(want))
	for line := range strings.Lines(w.say("events", "list", "--since", "24h", "-o", "json")) {
		e := decodeJSON[struct {
			Data struct {
				Key, RequestID, ListCost, Cost, Currency, Multiplier, Outcome string
				Units                                                         json.RawMessage
			}
		}](t, line).Data
		if e.Key != k.ID {
			continue
		}
		got := charged{string(e.Units), e.ListCost, e.Cost, e.Outcome}
		if e.Units == nil {
			got.units = "null"
		}
		if got != want[e.RequestID] || e.Multiplier != "0.4" || e.Currency != "USD" {
			t.Errorf("the event says %+v, want %+v: %s", got, want[e.RequestID], line)
		}
	}
	sum := decodeJSON[struct{ Cost, ListCost string }](t, w.must(200, "/api/v1/api-keys/"+k.ID+"/usage", bearer(k)...))
	if sum.ListCost != "0.32115112" || sum.Cost != "0.128460448" {
		t.Errorf("the key's usage costs %+v", sum)
	}
}

// creditOfMinimax: a workspace spends what it was granted and no more, whoever asks.
func creditOfMinimax(t *testing.T, w *exampleWalk) {
	w.say("workspace", "create", "prepaid", "--plan", "proxy")
	w.say("workspace", "credit", "prepaid", "--amount", "0.25")
	keys := [2]newKey{w.create("--workspace", "prepaid"), w.create("--workspace", "prepaid")}
	const video = `{"model":"MiniMax-Hailuo-02","prompt":"A dancer"}`
	for i := range 2 { // 0.112 each
		if status, res := w.minimax(keys[i], "video_generation", video); status != 200 {
			t.Fatalf("video %d: %s", i, res)
		}
	}
	for _, k := range keys {
		status, res := w.minimax(k, "video_generation", video)
		if status != 429 || member(t, res, "status_code") != "1008" || !strings.Contains(strings.ToLower(res), "x-should-retry: false") ||
			strings.Contains(strings.ToLower(res), "retry-after") {
			t.Errorf("without credit: %d %s", status, res)
		}
	}
	w.say("workspace", "credit", "prepaid", "--amount", "0.1")
	if status, res := w.minimax(keys[0], "video_generation", video); status != 200 {
		t.Errorf("with new credit: %s", res)
	}
}

// tenantsOfMinimax: what one workspace made does not exist for another, in the bytes
// of what never was, and works for its own at once.
func tenantsOfMinimax(t *testing.T, w *exampleWalk) {
	w.say("workspace", "create", "acme", "--plan", "proxy")
	mine, theirs := w.create("--workspace", "demo"), w.create("--workspace", "acme")
	expect := func(status int, code string, k newKey, path, body string, args ...string) string {
		t.Helper()
		got, res := w.minimax(k, path, body, args...)
		if got != status || member(t, res, "status_code") != code {
			t.Fatalf("%s: %d %s, want %d and %s", path, got, res, status, code)
		}
		return res
	}
	// Videos: asked for right after they were begun, again and again.
	for i := range 20 {
		task := member(t, expect(200, "0", mine, "video_generation", `{"model":"MiniMax-Hailuo-02","prompt":"A dancer"}`), "task_id")
		expect(200, "0", mine, "query/video_generation?task_id="+task, "")
		if i > 0 {
			continue
		}
		foreign := expect(404, "2013", theirs, "query/video_generation?task_id="+task, "")
		unknown := expect(404, "2013", theirs, "query/video_generation?task_id=42", "")
		if body := func(s, id string) string {
			_, s, _ = strings.Cut(s, "\r\n\r\n")
			return strings.ReplaceAll(s, id, "ID")
		}; body(foreign, task) != body(unknown, "42") {
			t.Errorf("another's: %s\nunknown: %s", foreign, unknown)
		}
		expect(200, "0", mine, "query/video_generation?task_id="+task, "") // done, which names the file
		expect(200, "0", mine, "files/retrieve?file_id="+task, "")
		expect(404, "2013", theirs, "files/retrieve?file_id="+task, "")
	}
	// Voices.
	upload := expect(200, "0", mine, "files/upload", "", "-F", "purpose=voice_clone", "-F", "file=@"+root(t, "LICENSE")+";filename=me.mp3")
	file := member(t, upload, "file_id")
	voice := "Voice" + strconv.FormatInt(time.Now().UnixNano(), 36)
	clone := fmt.Sprintf(`{"file_id":%s,"voice_id":%q}`, file, voice)
	expect(404, "2013", theirs, "voice_clone", clone)
	expect(200, "0", mine, "voice_clone", clone)
	say := fmt.Sprintf(`{"model":"speech-02-hd","text":"It is me.","voice_setting":{"voice_id":%q}}`, voice)
	expect(200, "0", mine, "t2a_v2", say)
	within(t, time.Minute, "bound to its workspace", func() error {
		if status, res := w.minimax(theirs, "t2a_v2", say); status != 404 {
			return fmt.Errorf("%d %s", status, res)
		}
		return nil
	})
	// What could show all of the account's is not there.
	for _, path := range []string{"files/list?purpose=voice_clone", "get_voice", "query/voices", "files/delete"} {
		if status, res := w.minimax(mine, path, ""); status != 404 {
			t.Errorf("%s: %d %s", path, status, res)
		}
	}
}
