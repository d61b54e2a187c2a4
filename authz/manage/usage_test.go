package manage_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
	"tollgate/authz/money"
)

var usedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// bits adds usages of 1, 2, 4, ... requests, so that a sum tells of which it is.
type bits struct {
	s    *service
	next int64
}

func (b *bits) use(workspace, user, keyID, model string) int64 {
	b.next = max(1, b.next*2)
	b.s.store.AddUsage(managetest.Usage{
		At: usedAt.Add(time.Duration(b.next) * time.Second), Workspace: workspace, User: user, Key: keyID, Model: model,
		UsageCounts: manage.UsageCounts{Requests: b.next, InputTokens: 10 * b.next, OutputTokens: 3 * b.next},
	})
	return b.next
}

// sum asks for one row.
func (s *service) sum(secret, query string) int64 {
	s.t.Helper()
	var rows []manage.UsageRow
	r := s.must(200, "GET", "/api/v1/usage"+query, secret, "")
	if err := json.Unmarshal([]byte(r.body), &rows); err != nil || len(rows) != 1 || rows[0].InputTokens != 10*rows[0].Requests {
		s.t.Fatalf("%s (%v)", r.body, err)
	}
	return rows[0].Requests
}

func (s *service) keySum(secret, id, query string) manage.KeyUsage {
	s.t.Helper()
	var u manage.KeyUsage
	r := s.must(200, "GET", "/api/v1/api-keys/"+id+"/usage"+query, secret, "")
	if err := json.Unmarshal([]byte(r.body), &u); err != nil || u.ID != id {
		s.t.Fatalf("%s (%v)", r.body, err)
	}
	return u
}

// TestWhoSeesWhichUsage: for every kind of caller, the sum is of exactly the uses
// that it may see, however it asks.
func TestWhoSeesWhichUsage(t *testing.T) {
	s := serve(t)
	shared := s.create(operator, `{"workspace":"demo"}`)
	ada := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	second := s.create(operator, `{"workspace":"demo","user":"max","actions":["infer"]}`)
	narrow := s.create(operator, `{"workspace":"demo","models":["meta/*"]}`)
	sibling := s.create(operator, `{"workspace":"demo","models":["meta/a"],"actions":["infer"]}`)
	other := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	gone := s.create(operator, `{"workspace":"demo","user":"max"}`)
	s.must(204, "DELETE", "/api/v1/api-keys/"+gone.ID, ada.Key, "")

	b := &bits{s: s}
	uShared := b.use("demo", "", shared.ID, "meta/a")
	uAda := b.use("demo", "ada", ada.ID, "meta/a")
	uMember := b.use("demo", "max", member.ID, "own/x") + b.use("demo", "max", member.ID, "meta/a")
	uSecond := b.use("demo", "max", second.ID, "own/x")
	uNarrow := b.use("demo", "", narrow.ID, "meta/b")
	uNarrowBefore := b.use("demo", "", narrow.ID, "own/x") // before it was limited
	uSibling := b.use("demo", "", sibling.ID, "meta/a")
	uOther := b.use("other", "", other.ID, "meta/a")
	uGone := b.use("demo", "max", gone.ID, "own/x") // revoked since
	uNobody := b.use("demo", "", "", "meta/a")      // observed, without a key
	demo := uShared + uAda + uMember + uSecond + uNarrow + uNarrowBefore + uSibling + uGone + uNobody

	for _, c := range []struct {
		who    string
		secret string
		query  string
		want   int64
	}{
		{"the operator", operator, "", demo + uOther},
		{"the operator", operator, "?workspace=other", uOther},
		{"the operator", operator, "?workspace=deleted-one", 0},
		{"the operator", operator, "?workspace=demo&user=max", uMember + uSecond + uGone},
		{"the operator", operator, "?workspace=demo&key=" + gone.ID, uGone},
		{"a workspace key", shared.Key, "", demo},
		{"a workspace key", shared.Key, "?workspace=demo", demo},
		{"a workspace key", shared.Key, "?key=" + other.ID, 0},
		{"an admin", ada.Key, "", demo},
		{"an admin", ada.Key, "?user=max", uMember + uSecond + uGone},
		{"a member", member.Key, "", uMember + uSecond + uGone},
		{"a member", member.Key, "?user=max&key=" + second.ID, uSecond},
		{"a member", member.Key, "?key=" + ada.ID, 0},
		{"a key limited to models", narrow.Key, "", uNarrow + uSibling},
		{"a key limited to models", narrow.Key, "?model=own/x", 0},
		{"a key limited to models", narrow.Key, "?key=" + shared.ID, 0},
		{"another workspace", other.Key, "", uOther},
	} {
		if got := s.sum(c.secret, c.query); got != c.want {
			t.Errorf("%s sees %b by %q, want %b", c.who, got, c.query, c.want)
		}
	}
	s.must(400, "GET", "/api/v1/usage?workspace=other", shared.Key, "")
	s.must(400, "GET", "/api/v1/usage?user=ada", member.Key, "")
	s.must(403, "GET", "/api/v1/usage", second.Key, "")

	// One key's usage: by whoever sees the key, and by itself.
	for _, c := range []struct {
		who    string
		secret string
		of     made
		want   int64 // 0: it isn't there
	}{
		{"itself", second.Key, second, uSecond},
		{"itself, beyond its models", narrow.Key, narrow, uNarrow + uNarrowBefore},
		{"an admin", ada.Key, member, uMember},
		{"a member", member.Key, second, uSecond},
		{"a member", member.Key, shared, 0},
		{"a key limited to models", narrow.Key, sibling, uSibling},
		{"a key limited to models", narrow.Key, shared, 0},
		{"another workspace", other.Key, shared, 0},
		{"an admin, of a revoked one", ada.Key, gone, 0},
	} {
		if c.want == 0 {
			got := s.must(404, "GET", "/api/v1/api-keys/"+c.of.ID+"/usage", c.secret, "")
			none := s.must(404, "GET", "/api/v1/api-keys/01990000-0000-7000-8000-000000000000/usage", c.secret, "")
			if got.body != none.body {
				t.Errorf("%s is told %s", c.who, got.body)
			}
			continue
		}
		u := s.keySum(c.secret, c.of.ID, "")
		if u.Requests != c.want || u.OutputTokens != 3*c.want {
			t.Errorf("%s sees %b, want %b", c.who, u.Requests, c.want)
		}
		sum := int64(0)
		for _, row := range u.ByModel {
			sum += row.Requests
		}
		if sum != u.Requests {
			t.Errorf("%s: the models make %d of %d", c.who, sum, u.Requests)
		}
	}
	s.must(403, "GET", "/api/v1/api-keys/"+member.ID+"/usage", second.Key, "")
	s.must(400, "GET", "/api/v1/api-keys/"+second.ID+"/usage?workspace=other", second.Key, "")
	for _, query := range []string{"", "?workspace=demo"} { // the id is enough, also where there are several workspaces
		if u := s.keySum(operator, second.ID, query); u.Requests != uSecond || u.LastUsedAt == nil {
			t.Errorf("the operator sees %+v", u)
		}
	}
}

