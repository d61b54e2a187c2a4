package authz

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/reason"
)

const observeCatalog = `
plans: [{id: open, limits: {perKey: {requestsPerMinute: 1}}}]
workspaces: [{id: demo, plan: open}, {id: late, plan: open, suspended: true}, {id: legacy, plan: open}]
users: [{id: ann, workspace: demo}, {id: bob, workspace: demo, suspended: true}]
models: [{id: m, upstreams: [{url: "http://127.0.0.1:9100"}]}, {id: off, deployed: false}, {id: own, workspaces: [demo]}]
routes: [{dialect: openai, mode: observe, observe: {workspace: legacy}}]
`

// TestObserve: what lacks a valid key passes, and says so; everything else is as
// without it.
func TestObserve(t *testing.T) {
	a, l := newAuthorizer(t)
	tables := compiled(t, observeCatalog)
	a.Tables = func() *catalog.Tables { return tables }
	var used []string
	a.Used = func(id string, _ int, _ time.Time) { used = append(used, id) }
	for _, c := range []struct {
		secret, model    string
		reason, observed reason.Reason
	}{
		{"", "m", reason.None, reason.KeyMissing},
		{"stranger", "m", reason.None, reason.KeyInvalid},
		{"tg_aaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "m", reason.None, reason.KeyInvalid},
		{"revoked", "m", reason.None, reason.KeyInvalid},
		{"expired", "m", reason.None, reason.KeyInvalid},
		{"gone-workspace", "m", reason.None, reason.KeyInvalid},
		{"gone-user", "m", reason.None, reason.KeyInvalid},
		{"good", "m", reason.None, reason.None},

		{"late", "m", reason.WorkspaceSuspended, reason.None},
		{"bob", "m", reason.UserSuspended, reason.None},
		{"account", "m", reason.ActionDenied, reason.None},
		{brokenSecret, "m", reason.Unavailable, reason.None},
		{"good", "m", reason.RateLimitExceeded, reason.None},
		{"", "off", reason.ModelNotDeployed, reason.KeyMissing},
		{"", "own", reason.ModelUnknown, reason.KeyMissing},
		{"stranger", "no/such", reason.ModelUnknown, reason.KeyInvalid},
	} {
		var d Decision
		a.Check(t.Context(), start, post(c.secret, chat(c.model)), &d)
		if d.Reason != c.reason || d.Observed != c.observed {
			t.Errorf("%q for %s: %v, observed %v; want %v, %v", c.secret, c.model, d.Reason, d.Observed, c.reason, c.observed)
		}
		if c.reason != reason.None || c.observed == reason.None {
			continue
		}
		// It has an owner and no key; the presented one goes no further.
		adm := d.Admission
		if adm == nil || adm.Workspace != "legacy" || adm.Key != "" || adm.User != "" || adm.Observed != c.observed || !l.open[adm.ID] {
			t.Fatalf("%q: admission %+v", c.secret, adm)
		}
		if sealed, err := a.Sealer.Open(d.Token); err != nil || sealed.Observed != c.observed {
			t.Errorf("%q: the token says %+v (%v)", c.secret, sealed, err)
		}
		if told := fmt.Sprint(d.SetHeaders); strings.Contains(told, "key-id") || !strings.Contains(told, "{x-tollgate-workspace legacy}") {
			t.Errorf("%q: the upstream is told %s", c.secret, told)
		}
		if fmt.Sprint(d.RemoveHeaders) != "[authorization x-api-key api-key "+foreign+"]" {
			t.Errorf("%q: removed %v", c.secret, d.RemoveHeaders)
		}
	}
	if fmt.Sprint(used) != "[id-of-good]" {
		t.Errorf("used %v", used)
	}
	two := post("good", chat("m"), dialect.Header{Name: "x-api-key", Value: "good2"})
	var d Decision
	if a.Check(t.Context(), start, two, &d); d.Reason != reason.KeyAmbiguous {
		t.Errorf("two keys: %v", d.Reason)
	}
	look := post("", "")
	look.HeadersOnly = true
	if a.Check(t.Context(), start, look, &d); d.Response != nil || d.Observed != reason.KeyMissing {
		t.Errorf("a look: %+v", d)
	}
	// The owner's suspension is how it is ended.
	tables = compiled(t, strings.Replace(observeCatalog, "{id: legacy, plan: open}", "{id: legacy, plan: open, suspended: true}", 1))
	if a.Check(t.Context(), start, post("", chat("m")), &d); d.Reason != reason.WorkspaceSuspended {
		t.Errorf("with its workspace suspended: %v", d.Reason)
	}
}

func TestExplainInObserveMode(t *testing.T) {
	a, _ := newAuthorizer(t)
	tables := compiled(t, observeCatalog)
	a.Tables = func() *catalog.Tables { return tables }
	e := a.Explain(t.Context(), start, &Question{Record: a.Keys.(keyring)[key.DigestOf("revoked")], Model: "m"})
	if e.Reason != reason.None || e.Observed != reason.KeyInvalid {
		t.Errorf("a revoked key: %+v", e)
	}
}

// TestKeysOfADeletedOwnerStayDead: a workspace or user that is made again under
// the id of a deleted one has none of its keys.
func TestKeysOfADeletedOwnerStayDead(t *testing.T) {
	a, _ := newAuthorizer(t)
	doc, err := catalog.Parse("test.yaml", []byte(observeCatalog))
	if err != nil {
		t.Fatal(err)
	}
	doc.Routes[0] = catalog.RouteSpec{Dialect: "openai"}
	n := 0
	stamp := func(edit func()) {
		before := doc.Generations()
		edit()
		doc.Stamp(before, func() string { n++; return fmt.Sprintf("g%d", n) })
	}
	var tables *catalog.Tables
	a.Tables = func() *catalog.Tables { return tables }
	keys := a.Keys.(keyring)
	expect := func(secret string, want reason.Reason) {
		t.Helper()
		if tables, err = catalog.Compile(doc, catalog.Source{}); err != nil {
			t.Fatal(err)
		}
		var d Decision
		if a.Check(t.Context(), start, post(secret, chat("m")), &d); d.Reason != want {
			t.Errorf("%s: %v, want %v", secret, d.Reason, want)
		}
	}
	expect("good", reason.None)
	expect("ann", reason.None)

	users := doc.Users
	stamp(func() { doc.Users = users[1:] })
	expect("ann", reason.KeyInvalid)
	stamp(func() { doc.Users = users })
	expect("ann", reason.KeyInvalid)
	keys.add("ann-again", key.Record{Kind: key.Personal, User: "ann", Generation: tables.GenerationFor(&key.Record{Workspace: "demo", Kind: key.Personal, User: "ann"})})
	expect("ann-again", reason.None)
	expect("good2", reason.None) // the workspace is the one that it was

	workspaces := doc.Workspaces
	stamp(func() { doc.Workspaces, doc.Models, doc.Users = workspaces[1:], doc.Models[:1], nil })
	expect("good", reason.KeyInvalid)
	stamp(func() { doc.Workspaces, doc.Users = workspaces, users })
	for _, secret := range []string{"good", "good2", "ann", "ann-again"} {
		expect(secret, reason.KeyInvalid)
	}
	keys.add("new", key.Record{Generation: tables.GenerationFor(&key.Record{Workspace: "demo"})})
	expect("new", reason.None)
}
