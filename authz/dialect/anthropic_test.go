package dialect

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tollgate/authz/reason"
)

func readMessages(t *testing.T, body string) (Call, reason.Reason, string) {
	t.Helper()
	var c Call
	if !anthropic.Route(&c, http.MethodPost, "/v1/messages") {
		t.Fatal("no such path")
	}
	r, detail, _ := c.Read(&Request{Path: "/v1/messages", Body: []byte(body), Headers: headers("content-type", "application/json")})
	return c, r, detail
}

func TestMessages(t *testing.T) {
	c, r, detail := readMessages(t, `{"max_tokens":64,"stream":true,"system":"be brief","messages":[{"role":"user","content":"Hello"}],"model":"claude-x"}`)
	if r != reason.None || c.Model != "claude-x" || c.MaxOutput != 64 || !c.Stream || c.UsageOption != (UsageOption{}) {
		t.Errorf("%v %s %+v", r, detail, c)
	}
	if want := int64(len("be brief") + len("user") + len("Hello")); c.PromptBytes != want {
		t.Errorf("%d bytes of prompt, want %d", c.PromptBytes, want)
	}
	for body, want := range map[string]reason.Reason{
		`{"model":"m","container":null}`:                reason.None,
		`{"model":"m","container":"container_01"}`:      reason.BodyInvalid,
		`{"model":"m","container":{"skills":[]}}`:       reason.BodyInvalid,
		`{"model":"m","mcp_servers":[{"url":"https"}]}`: reason.None,
		`{"messages":[]}`:                               reason.ModelMissing,
	} {
		if _, r, detail := readMessages(t, body); r != want {
			t.Errorf("%s: %v %s, want %v", body, r, detail, want)
		}
	}
}

// image is a content block with so many bytes of base64; what is before data in its
// source is first, what is behind it last.
func image(first string, size int, last string) string {
	return `{"type":"image","source":{` + first + `"data":"` + strings.Repeat("A", size) + `"` + last + `}}`
}

// Media count nothing where Anthropic decodes them: at every depth that they may
// have, whatever the order of members. Everything else is text.
func TestBlocksCount(t *testing.T) {
	const size = 4000
	const png = `"type":"base64","media_type":"image/png",`
	user := func(blocks string) string {
		return `{"model":"m","messages":[{"role":"user","content":[` + blocks + `]}]}`
	}
	for name, c := range map[string]struct {
		body  string
		media bool
	}{
		"an image":                    {user(image(png, size, "")), true},
		"its type last":               {user(image("", size, `,"media_type":"image\/jpeg","type":"base64"`)), true},
		"a PDF":                       {user(image(`"type":"base64","media_type":"application/pdf",`, size, "")), true},
		"in a tool's result":          {user(`{"type":"tool_result","tool_use_id":"t","content":[` + image(png, size, "") + `]}`), true},
		"in a document in a result":   {user(`{"type":"tool_result","content":[{"type":"document","source":{"type":"content","content":[` + image(png, size, "") + `]}}]}`), true},
		"two in a row":                {user(image(png, size, "") + "," + image(png, size, "")), true},
		"text":                        {user(image(`"type":"text","media_type":"text/plain",`, size, "")), false},
		"text in base64":              {user(image(`"type":"base64","media_type":"text/plain",`, size, "")), false},
		"no type":                     {user(image(`"media_type":"image/png",`, size, "")), false},
		"two types":                   {user(image(png, size, `,"type":"text"`)), false},
		"a type in other letters":     {user(image(`"Type":"base64","media_type":"image/png",`, size, "")), false},
		"an image before text":        {user(image(png, 8, "") + "," + image(`"type":"text","media_type":"text/plain",`, size, "")), false},
		"in a tool's arguments":       {user(`{"type":"tool_use","id":"t","name":"n","input":` + image(png, size, "") + `}`), false},
		"deep in a tool's arguments":  {user(`{"type":"tool_use","input":{"content":[{"content":[` + image(png, size, "") + `]}]}}`), false},
		"in a list of arguments":      {user(`{"type":"tool_use","input":[` + image(png, size, "") + `]}`), false},
		"behind a tool's arguments":   {user(`{"type":"tool_use","input":{"a":[{}]}},` + image(png, size, "")), true},
		"behind arguments, in a list": {user(`{"type":"tool_use","input":1},[` + image(png, size, "") + `]`), true},
		"blanks are no base64":        {user(`{"type":"image","source":{` + png + `"data":"` + strings.Repeat("A ", size/2) + `"}}`), false},
		"an image as OpenAI has it":   {user(`{"type":"image_url","image_url":{"url":"data:image/png;base64,` + strings.Repeat("A", size) + `"}}`), false},
	} {
		call, r, detail := readMessages(t, c.body)
		if r != reason.None {
			t.Errorf("%s: %v %s", name, r, detail)
		}
		if media := call.PromptBytes < size; media != c.media {
			t.Errorf("%s: %d bytes of prompt", name, call.PromptBytes)
		}
	}
}