// TestUsageOfPredecessors: whoever has a workspace's or a user's id now sees
// nothing of the one that had it before; the operator does.
func TestUsageOfPredecessors(t *testing.T) {
	s := serve(t)
	b := &bits{s: s}
	makeOne := func() made {
		s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"fresh","plan":"lite"}`)
		return s.create(operator, `{"workspace":"fresh","actions":["infer","manage"]}`)
	}
	first := makeOne()
	before := b.use("fresh", "", first.ID, "m") + b.use("fresh", "", "", "m")
	s.must(204, "DELETE", "/api/v1/workspaces/fresh", operator, "")
	now := makeOne()
	after := b.use("fresh", "", now.ID, "m")
	if got := s.sum(now.Key, ""); got != after {
		t.Errorf("a workspace of a known id sees %b, want %b", got, after)
	}
	if got := s.sum(operator, "?workspace=fresh"); got != before+after {
		t.Errorf("the operator sees %b", got)
	}

	max1 := s.create(operator, `{"workspace":"demo","user":"max"}`)
	b.use("demo", "max", max1.ID, "m")
	s.must(204, "DELETE", "/api/v1/users/max?workspace=demo", operator, "")
	s.must(201, "POST", "/api/v1/users?workspace=demo", operator, `{"id":"max"}`)
	max2 := s.create(operator, `{"workspace":"demo","user":"max"}`)
	mine := b.use("demo", "max", max2.ID, "m")
	if got := s.sum(max2.Key, ""); got != mine {
		t.Errorf("a user of a known id sees %b, want %b", got, mine)
	}
}

func TestUsageRows(t *testing.T) {
	now := usedAt.Add(36 * time.Hour)
	s := serve(t, fixed(now))
	k := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	add := func(at time.Time, user, id, model string) {
		s.store.AddUsage(managetest.Usage{At: at, Workspace: "demo", User: user, Key: id, Model: model,
			UsageCounts: manage.UsageCounts{Requests: 1, InputTokens: 10, CacheReadInputTokens: 4, CacheCreationInputTokens: 3, OutputTokens: 7, ReasoningOutputTokens: 2,
				ListCost: money.New(3, 18), Cost: money.New(-12, 19)}})
	}
	add(usedAt, "ada", k.ID, "meta/a")
	add(usedAt.Add(24*time.Hour), "", "", "")
	const counts = `"requests":1,"inputTokens":10,"cacheReadInputTokens":4,"cacheCreationInputTokens":3,"outputTokens":7,"reasoningOutputTokens":2,` +
		`"listCost":"0.000000000000000003","cost":"-0.0000000000000000012"`
	for query, want := range map[string]string{
		"groupBy=day,model":                           `[{"start":"2026-01-02T00:00:00.000Z","model":"meta/a",` + counts + `},{"start":"2026-01-03T00:00:00.000Z","model":"",` + counts + `}]`,
		"groupBy=hour&model=meta/a":                   `[{"start":"2026-01-02T03:00:00.000Z",` + counts + `}]`,
		"groupBy=minute&to=24h":                       `[{"start":"2026-01-02T03:04:00.000Z",` + counts + `}]`,
		"groupBy=user&from=13h":                       `[{"user":"",` + counts + `}]`,
		"groupBy=workspace&from=2026-01-03T00:00:00Z": `[{"workspace":"demo",` + counts + `}]`,
		"groupBy=key,user&from=2026-01-02T03:04:05Z&to=2026-01-02T03:04:06Z": `[{"workspace":"demo","key":"` + k.ID + `","user":"ada",` + counts + `}]`,
		"groupBy=model&from=1h":     `[]`,
		"groupBy=model&key=" + k.ID: `[{"model":"meta/a",` + counts + `}]`, // whatever its workspace
	} {
		if r := s.must(200, "GET", "/api/v1/usage?"+query, operator, ""); r.body != want {
			t.Errorf("%s: %s, want %s", query, r.body, want)
		}
	}
	// Using the key here, too, is a use.
	r := s.must(200, "GET", "/api/v1/api-keys/"+k.ID+"/usage", k.Key, "")
	if want := fmt.Sprintf(`{"id":%q,"workspace":"demo",%s,"lastUsedAt":%q,"budget":null,"byModel":[{"model":"meta/a",%s}]}`,
		k.ID, counts, now.Format("2006-01-02T15:04:05.000Z"), counts); r.body != want {
		t.Errorf("%s, want %s", r.body, want)
	}
	for query, says := range map[string]string{
		"groupBy=day,hour": "one of day, hour and minute",
		"groupBy=model,":   "is not one of",
		"groupBy=price":    "is not one of",
		"from=yesterday":   "must be a time such as",
		"from=1h&to=1h":    "must be after from",
		"from=2030-02-30":  "must be a time such as",
		"to=2020-01-01&from=2020-01-01T00:00:00Z": "must be after from",
		"key=x":              "is not the id of a key",
		"workspace=%3E":      "workspace:",
		"groupBy=a&groupBy=": "stands twice",
	} {
		if r := s.must(400, "GET", "/api/v1/usage?"+query, operator, ""); !strings.Contains(r.body, says) {
			t.Errorf("%s: %s", query, r.body)
		}
	}
}

// TestUsageOfAKeyByItsID: the operator needs to name no workspace, also of a key that was
// revoked or whose workspace is gone, and is told of one that never was.
func TestUsageOfAKeyByItsID(t *testing.T) {
	s := serve(t)
	b := &bits{s: s}
	s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"gone","plan":"lite"}`)
	k := s.create(operator, `{"workspace":"gone"}`)
	used := b.use("gone", "", k.ID, "m")
	b.use("other", "", s.create(operator, `{"workspace":"other"}`).ID, "m")
	for _, after := range []string{"nothing", "DELETE /api/v1/api-keys/" + k.ID, "DELETE /api/v1/workspaces/gone"} {
		if method, path, change := strings.Cut(after, " "); change {
			s.must(204, method, path, operator, "")
		}
		if got := s.sum(operator, "?key="+k.ID); got != used {
			t.Errorf("after %s it used %b, want %b", after, got, used)
		}
	}
	if r := s.must(404, "GET", "/api/v1/usage?key=01940000-0000-7000-8000-00000000ffff", operator, ""); !strings.Contains(r.body, "There is no such API key") {
		t.Errorf("of a key that never was: %s", r.body)
	}
}

