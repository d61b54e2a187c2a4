package manage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz/manage"
)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func ticking(c *clock) func(*manage.Config) { return func(cfg *manage.Config) { cfg.Now = c.now } }

func newClock() *clock { return &clock{at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (s *service) rotate(secret, id, body string) made {
	s.t.Helper()
	var m made
	r := s.must(200, "POST", "/api/v1/api-keys/"+id+"/rotate?workspace=demo", secret, body)
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || m.ID != id || m.Key == "" {
		s.t.Fatalf("a rotation answered %s (%v)", r.body, err)
	}
	return m
}

// opens reports whether a secret opens the API.
func (s *service) opens(secret string) bool {
	s.t.Helper()
	switch status := s.do("GET", "/api/v1/models", secret, "").status; status {
	case 200:
		return true
	case 401:
		return false
	default:
		s.t.Fatalf("status %d", status)
		return false
	}
}

func TestRotation(t *testing.T) {
	c := newClock()
	s := serve(t, ticking(c))
	one := s.create(operator, `{"workspace":"demo","name":"x"}`)
	s.must(200, "GET", "/api/v1/models", one.Key, "")
	c.advance(time.Second)
	two := s.rotate(one.Key, one.ID, `{"gracePeriod":"2s"}`)
	if !s.opens(one.Key) || !s.opens(two.Key) || one.Key == two.Key {
		t.Fatal("in the grace period one of both does not open")
	}
	puts := 0
	s.store.Before = func(op string) error {
		if op == "put" {
			puts++
		}
		return nil
	}
	c.advance(2*time.Second - time.Millisecond)
	if !s.opens(one.Key) {
		t.Error("the grace period ends too early")
	}
	c.advance(time.Millisecond)
	if s.opens(one.Key) || !s.opens(two.Key) || puts != 0 {
		t.Errorf("after the grace period, and %d writes", puts)
	}

	// Each secret tells when it was used last.
	c.advance(time.Second)
	r := s.must(200, "GET", "/api/v1/api-keys/"+one.ID, two.Key, "")
	var k manage.Key
	if err := json.Unmarshal([]byte(r.body), &k); err != nil {
		t.Fatal(err)
	}
	if len(k.Secrets) != 2 || k.Secrets[0].Number != 2 || k.Secrets[1].Number != 1 || k.Prefix != k.Secrets[0].Prefix ||
		!strings.HasPrefix(two.Key, k.Secrets[0].Prefix) || !strings.HasPrefix(one.Key, k.Secrets[1].Prefix) ||
		k.Secrets[1].ExpiresAt == nil || time.Time(*k.Secrets[1].LastUsedAt).Equal(time.Time(*k.Secrets[0].LastUsedAt)) ||
		!time.Time(*k.LastUsedAt).Equal(time.Time(*k.Secrets[0].LastUsedAt)) || strings.Contains(r.body, two.Key) {
		t.Errorf("shown as %s", r.body)
	}
}

func TestRotationOfARotatingKey(t *testing.T) {
	c := newClock()
	s := serve(t, ticking(c))
	one := s.create(operator, `{"workspace":"demo"}`)
	two := s.rotate(one.Key, one.ID, `{"gracePeriod":"1h"}`)
	three := s.rotate(two.Key, one.ID, `{"gracePeriod":"1h"}`)
	if s.opens(one.Key) || !s.opens(two.Key) || !s.opens(three.Key) {
		t.Error("the oldest secret is not the one that died")
	}
	// Either secret can be revoked alone, and the other one opens on.
	s.must(204, "DELETE", "/api/v1/api-keys/"+one.ID+"/secrets/3", two.Key, "")
	if s.opens(three.Key) || !s.opens(two.Key) {
		t.Error("the newest secret was revoked alone")
	}
	s.must(409, "DELETE", "/api/v1/api-keys/"+one.ID+"/secrets/2", two.Key, "")
	for _, number := range []string{"3", "1", "0", "4", "x", "-2", "99999999999999999999"} {
		s.must(404, "DELETE", "/api/v1/api-keys/"+one.ID+"/secrets/"+number, two.Key, "")
	}
	four := s.rotate(operator, one.ID, ``)
	if s.opens(two.Key) || !s.opens(four.Key) {
		t.Error("without a grace period the old secret is dead at once")
	}
	for _, bad := range []string{`{"gracePeriod":"soon"}`, `{"gracePeriod":"-1s"}`, `{"gracePeriod":"91d"}`, `{"gracePeriod":2}`, `{"grace":"2s"}`, `[]`} {
		s.must(400, "POST", "/api/v1/api-keys/"+one.ID+"/rotate", four.Key, bad)
	}
	s.must(204, "DELETE", "/api/v1/api-keys/"+one.ID, four.Key, "")
	s.must(404, "POST", "/api/v1/api-keys/"+one.ID+"/rotate?workspace=demo", operator, "")
}

// TestGraceGivesNothingOn: who presents a secret in its grace period can't make
// what outlives it: neither a key, nor a secret.
func TestGraceGivesNothingOn(t *testing.T) {
	c := newClock()
	s := serve(t, ticking(c))
	one := s.create(operator, `{"workspace":"demo"}`)
	two := s.rotate(one.Key, one.ID, `{"gracePeriod":"1h"}`)
	child := s.create(one.Key, ``)
	if at := s.store.Key(child.ID).ExpiresAt; at == nil || !at.Equal(c.now().Add(time.Hour)) {
		t.Errorf("a key made by it ends at %v", at)
	}
	s.must(403, "POST", "/api/v1/api-keys", one.Key, `{"expiresAt":null}`)
	s.must(403, "POST", "/api/v1/api-keys/"+one.ID+"/rotate", one.Key, ``)
	s.must(403, "PATCH", "/api/v1/api-keys/"+one.ID, one.Key, `{"name":"x"}`)
	s.must(200, "PATCH", "/api/v1/api-keys/"+one.ID, two.Key, `{"name":"x"}`)
	s.must(204, "DELETE", "/api/v1/api-keys/"+one.ID, one.Key, ``) // taking away is safe
}

// TestRotationGivesNothing: the answer shows a secret, so it takes a key that may
// as much.
func TestRotationGivesNothing(t *testing.T) {
	s := serve(t)
	weak := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	strong := s.create(operator, `{"workspace":"demo","actions":["infer","manage","metrics"]}`)
	if r := s.must(403, "POST", "/api/v1/api-keys/"+strong.ID+"/rotate", weak.Key, ""); !strings.Contains(r.body, "metrics") {
		t.Errorf("refused by %s", r.body)
	}
	s.rotate(strong.Key, weak.ID, "")
}

// TestLimitedKeys: a key that is limited to some models manages the keys that
// open nothing beside these; the others don't exist for it.
func TestLimitedKeys(t *testing.T) {
	s := serve(t)
	limited := s.create(operator, `{"workspace":"demo","models":["meta/*"]}`)
	under := s.create(operator, `{"workspace":"demo","models":["meta/a","meta/b/*"]}`)
	for _, models := range []string{`null`, `["*"]`, `["meta/a","gpt/x"]`, `["met/*"]`} {
		over := s.create(operator, `{"workspace":"demo","models":`+models+`}`)
		for _, call := range []struct{ method, path string }{
			{"GET", ""}, {"PATCH", ""}, {"DELETE", ""}, {"POST", "/rotate"}, {"DELETE", "/secrets/1"},
		} {
			got := s.must(404, call.method, "/api/v1/api-keys/"+over.ID+call.path, limited.Key, "")
			none := s.must(404, call.method, "/api/v1/api-keys/01990000-0000-7000-8000-000000000000"+call.path, limited.Key, "")
			if got.body != none.body {
				t.Errorf("%s%s: %s", call.method, call.path, got.body)
			}
		}
		if list := s.must(200, "GET", "/api/v1/api-keys", limited.Key, ""); strings.Contains(list.body, over.ID) {
			t.Errorf("it lists a key for %s", models)
		}
	}
	for _, m := range []made{under, limited} {
		s.must(200, "GET", "/api/v1/api-keys/"+m.ID, limited.Key, "")
	}
	s.rotate(limited.Key, under.ID, "")
	s.must(204, "DELETE", "/api/v1/api-keys/"+under.ID, limited.Key, "")
}

// TestIfMatch: what was changed since it was read is not changed.
func TestIfMatch(t *testing.T) {
	s := serve(t)
	m := s.create(operator, `{"workspace":"demo"}`)
	path := "/api/v1/api-keys/" + m.ID
	tag := s.must(200, "GET", path, m.Key, "").header.Get("ETag")
	r := s.must(200, "PATCH", path, m.Key, `{"name":"a"}`, "If-Match: "+tag)
	if r.header.Get("ETag") == tag {
		t.Error("a change has the same ETag")
	}
	for _, call := range []struct{ method, path string }{{"PATCH", ""}, {"POST", "/rotate"}, {"DELETE", ""}, {"DELETE", "/secrets/1"}} {
		s.must(412, call.method, path+call.path, m.Key, "", "If-Match: "+tag)
	}
	s.must(400, "POST", "/api/v1/api-keys", m.Key, "", "If-Match: *")
	s.must(200, "PATCH", path, m.Key, `{"name":"b"}`, `If-Match: "0", `+r.header.Get("ETag"))
	s.must(200, "PATCH", path, m.Key, `{"name":"c"}`, "If-Match: *")
	if name := s.store.Key(m.ID).Name; name != "c" {
		t.Errorf("the name is %s", name)
	}

	// Two who read the same: one of them changes it.
	tag = s.must(200, "GET", path, m.Key, "").header.Get("ETag")
	statuses := make([]int, 8)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() {
			statuses[i] = s.do("PATCH", path+"?workspace=demo", operator, fmt.Sprintf(`{"name":"n%d"}`, i), "If-Match: "+tag).status
		})
	}
	wg.Wait()
	n := map[int]int{}
	for _, status := range statuses {
		n[status]++
	}
	if n[200] != 1 || n[412] != 7 {
		t.Errorf("answers %v", n)
	}
}

