package manage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"tollgate/authz/manage"
)

func TestEvents(t *testing.T) {
	s := serve(t)
	c, err := manage.NewClient(s.url, operator, nil)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := c.Events(t.Context(), url.Values{"since": {"1h"}})
	if err != nil || string(empty.Raw) != "[]" {
		t.Fatalf("no events are %s (%v)", empty.Raw, err)
	}
	if _, err := time.Parse(time.RFC3339, empty.Next.Get("since")); err != nil {
		t.Errorf("the next page begins at %v: the time between is lost", empty.Next)
	}
	for i := range 5 {
		s.store.AddEvent(fmt.Sprintf(`{"id":"%d","n":1.10}`, i))
	}
	r := s.must(200, "GET", "/api/v1/events?since=1h&limit=2", operator, "")
	if r.body != `[{"id":"0","n":1.10},{"id":"1","n":1.10}]` || r.header.Get("Content-Type") != "application/cloudevents-batch+json" {
		t.Errorf("events are %s %v", r.body, r.header)
	}
	var got []string
	for query := (url.Values{"since": {"1h"}, "limit": {"2"}}); ; {
		page, err := c.Events(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Value) == 0 {
			break
		}
		for _, v := range page.Value {
			var e struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(v, &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.ID)
		}
		query = page.Next
	}
	if strings.Join(got, "") != "01234" {
		t.Errorf("read %v", got)
	}

	answered := make(chan manage.Answer[[]string], 1)
	go func() {
		page, err := c.Events(t.Context(), url.Values{"after": {"5"}, "wait": {"30"}})
		if err != nil {
			t.Error(err)
		}
		answered <- manage.Answer[[]string]{Raw: page.Raw, Next: page.Next}
	}()
	s.store.AddEvent(`{"id":"5"}`)
	select {
	case page := <-answered:
		if string(page.Raw) != `[{"id":"5"}]` || page.Next.Get("after") != "6" {
			t.Errorf("waited for %s %v", page.Raw, page.Next)
		}
	case <-time.After(time.Minute):
		t.Error("a waiting reader gets nothing")
	}
	for _, query := range []string{"after=x", "after=-1", "after=99", "since=yesterday", "since=-5h", "limit=1001", "wait=31"} {
		s.must(400, "GET", "/api/v1/events?"+query, operator, "")
	}
}

// noted is Events that tells of who asks.
type noted struct {
	manage.Events
	asked func()
}

func (n noted) Read(ctx context.Context, after uint64, since time.Time, limit int, wait time.Duration) ([][]byte, uint64, error) {
	n.asked()
	return n.Events.Read(ctx, after, since, limit, wait)
}

// TestWhoHangsUpIsNoFailure: Ctrl-C ends tollgate events tail, which is nothing that an
// operator should be told of as a failure of the server.
func TestWhoHangsUpIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := serve(t, func(cfg *manage.Config) { cfg.Events = noted{cfg.Events, cancel} })
	c, err := manage.NewClient(s.url, operator, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Events(ctx, url.Values{"since": {"0s"}, "wait": {"30"}}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a reader that gave up got %v", err)
	}
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ended := len(s.served)
		s.mu.Unlock()
		if ended > 0 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal("the server goes on waiting for nobody")
		}
	}
	if log := s.log.String(); strings.Contains(log, "failed") {
		t.Errorf("logged: %s", log)
	}
}

func TestConsumers(t *testing.T) {
	s := serve(t)
	r := s.must(201, "POST", "/api/v1/consumers", operator, `{"name":"billing","workspace":"demo"}`)
	if !strings.Contains(r.body, `"password":"pw-billing"`) || !strings.Contains(r.body, `"durable":"billing"`) {
		t.Errorf("made %s", r.body)
	}
	if r = s.must(200, "GET", "/api/v1/consumers", operator, ""); strings.Contains(r.body, "pw-") || !strings.Contains(r.body, `"name":"billing","workspace":"demo"`) {
		t.Errorf("listed %s", r.body)
	}
	s.must(409, "POST", "/api/v1/consumers", operator, `{"name":"billing"}`)
	for _, body := range []string{"", "{}", `{"name":"A"}`, `{"name":"a.b"}`, `{"name":"` + strings.Repeat("a", 64) + `"}`, `{"name":"x","workspace":"none"}`} {
		s.must(400, "POST", "/api/v1/consumers", operator, body)
	}
	s.must(204, "DELETE", "/api/v1/consumers/billing", operator, "")
	s.must(404, "DELETE", "/api/v1/consumers/billing", operator, "")
	s.must(404, "DELETE", "/api/v1/consumers/%3E", operator, "")
	if strings.Contains(s.log.String(), "pw-") {
		t.Error("a password is in the log")
	}
}

// TestClientTellsWhoAnswers: what isn't the API is not taken for it, and no key
// follows a redirect.
func TestClientTellsWhoAnswers(t *testing.T) {
	if _, err := manage.NewClient("ftp://x", operator, nil); err == nil {
		t.Error("ftp passed")
	}
	s := serve(t)
	c, err := manage.NewClient(strings.TrimPrefix(s.url, "http://"), "wrong", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListConsumers(t.Context()); err == nil || err.Error() != "Invalid or missing API key" {
		t.Errorf("a wrong key gives %v", err)
	}
	if _, err := c.Key(t.Context(), "demo", "../consumers"); err == nil {
		t.Error("an id is a path")
	}
}