func TestUsageSaysHowCurrentItIs(t *testing.T) {
	s := serve(t)
	c, err := manage.NewClient(s.url, operator, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{0, 7, -1} {
		s.store.SetPending(n)
		a, err := c.Usage(t.Context(), url.Values{"from": {"24h"}})
		if err != nil || len(a.Value) != 1 {
			t.Fatalf("%s (%v)", a.Raw, err)
		}
		if known := a.Pending != nil; known != (n >= 0) || known && *a.Pending != uint64(n) {
			t.Errorf("pending %v, want %d", a.Pending, n)
		}
	}
	r := s.must(200, "GET", "/api/v1/usage?from=2026-01-02T03:04:00Z", operator, "")
	if r.header.Get("X-Tollgate-Usage-Pending") != "unknown" || r.header.Get("X-Tollgate-Usage-From") != "2026-01-02T03:04:00.000Z" || r.header.Get("X-Tollgate-Usage-To") != "" {
		t.Errorf("told %v", r.header)
	}
	k := s.create(operator, `{"workspace":"demo"}`)
	u, err := c.KeyUsage(t.Context(), k.ID, url.Values{"workspace": {"demo"}})
	if err != nil || u.Value.ID != k.ID || u.Value.ByModel == nil {
		t.Errorf("%s (%v)", u.Raw, err)
	}

	none := serve(t, func(cfg *manage.Config) { cfg.Totals = nil })
	none.must(404, "GET", "/api/v1/usage", operator, "")
}