// Many members data in one source are looked at once, not each through all of it.
func TestBlocksCountInLinearTime(t *testing.T) {
	body := `{"model":"m","messages":[{"content":[{"source":{"type":"base64","media_type":"image/png"` + strings.Repeat(`,"data":"AAAA"`, 100_000) + `}}]}]}`
	start := time.Now()
	if _, r, detail := readMessages(t, body); r != reason.None {
		t.Errorf("%v %s", r, detail)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("1.4 MB took %v", d)
	}
}

func TestFilesAreRefused(t *testing.T) {
	for block, refused := range map[string]bool{
		`{"type":"document","source":{"type":"file","file_id":"file_01"}}`:                                                                true,
		`{"type":"document","source":{"file\u005fid":"file_01"}}`:                                                                         true,
		`{"type":"document","source":{"FILE_ID":"file_01"}}`:                                                                              true,
		`{"type":"container_upload","file_id":"file_01"}`:                                                                                 true,
		`{"type":"tool_result","content":[{"type":"document","source":{"type":"file","file_id":"file_01"}}]}`:                             true,
		`{"type":"tool_use","input":1,"file_id":"f"}`:                                                                                     true,
		`{"type":"tool_use","input":{"a":1}},{"file_id":"f"}`:                                                                             true,
		`{"type":"tool_use","input":{"a":{"b":[1]}}},[{"x":[{"file_id":"f"}]}]`:                                                           true,
		`{"type":"tool_use","Input":{"file_id":"f"}}`:                                                                                     true,
		`{"type":"tool_use","input":{"file_id":"mine","x":{"file_id":"mine"}}}`:                                                           false,
		`{"type":"text","text":"file_id","citations":null,"file_id":null}`:                                                                false,
		`{"type":"tool_result","content":[{"type":"text","text":"{\"file_id\":1}"}]},{"type":"tool_use","input":{"file_id":[{"a":"b"}]}}`: false,
	} {
		_, r, detail := readMessages(t, `{"model":"m","messages":[{"role":"user","content":[`+block+`]}]}`)
		if (r == reason.BodyInvalid) != refused || refused && !strings.Contains(detail, "file_id") {
			t.Errorf("%s: %v %s", block, r, detail)
		}
	}
}

// GET /v1/models is OpenAI's without the header, and is in nobody's way.
func TestVersionedPaths(t *testing.T) {
	for _, path := range []string{"/v1/models", "/v1/models/m"} {
		p, _, ok := anthropic.Match(http.MethodGet, path)
		if !ok || p.Wants(headers("accept", "*/*")) || !p.Wants(headers("accept", "*/*", "anthropic-version", "2023-06-01")) {
			t.Errorf("%s: %v %+v", path, ok, p)
		}
		if p, _, _ := openAI.Match(http.MethodGet, path); !p.Wants(nil) {
			t.Errorf("%s: OpenAI's needs a header", path)
		}
	}
	if p, q := Collision(&anthropic, &openAI); p != nil {
		t.Errorf("%s and %s collide", p.Name(), q.Name())
	}
}

