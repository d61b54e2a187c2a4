package dialect

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"tollgate/authz/reason"
)

var update = flag.Bool("update", false, "write testdata/refusals.golden anew")

// stylists are one dialect of each style.
var stylists = []*Dialect{&openAI, &minds, &anthropic, &minibase, &baseten, &minimax, &cohere}

// TestRefusalsGolden keeps the wording of every refusal in one file, to be read
// by people.
func TestRefusalsGolden(t *testing.T) {
	var got bytes.Buffer
	for _, d := range stylists {
		style := d.Style
		for _, r := range reason.All() {
			refusal := Refusal{Reason: r, RequestID: "0199a1b2-0000-7000-8000-000000000000"}
			switch r {
			case reason.ModelUnknown, reason.ModelNotDeployed, reason.ModelDenied:
				refusal.Model, refusal.Param = `meta-llama/"Llama"`, "model"
				if style == Minibase {
					refusal.Param = "model_id"
				}
			case reason.RateLimitExceeded, reason.TokenLimitExceeded:
				refusal.RetryAfter = 1500*time.Millisecond + time.Microsecond
			}
			response := d.Refuse(refusal)
			fmt.Fprintf(&got, "%v %v\n%d\n", style, r, response.Status)
			for _, h := range response.Headers {
				fmt.Fprintf(&got, "%s: %s\n", h.Name, h.Value)
			}
			fmt.Fprintf(&got, "\n%s\n\n", response.Body)
		}
	}
	const golden = "testdata/refusals.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("refusals changed; look at them after go test ./authz/dialect -run Golden -update")
	}
}

func header(r Response, name string) (value string, count int) {
	for _, h := range r.Headers {
		if h.Name == name {
			value = h.Value
			count++
		}
	}
	return value, count
}

// TestEveryRefusal checks what SDKs act on, for every reason in every style.
func TestEveryRefusal(t *testing.T) {
	for _, d := range stylists {
		style := d.Style
		for _, r := range reason.All() {
			for _, wait := range []time.Duration{0, -time.Second, time.Nanosecond, time.Minute} {
				response := d.Refuse(Refusal{Reason: r, RetryAfter: wait, Model: "m"})
				where := fmt.Sprint(style, " ", r, " ", wait)
				status := r.Status()
				if style == Anthropic && r == reason.BudgetExceeded {
					status = http.StatusPaymentRequired
				}
				if response.Status != status || !json.Valid(response.Body) {
					t.Errorf("%s: %d %s", where, response.Status, response.Body)
				}
				if kind, n := header(response, "content-type"); kind != "application/json" || n != 1 {
					t.Errorf("%s: content-type %q", where, kind)
				}
				if _, n := header(response, "x-request-id"); n != 0 {
					t.Errorf("%s: a request id that wasn't given", where)
				}
				_, retry := header(response, "retry-after")
				_, retryMS := header(response, "retry-after-ms")
				should, never := header(response, "x-should-retry")
				if retry > 0 != (r.Status() == 429 && r != reason.BudgetExceeded || r == reason.Unavailable) {
					t.Errorf("%s: retry-after %d times", where, retry)
				}
				if retryMS > 0 != (retry > 0 && r != reason.Unavailable) {
					t.Errorf("%s: retry-after-ms %d times", where, retryMS)
				}
				suspended := r == reason.BudgetExceeded || r == reason.WorkspaceSuspended || r == reason.UserSuspended
				if never > 0 != suspended || never > 0 && should != "false" {
					t.Errorf("%s: x-should-retry %q", where, should)
				}
				scheme := "Bearer"
				if style == Baseten {
					scheme = "Api-Key"
				}
				if value, n := header(response, "www-authenticate"); n > 0 != (r.Status() == 401) || n > 0 && value != scheme {
					t.Errorf("%s: www-authenticate %q, %d times", where, value, n)
				}
			}
		}
	}
}