// TestPropagationIsTold: who has applied a change, and who has not.
func TestPropagationIsTold(t *testing.T) {
	certain := time.Date(2026, 1, 1, 0, 0, 15, 5e6, time.UTC)
	var waited time.Duration
	s := serve(t, func(c *manage.Config) {
		c.Wait = func(ctx context.Context, revision uint64) manage.Propagation {
			deadline, _ := ctx.Deadline()
			waited = time.Until(deadline).Round(time.Second)
			return manage.Propagation{Revision: revision, Replicas: []string{"a", "b"}, Away: []string{"c", "d"}, CertainAt: certain}
		}
	})
	m := s.create(operator, `{"workspace":"demo"}`)
	h := s.must(200, "PATCH", one(m.ID)+"&wait=5s", operator, `{"name":"x"}`).header
	if h.Get("X-Tollgate-Revision") != "2" || h.Get("X-Tollgate-Replicas") != "2" || h.Get("X-Tollgate-Replicas-Away") != "c,d" ||
		h.Get("X-Tollgate-Certain-At") != "2026-01-01T00:00:15.005Z" || waited != 5*time.Second {
		t.Errorf("waited %v, headers %v", waited, h)
	}
	for _, bad := range []string{"soon", "-1s", "61s", "5"} {
		s.must(400, "DELETE", one(m.ID)+"&wait="+bad, operator, "")
	}
	s.must(400, "GET", one(m.ID)+"&wait=1s", operator, "")
	c, err := manage.NewClient(s.url, operator, nil)
	if err != nil {
		t.Fatal(err)
	}
	reach, err := c.RevokeKey(t.Context(), "demo", m.ID)
	if err != nil || reach.Revision != 3 || reach.Replicas != 2 || len(reach.Away) != 2 || !reach.CertainAt.Equal(certain) || waited != time.Minute {
		t.Errorf("revoked with %+v (%v), waited %v", reach, err, waited)
	}
}