func TestAnthropicModels(t *testing.T) {
	created := time.Date(2025, 12, 10, 12, 0, 0, 999, time.UTC)
	r := anthropic.ModelsAnswer([]Model{{"a/b", created}, {"c", time.Time{}}}, "id")
	const list = `{"data":[{"type":"model","id":"a/b","display_name":"a/b","created_at":"2025-12-10T12:00:00Z"},` +
		`{"type":"model","id":"c","display_name":"c","created_at":"1970-01-01T00:00:00Z"}],"has_more":false,"first_id":"a/b","last_id":"c"}`
	if string(r.Body) != list {
		t.Errorf("%s", r.Body)
	}
	if id, n := header(r, "request-id"); id != "id" || n != 1 {
		t.Errorf("request-id %q", id)
	}
	if r = anthropic.ModelsAnswer(nil, ""); string(r.Body) != `{"data":[],"has_more":false,"first_id":null,"last_id":null}` {
		t.Errorf("no models: %s", r.Body)
	}
	if r = anthropic.ModelAnswer(Model{ID: "c"}, ""); string(r.Body) != `{"type":"model","id":"c","display_name":"c","created_at":"1970-01-01T00:00:00Z"}` {
		t.Errorf("one model: %s", r.Body)
	}
}

func TestRefuseAnthropic(t *testing.T) {
	r := anthropic.Refuse(Refusal{Reason: reason.TokenLimitExceeded, RetryAfter: 5 * time.Minute, RequestID: "id"})
	if want := `{"type":"error","error":{"type":"rate_limit_error","message":"The limit of tokens per minute is reached. Try again after the time in retry-after."},"request_id":"id"}`; string(r.Body) != want {
		t.Errorf("%s", r.Body)
	}
	for name, want := range map[string]string{"retry-after": "60", "retry-after-ms": "60000", "request-id": "id", "x-request-id": "id"} {
		if got, n := header(r, name); got != want || n != 1 {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	r = anthropic.Refuse(Refusal{Reason: reason.BudgetExceeded})
	if should, _ := header(r, "x-should-retry"); r.Status != http.StatusPaymentRequired || should != "false" || !strings.Contains(string(r.Body), `"billing_error"`) {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	for why, kind := range map[reason.Reason]string{
		reason.KeyInvalid: "authentication_error", reason.ModelDenied: "permission_error", reason.ModelUnknown: "not_found_error",
		reason.BodyInvalid: "invalid_request_error", reason.RequestTooLarge: "request_too_large", reason.Unavailable: "api_error",
	} {
		if r := anthropic.Refuse(Refusal{Reason: why}); !strings.Contains(string(r.Body), `"`+kind+`"`) {
			t.Errorf("%v: %s", why, r.Body)
		}
	}
}

func TestLimitHeaders(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 500, time.FixedZone("", 3600))
	requests, tokens := Standing{60, 59, 1500 * time.Millisecond}, Standing{1000, 400, time.Minute}
	for d, want := range map[*Dialect]string{
		&openAI: "[{x-ratelimit-limit-requests 60} {x-ratelimit-remaining-requests 59} {x-ratelimit-reset-requests 1.5s} " +
			"{x-ratelimit-limit-tokens 1000} {x-ratelimit-remaining-tokens 400} {x-ratelimit-reset-tokens 1m0s}]",
		&anthropic: "[{anthropic-ratelimit-requests-limit 60} {anthropic-ratelimit-requests-remaining 59} {anthropic-ratelimit-requests-reset 2026-11-21T11:00:01Z} " +
			"{anthropic-ratelimit-tokens-limit 1000} {anthropic-ratelimit-tokens-remaining 400} {anthropic-ratelimit-tokens-reset 2026-11-21T11:01:00Z} " +
			"{anthropic-ratelimit-input-tokens-limit 1000} {anthropic-ratelimit-input-tokens-remaining 400} {anthropic-ratelimit-input-tokens-reset 2026-11-21T11:01:00Z} " +
			"{anthropic-ratelimit-output-tokens-limit 1000} {anthropic-ratelimit-output-tokens-remaining 400} {anthropic-ratelimit-output-tokens-reset 2026-11-21T11:01:00Z}]",
	} {
		if got := fmt.Sprint(d.AppendLimits(nil, now, requests, tokens)); got != want {
			t.Errorf("%s: %s", d.Name, got)
		}
		if got := d.AppendLimits(nil, now, Standing{}, Standing{}); got != nil {
			t.Errorf("%s: %v without a limit", d.Name, got)
		}
	}
}
