package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz/catalog"
)

const fleetCatalog = `
workspaces: [{id: demo, plan: lite}]
plans: [{id: lite}]
models: [{id: m, upstreams: [{url: "http://127.0.0.1:9100"}]}]
routes: [{dialect: openai}]
`

// tablesOf is a catalog, changed by pairs of what was there and what is.
func tablesOf(t *testing.T, changes ...string) *catalog.Tables {
	t.Helper()
	c, err := catalog.Parse("test", []byte(strings.NewReplacer(changes...).Replace(fleetCatalog)))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// startFleet is a fleet that has just started, without Envoys.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := newFleet(&settings{gateway: address{value: "127.0.0.1:1"}, grpc: address{value: "127.0.0.1:2"}, bound: defaultBound}, "token")
	t.Cleanup(f.Close)
	if err := f.Finish(tablesOf(t)); err != nil {
		t.Fatal(err)
	}
	return f
}

// What Envoys must change for waits for those that may come back after a start;
// what they need not doesn't wait at all.
func TestPrepareWaitsForEnvoysOnly(t *testing.T) {
	for name, c := range map[string]struct {
		changes []string
		waits   time.Duration
	}{
		"nothing":        {nil, 0},
		"a limit":        {[]string{"{id: lite}", "{id: lite, limits: {requestsPerMinute: 5}}"}, 0},
		"a workspace":    {[]string{"{id: demo, plan: lite}", "{id: demo, plan: lite, suspended: true}, {id: other, plan: lite}"}, 0},
		"a price":        {[]string{"{id: m,", `{id: m, rates: {input: "1"},`}, 0},
		"undeployed":     {[]string{"{id: m,", "{id: m, deployed: false,"}, 0},
		"an upstream":    {[]string{"9100", "9101"}, comeBack},
		"a model":        {[]string{"models: [", `models: [{id: n, upstreams: [{url: "http://127.0.0.1:9100"}]}, `}, comeBack},
		"a route":        {[]string{"{dialect: openai}", "{dialect: openai}, {dialect: podstack}"}, comeBack},
		"a route's time": {[]string{"{dialect: openai}", "{dialect: openai, maxDuration: 2m}"}, comeBack},
		"a tag":          {[]string{"routes:", "settings: {tagHeaders: [x-tag]}\nroutes:"}, comeBack},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := startFleet(t)
				before := time.Now()
				if err := f.Prepare(t.Context(), tablesOf(t), tablesOf(t, c.changes...)); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(before); d != c.waits {
					t.Errorf("it took %v, want %v", d, c.waits)
				}
			})
		})
	}
}

// A credential that would leave the machine is refused whatever else changes, also
// where another replica would send it.
func TestPrepareRefusesCredentials(t *testing.T) {
	t.Setenv("UPSTREAM_KEY", "secret")
	with := tablesOf(t, "{id: m, upstreams: [{url: \"http://127.0.0.1:9100\"}]}", "{id: m, upstreams: [{url: \"http://127.0.0.1:9100\"}]}, {id: x, cluster: c, credential: env:UPSTREAM_KEY}")
	for _, c := range []struct {
		grpc, replicas string
		refused        bool
	}{
		{"127.0.0.1:1", "", false},
		{"[::1]:1", "localhost:1, 127.0.0.1:2", false},
		{"0.0.0.0:1", "", true},
		{":1", "", true},
		{"127.0.0.1:1", "127.0.0.1:1,10.0.0.2:1", true},
		{"10.0.0.1:1", "127.0.0.1:1", true},
	} {
		s := &settings{grpc: address{value: c.grpc}, gateway: address{value: "127.0.0.1:3"}, replicas: c.replicas, bound: defaultBound}
		f := newFleet(s, "token")
		f.started = f.started.Add(-comeBack)
		err := f.Prepare(t.Context(), tablesOf(t), with)
		if (err != nil) != c.refused {
			t.Errorf("%s, %s: %v", c.grpc, c.replicas, err)
		}
		f.Close()
	}
}

// What goes, goes once the last check that may need it is over: also while other
// changes, which are none to Envoys, follow each other.
func TestFinishIsNotPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t)
		old, next := tablesOf(t), tablesOf(t, "id: m,", "id: n,")
		if err := f.Prepare(t.Context(), old, next); err != nil {
			t.Fatal(err)
		}
		has := func(id string) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.published.Models[id] != nil
		}
		if !has("m") || !has("n") {
			t.Fatal("not both after Prepare")
		}
		finish := func(x *catalog.Tables) {
			t.Helper()
			if err := f.Finish(x); err != nil {
				t.Fatal(err)
			}
		}
		finish(next)
		for range 4 {
			time.Sleep(lastChecks / 5)
			if !has("m") {
				t.Fatal("gone before its time")
			}
			same := tablesOf(t, "id: m,", "id: n,", "{id: lite}", "{id: lite, limits: {requestsPerMinute: 5}}")
			if err := f.Prepare(context.Background(), next, same); err != nil {
				t.Fatal(err)
			}
			finish(same)
		}
		time.Sleep(lastChecks / 5)
		synctest.Wait()
		if has("m") || !has("n") {
			t.Error("what went is still there")
		}

		// One that is overtaken doesn't come late.
		if err := f.Prepare(t.Context(), next, old); err != nil {
			t.Fatal(err)
		}
		finish(old)
		if err := f.Prepare(t.Context(), old, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lastChecks)
		if !has("m") || !has("n") {
			t.Error("a removal came while another change was prepared")
		}
		finish(next)
		time.Sleep(2 * lastChecks)
		if has("m") || !has("n") {
			t.Error("the last change didn't come")
		}
	})
}
