package manage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

const all = "/api/v1/api-keys?workspace=demo"

func one(id string) string { return "/api/v1/api-keys/" + id + "?workspace=demo" }

func nil2unavailable(context.Context, string) (*key.Record, error) { return nil, key.ErrUnavailable }

func TestKeyLife(t *testing.T) {
	at := time.Date(2025, 12, 10, 13, 0, 0, 123456789, time.FixedZone("x", 3600))
	used := at.Add(time.Hour)
	s := serve(t, fixed(at), func(c *manage.Config) {
		c.LastUsed = func(string, string, int) (time.Time, bool) { return used, !used.Equal(at) }
	})
	r := s.must(201, "POST", all, operator, `{"name":"  prod\u2003","labels":{"team":"a"},"limits":{"requestsPerMinute":5},
		"budget":{"period":"month","amount":"10.00"},"models":["meta/*"],"expiresAt":"2026-01-01T01:00:00.5+01:00","environment":"Production"}`)
	var k map[string]any
	if err := json.Unmarshal([]byte(r.body), &k); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"name": `"prod"`, "createdAt": `"2025-12-10T12:00:00.123Z"`, "lastUsedAt": `"2025-12-10T13:00:00.123Z"`,
		"expiresAt": `"2026-01-01T00:00:00.500Z"`, "kind": `"workspace"`, "workspace": `"demo"`, "user": `null`,
		"actions": `["infer","manage"]`, "models": `["meta/*"]`, "budget": `{"amount":"10.00","period":"month"}`,
		"limits":      `{"concurrentRequests":null,"requestsPerMinute":5,"tokensPerMinute":null}`,
		"environment": `"Production"`, "externalId": `null`, "labels": `{"team":"a"}`, "createdBy": `"operator"`,
	} {
		if got, err := json.Marshal(k[field]); err != nil || string(got) != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	secret, id := fmt.Sprint(k["key"]), fmt.Sprint(k["id"])
	if !strings.HasPrefix(secret, "tg_") || !strings.HasPrefix(secret, fmt.Sprint(k["prefix"])) || k["prefix"] == secret {
		t.Errorf("the key is %s, its prefix %v", secret, k["prefix"])
	}
	if r.header.Get("X-Tollgate-Revision") != "1" || r.header.Get("X-Tollgate-Replicas") != "1" {
		t.Errorf("headers %v", r.header)
	}
	if rec := s.store.Key(id); rec.Secrets[0].Digest != key.DigestOf(secret) {
		t.Error("another digest is stored")
	}

	used = at // not used
	r = s.must(200, "GET", one(id), operator, "")
	if !strings.Contains(r.body, `"lastUsedAt":null`) || strings.Contains(r.body, `"key"`) {
		t.Errorf("shown as %s", r.body)
	}
	if list := s.must(200, "GET", all, operator, ""); list.body != "["+r.body+"]" {
		t.Errorf("listed as %s, shown as %s", list.body, r.body)
	}

	r = s.must(200, "PATCH", one(id), operator, `{"name":null,"limits":{"tokensPerMinute":7},"labels":{"team":null,"env":"b"},"models":null,"expiresAt":null,"budget":null}`)
	for _, want := range []string{
		`"name":null`, `"requestsPerMinute":5`, `"tokensPerMinute":7`, `"labels":{"env":"b"}`, `"models":null`,
		`"expiresAt":null`, `"budget":null`, `"environment":"Production"`,
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("after a change it lacks %s: %s", want, r.body)
		}
	}

	r = s.must(204, "DELETE", one(id), operator, "")
	if r.body != "" || r.header.Get("X-Tollgate-Revision") != "3" {
		t.Errorf("a revocation answers %q %v", r.body, r.header)
	}
	for _, method := range []string{"DELETE", "GET", "PATCH"} {
		if r := s.must(404, method, one(id), operator, ""); !strings.Contains(r.body, "There is no such API key") {
			t.Errorf("%s of a revoked key: %s", method, r.body)
		}
	}
	if rec := s.store.Key(id); rec.Status != key.Revoked || rec.RevokedAt == nil {
		t.Errorf("stored as %+v", rec)
	}
}