// TestRefusalsTellOfLists: who may not use a model is sent to the list of models only
// where there is one.
func TestRefusalsTellOfLists(t *testing.T) {
	for _, d := range dialects {
		_, _, lists := d.Match(http.MethodGet, map[string]string{"azure": "/openai/v1/models", "podstack": "/inference/v1/models"}[d.Name])
		lists = lists || d.Name == "openai" || d.Name == "anthropic"
		for _, r := range []reason.Reason{reason.ModelUnknown, reason.ModelDenied} {
			got := string(d.Refuse(Refusal{Reason: r, Model: "m"}).Body)
			if strings.Contains(got, "The list of models") != lists || !strings.Contains(got, "`m`") {
				t.Errorf("%s: %s", d.Name, got)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration][2]string{
		0:                                 {"1", "1000"},
		time.Nanosecond:                   {"1", "1"},
		time.Millisecond:                  {"1", "1"},
		time.Second:                       {"1", "1000"},
		time.Second + time.Nanosecond:     {"2", "1001"},
		59*time.Second + time.Millisecond: {"60", "59001"},
	} {
		r := openAI.Refuse(Refusal{Reason: reason.RateLimitExceeded, RetryAfter: wait})
		seconds, _ := header(r, "retry-after")
		ms, _ := header(r, "retry-after-ms")
		if seconds != want[0] || ms != want[1] {
			t.Errorf("%v: %s s, %s ms", wait, seconds, ms)
		}
	}
}

func TestRefuseOpenAI(t *testing.T) {
	type body struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    *string `json:"code"`
		} `json:"error"`
	}
	var nobody *Dialect
	r := nobody.Refuse(Refusal{Reason: reason.RouteUnknown})
	if !strings.Contains(string(r.Body), `"param":null,"code":null`) {
		t.Errorf("route_unknown: %s", r.Body)
	}
	r = openAI.Refuse(Refusal{Reason: reason.BodyInvalid, Detail: "A <detail> & \"more\"\n", Param: "n", RequestID: "id"})
	var got body
	if err := json.Unmarshal(r.Body, &got); err != nil || got.Error.Message != "A <detail> & \"more\"\n" || *got.Error.Param != "n" || *got.Error.Code != "invalid_request" {
		t.Errorf("%v: %s", err, r.Body)
	}
	if id, n := header(r, "x-request-id"); id != "id" || n != 1 {
		t.Errorf("x-request-id %q", id)
	}
	// The model is named, whatever it is, and not at any length.
	for _, model := range []string{"m", "", "\x00\r\n", `"},"x":{"`, "\xff\xfe", strings.Repeat("é", 1<<20), "a" + strings.Repeat("é", 1<<20)} {
		r = openAI.Refuse(Refusal{Reason: reason.ModelUnknown, Model: model})
		if err := json.Unmarshal(r.Body, &got); err != nil || len(r.Body) > 600 {
			t.Errorf("%.20q: %v, %d bytes", model, err, len(r.Body))
		}
		if short := model; len(short) < 20 && short != "\xff\xfe" && !strings.Contains(got.Error.Message, "`"+short+"`") || strings.ContainsRune(got.Error.Message, '\ufffd') != (model == "\xff\xfe") {
			t.Errorf("%.20q: %s", model, got.Error.Message)
		}
	}
}

func TestRefuseMinds(t *testing.T) {
	const exact = `{"statusCode":401,"statusMessage":"Unauthorized","message":"Invalid or missing API key"}`
	for _, r := range []reason.Reason{reason.KeyMissing, reason.KeyInvalid} {
		for _, detail := range []string{"", "A detail."} {
			if got := minds.Refuse(Refusal{Reason: r, Detail: detail}); got.Status != 401 || string(got.Body) != exact {
				t.Errorf("%v: %d %s", r, got.Status, got.Body)
			}
		}
	}
	got := (&Dialect{Style: Minds}).Refuse(Refusal{Reason: reason.BodyInvalid, Detail: "The name is too long."})
	if string(got.Body) != `{"statusCode":400,"statusMessage":"Bad Request","message":"The name is too long."}` {
		t.Errorf("%s", got.Body)
	}
}

func TestModelsAnswer(t *testing.T) {
	created := time.Date(2025, 12, 10, 12, 0, 0, 999, time.UTC)
	r := openAI.ModelsAnswer([]Model{{"a/b", created}, {"c", time.Time{}}}, "id")
	const list = `{"object":"list","data":[{"id":"a/b","object":"model","created":1765368000,"owned_by":"tollgate"},` +
		`{"id":"c","object":"model","created":0,"owned_by":"tollgate"}]}`
	if r.Status != 200 || string(r.Body) != list {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	if id, _ := header(r, "x-request-id"); id != "id" {
		t.Errorf("x-request-id %q", id)
	}
	if r = openAI.ModelsAnswer(nil, ""); string(r.Body) != `{"object":"list","data":[]}` || len(r.Headers) != 1 {
		t.Errorf("no models: %s %v", r.Body, r.Headers)
	}
	if r = podstack.ModelAnswer(Model{"c", created}, ""); string(r.Body) != `{"id":"c","object":"model","created":1765368000,"owned_by":"tollgate"}` {
		t.Errorf("one model: %s", r.Body)
	}
}
