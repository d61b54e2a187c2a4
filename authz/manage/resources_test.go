package manage_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// counts is manage.Resources in memory.
type counts struct {
	tallies map[authz.Resource]authz.Tally
	away    bool
}

func (c *counts) Tally(_ context.Context, r authz.Resource) (authz.Tally, error) {
	if c.away {
		return authz.Tally{}, fmt.Errorf("%w: no responders", key.ErrUnavailable)
	}
	return c.tallies[r], nil
}

func (c *counts) Correct(_ context.Context, r authz.Resource, count int64) error {
	t := c.tallies[r]
	t.Count = count
	c.tallies[r] = t
	return nil
}

func minds(workspace string) authz.Resource {
	return authz.Resource{Tenant: authz.Tenant{Workspace: workspace}, Name: "minds"}
}

func TestResourcesAreToldAndCorrected(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	c := &counts{tallies: map[authz.Resource]authz.Tally{
		minds("demo"): {Count: 2, Held: map[string]time.Time{"a": now.Add(time.Hour), "b": now.Add(-time.Hour)}},
	}}
	s := serve(t, fixed(now), func(cfg *manage.Config) { cfg.Resources = c })
	s.apply("", strings.Replace(plainCatalog, "{id: lite, ", "{id: lite, resources: {minds: 3}, ", 1)+"routes: [{dialect: minds}]\n")

	const told = `"resources":{"flows":{"count":0,"held":0,"cap":null},"minds":{"count":2,"held":1,"cap":3}}`
	if r := s.must(200, "GET", "/api/v1/workspaces/demo", operator, ""); !strings.Contains(r.body, told) {
		t.Errorf("told: %s", r.body)
	}
	if r := s.must(200, "GET", "/api/v1/workspaces", operator, ""); strings.Contains(r.body, "resources") {
		t.Errorf("in a list: %s", r.body)
	}
	if r := s.must(200, "PATCH", "/api/v1/workspaces/demo", operator, `{"resources":{"minds":1},"labels":{"a":"b"}}`); !strings.Contains(r.body, `"minds":{"count":1,"held":1,"cap":3}`) ||
		!strings.Contains(r.body, `"labels":{"a":"b"}`) {
		t.Errorf("corrected: %s", r.body)
	}
	if c.tallies[minds("demo")].Count != 1 || len(c.tallies[minds("demo")].Held) != 2 {
		t.Errorf("%+v", c.tallies)
	}
	trail := s.store.Trail()
	last := trail[len(trail)-1]
	if before, after := last.Before.String(), last.After.String(); !strings.Contains(before, `"count":2`) || !strings.Contains(after, `"count":1`) {
		t.Errorf("the audit trail has %s, then %s", before, after)
	}

	for body, want := range map[string]string{
		`{"resources":{"mice":1}}`:   "resources.mice: is nothing that is counted here: flows, minds",
		`{"resources":{"minds":-1}}`: "resources.minds: is a count: 0 or more",
		`{"resources":null}`:         "resources: say how many there are of each",
	} {
		if r := s.must(400, "PATCH", "/api/v1/workspaces/demo", operator, body); !strings.Contains(r.body, want) {
			t.Errorf("%s: %s", body, r.body)
		}
	}
	s.must(400, "POST", "/api/v1/workspaces", operator, `{"id":"new","plan":"lite","resources":{"minds":1}}`)
	s.must(404, "PATCH", "/api/v1/workspaces/nobodys", operator, `{"resources":{"minds":1}}`)
	admin := s.create(operator, `{"workspace":"demo","actions":["manage"]}`)
	s.must(403, "PATCH", "/api/v1/workspaces/demo", admin.Key, `{"resources":{"minds":0}}`)
	s.must(404, "PATCH", "/api/v1/workspaces/other", admin.Key, `{"resources":{"minds":0}}`)
	if r := s.must(200, "GET", "/api/v1/workspaces/demo", admin.Key, ""); !strings.Contains(r.body, `"minds":{"count":1,"held":1,"cap":3}`) {
		t.Errorf("told to its admin: %s", r.body)
	}

	c.away = true
	s.must(503, "GET", "/api/v1/workspaces/demo", operator, "")
	s.must(503, "PATCH", "/api/v1/workspaces/demo", operator, `{"resources":{"minds":1}}`)
	s.must(200, "PATCH", "/api/v1/workspaces/demo", operator, `{"labels":{"a":"c"}}`)
}