func TestUnnamedKeys(t *testing.T) {
	s := serve(t)
	for _, body := range []string{"", "{}", " \n{ } ", `{"name":null}`, `{"name":""}`, `{"name":" \t\u00a0 "}`} {
		r := s.must(201, "POST", all, operator, body)
		if !strings.Contains(r.body, `"name":null`) {
			t.Errorf("%q made %s", body, r.body)
		}
	}
	// 100 characters, 200 bytes, and blanks around them.
	r := s.must(201, "POST", all, operator, `{"name":"  `+strings.Repeat("é", 100)+`  "}`)
	if !strings.Contains(r.body, strings.Repeat("é", 100)+`"`) {
		t.Errorf("100 characters made %s", r.body)
	}
}

// TestWrongBodies: each is refused with a message that names the field, and
// changes nothing.
func TestWrongBodies(t *testing.T) {
	s := serve(t, fixed(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	m := s.create(operator, `{"workspace":"demo","name":"before"}`)
	before := *s.store.Key(m.ID)
	for body, says := range map[string]string{
		`{"name":"` + strings.Repeat("é", 101) + `"}`: "name: has 101 characters; use at most 100",
		`{"name":5}`:                   "name: must be a string",
		`{"name":["a"]}`:               "name: must be a string",
		`{"Name":"a"}`:                 "Name: there is no such field",
		`{"nope":"a"}`:                 "nope: there is no such field",
		`{"name":"a","name":"b"}`:      "name: stands twice",
		`{"name":"a","\u006eame":"b"}`: "name: stands twice",
		"{\"name\":\"\xff\"}":          "not valid JSON",
		`{"name":"a"`:                  "not valid JSON",
		`{"name":"a"} x`:               "not valid JSON",
		`{name:"a"}`:                   "not valid JSON",
		`[]`:                           "must be a JSON object",
		`null`:                         "must be a JSON object",
		`"a"`:                          "must be a JSON object",
		`{"actions":[]}`:               "actions: a key needs at least one",
		`{"actions":null}`:             "actions: a key needs at least one",
		`{"actions":["fly"]}`:          `actions: there is no action \"fly\"`,
		`{"actions":"infer"}`:          "actions: must be a list",
		`{"actions":[1]}`:              "actions[0]: must be a string",
		`{"models":[]}`:                "models: an empty list",
		`{"models":["a*"]}`:            "models[0]: must be",
		`{"models":["a","b c"]}`:       "models[1]: must be",
		`{"models":["` + strings.Repeat("m", 257) + `"]}`:                "models[0]: must be",
		`{"limits":{"requestsPerMinute":0}}`:                             "limits.requestsPerMinute: must be from 1",
		`{"limits":{"tokensPerMinute":-1}}`:                              "limits.tokensPerMinute: must be from 1",
		`{"limits":{"tokensPerMinute":1.5}}`:                             "limits.tokensPerMinute: must be a whole number",
		`{"limits":{"tokensPerMinute":99999999999999999999}}`:            "limits.tokensPerMinute: must be a whole number",
		`{"limits":{"tokensPerMinute":"5"}}`:                             "limits.tokensPerMinute: must be a whole number",
		`{"limits":{"rpm":5}}`:                                           "limits.rpm: there is no such field",
		`{"limits":5}`:                                                   "limits: must be an object",
		`{"expiresAt":"2025-12-31T23:59:59Z"}`:                           "expiresAt: must be in the future",
		`{"expiresAt":"2026-01-01T00:00:00Z"}`:                           "expiresAt: must be in the future",
		`{"expiresAt":"tomorrow"}`:                                       "expiresAt: must be a time of RFC 3339",
		`{"expiresAt":"2027-01-01T00:00:00"}`:                            "expiresAt: must be a time of RFC 3339",
		`{"expiresAt":1800000000}`:                                       "expiresAt: must be a time of RFC 3339",
		`{"budget":{"period":"week","amount":"1"}}`:                      "budget.period: must be",
		`{"budget":{"period":"day","amount":1.5}}`:                       "budget.amount: must be a string",
		`{"budget":{"period":"day","amount":"1e9"}}`:                     "budget.amount: must be",
		`{"budget":{"period":"day","amount":"-1"}}`:                      "budget.amount: must be",
		`{"budget":{"period":"day"}}`:                                    "budget.amount: must be",
		`{"budget":{"period":"day","amount":"1.000000000000000000001"}}`: "budget.amount: must be",
		`{"environment":"` + strings.Repeat("e", 65) + `"}`:              "environment: is longer",
		`{"externalId":"` + strings.Repeat("e", 257) + `"}`:              "externalId: is longer",
		`{"labels":{"":"x"}}`:                                            "labels: a label's name",
		`{"labels":{"a":5}}`:                                             "labels.a: must be a string",
		`{"labels":{"a":"` + strings.Repeat("v", 257) + `"}}`:            "labels.a: is longer",
		`{"labels":["a"]}`:                                               "labels: must be an object",
		`{"name":"a\u0000b"}`:                                            "name: has control characters",
		`{"environment":"\u001b[31m"}`:                                   "environment: has control characters",
		`{"externalId":"a\nb"}`:                                          "externalId: has control characters",
		`{"labels":{"a":"\u0000"}}`:                                      "labels.a: has control characters",
		`{"labels":{"a\u007f":"b"}}`:                                     "labels: a label's name",
		`{"id":"018f"}`:                                                  "id: there is no such field",
		`{"key":"tg_mine"}`:                                              "key: there is no such field",
		`{"status":"active"}`:                                            "status: there is no such field",
		`{"labels":` + strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20001): "",
	} {
		for _, target := range []struct{ method, path string }{{"POST", all}, {"PATCH", one(m.ID)}} {
			r := s.must(400, target.method, target.path, operator, body)
			if !strings.Contains(r.body, says) {
				t.Errorf("%s of %.80s: %s, want %s", target.method, body, r.body, says)
			}
		}
	}
	for body, says := range map[string]string{
		`{"kind":"operator"}`:               "kind: must be",
		`{"kind":"personal"}`:               "user: a personal key belongs to a user",
		`{"kind":"workspace","user":"ada"}`: "user: a workspace key belongs to nobody",
		`{"user":"nobody"}`:                 `user: there is no user \"nobody\"`,
		`{"workspace":"other"}`:             "workspace: the query and the body",
		`{"kind":1}`:                        "kind: must be a string",
		`{"sha256":"zz"}`:                   "sha256: must be a string of 64 hexadecimal digits",
		`{"sha256":1}`:                      "sha256: must be a string of 64 hexadecimal digits",
	} {
		if r := s.must(400, "POST", all, operator, body); !strings.Contains(r.body, says) {
			t.Errorf("%s: %s, want %s", body, r.body, says)
		}
	}
	for path, says := range map[string]string{
		"/api/v1/api-keys":                     "workspace: there are several",
		"/api/v1/api-keys?workspace=no%20such": `workspace: there is no workspace`,
		all + "&limit=0":                       "limit: must be",
		all + "&limit=many":                    "limit: must be",
		all + "&limit=5&limit=6":               "limit: stands twice",
		all + "&cursor=x":                      "cursor: is not from",
		all + "&nope=1":                        "parameter that this endpoint does not know",
		all + "&limit=%zz":                     "query can't be read",
	} {
		if r := s.must(400, "GET", path, operator, ""); !strings.Contains(r.body, says) {
			t.Errorf("%s: %s, want %s", path, r.body, says)
		}
	}
	s.must(413, "POST", all, operator, `{"name":"`+strings.Repeat("x", 1<<20)+`"}`)
	s.must(415, "POST", all, operator, `{"name":"x"}`, "Content-Type: application/x-www-form-urlencoded")
	s.must(415, "POST", all, operator, `{"name":"x"}`, "Content-Type: text/json; =")
	s.must(415, "POST", all, operator, `{"name":"x"}`, "Content-Encoding: gzip")
	for _, id := range []string{"x", "*", "%3E", "..", strings.Repeat("0", 36), "a.b"} {
		s.do("DELETE", one(id), operator, "")
	}
	if after := *s.store.Key(m.ID); after.Revision != before.Revision {
		t.Errorf("a refused change was stored: %+v", after)
	}
	if list := s.must(200, "GET", all, operator, ""); strings.Count(list.body, `"id"`) != 1 {
		t.Errorf("a refused creation was stored: %s", list.body)
	}
}

func TestWorkspaceIsDefaultWhereThereIsOne(t *testing.T) {
	s := serve(t)
	s.must(400, "POST", "/api/v1/api-keys", operator, "")
	m := s.create(operator, `{"workspace":"other"}`)
	if !regexp.MustCompile(`^minds_[0-9a-f]{48}$`).MatchString(m.Key) {
		t.Errorf("the workspace's format made %s", m.Key)
	}
	if rec := s.store.Key(m.ID); len(rec.Actions) != 1 || rec.Actions[0] != key.Infer {
		t.Errorf("without defaults a key may %v", rec.Actions)
	}
	s.must(404, "GET", one(m.ID), operator, "")
}

func TestPages(t *testing.T) {
	var clock atomic.Int64
	s := serve(t, func(c *manage.Config) { // in which no two keys are of the same age
		c.Now = func() time.Time { return time.UnixMilli(1_800_000_000_000 + clock.Add(1)) }
	})
	var ids []string
	for i := range 7 {
		m := s.create(operator, fmt.Sprintf(`{"workspace":"demo","name":"k%d"}`, i))
		ids = append(ids, m.ID)
	}
	s.must(204, "DELETE", one(ids[1]), operator, "")
	ids = append(ids[:1], ids[2:]...)
	c, err := manage.NewClient(s.url, operator, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	query := map[string][]string{"workspace": {"demo"}, "limit": {"2"}}
	pages := 0
	for ; query != nil; pages++ {
		page, err := c.ListKeys(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Value {
			got = append(got, k.ID)
		}
		if pages == 0 {
			s.must(204, "DELETE", one(ids[1]), operator, "") // the cursor's own key
		}
		query = page.Next
	}
	if fmt.Sprint(got) != fmt.Sprint(ids) || pages != 3 {
		t.Errorf("%d pages with %v, want %v", pages, got, ids)
	}
}

// TestConcurrentChanges: none is lost, a revocation stays, and everybody gets an
// answer.
func TestConcurrentChanges(t *testing.T) {
	s := serve(t)
	m := s.create(operator, `{"workspace":"demo"}`)
	var wg sync.WaitGroup
	statuses := make([]int, 6)
	for i := range statuses {
		wg.Go(func() {
			statuses[i] = s.do("PATCH", one(m.ID), operator, fmt.Sprintf(`{"labels":{"l%d":"x"}}`, i)).status
		})
	}
	wg.Wait()
	for i, status := range statuses {
		if status != 200 {
			t.Errorf("change %d: %d", i, status)
		}
	}
	if labels := s.store.Key(m.ID).Labels; len(labels) != 6 {
		t.Errorf("labels %v", labels)
	}
	gone := make([]int, 8)
	for i := range gone {
		wg.Go(func() { gone[i] = s.do("DELETE", one(m.ID), operator, "").status })
	}
	wg.Wait()
	n := map[int]int{}
	for _, status := range gone {
		n[status]++
	}
	if n[204] != 1 || n[404] != 7 {
		t.Errorf("revocations answered %v", n)
	}
}

func TestConflictThatDoesNotEnd(t *testing.T) {
	s := serve(t)
	m := s.create(operator, `{"workspace":"demo"}`)
	s.store.Before = func(op string) error {
		if op == "put" {
			return key.ErrConflict
		}
		return nil
	}
	s.must(409, "PATCH", one(m.ID), operator, `{"name":"x"}`)
}

// TestRevocationOutlivesItsClient: a client that hangs up in the middle leaves
// the key revoked and applied.
func TestRevocationOutlivesItsClient(t *testing.T) {
	s := serve(t)
	m := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	ctx, cancel := context.WithCancel(t.Context())
	put := make(chan struct{})
	s.store.Before = func(op string) error {
		if op == "put" {
			cancel()
			<-put
		}
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.url+one(m.ID), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+operator)
	if resp, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
		resp.Body.Close()
		t.Fatalf("the client got %v", err)
	}
	close(put)
	deadline := time.Now().Add(time.Minute)
	for s.store.Key(m.ID).Status != key.Revoked || s.do("GET", "/api/v1/models", m.Key, "").status != 401 {
		if time.Now().After(deadline) {
			t.Fatal("the key still opens")
		}
	}
}
