package authz

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// studio is a dialect whose objects and resources are told apart by tenants.
var studio = dialect.Dialect{
	Name: "studio",
	Paths: []dialect.Path{
		{
			Method: "POST", Pattern: "/v1/tasks", Action: key.Infer, ModelIn: dialect.ModelInJSON, ModelField: "model",
			Creates: &dialect.Object{Kind: "task", Member: "id", Keep: time.Hour}, Counts: &dialect.Resource{Name: "tasks", Delta: 1},
		},
		{
			Method: "POST", Pattern: "/v1/again", Action: key.Infer, ModelIn: dialect.ModelInJSON, ModelField: "model",
			Mentions: []dialect.Mention{{Kind: "task", In: dialect.ModelInJSON, Field: "task_id"}},
		},
		{
			Method: "GET", Pattern: "/v1/task", Action: key.Infer,
			Mentions: []dialect.Mention{{Kind: "task", In: dialect.ModelInQuery, Field: "task_id"}},
		},
		{
			Method: "GET", Pattern: "/v1/voice", Action: key.Infer,
			Mentions: []dialect.Mention{{Kind: "voice", In: dialect.ModelInQuery, Field: "voice_id", Open: true}},
		},
	},
}

// shelf is Objects in memory. It says how often it was asked to wait.
type shelf struct {
	bound  map[Object]Binding
	broken bool
	awaits int
	during func() // called while Await waits
	many   error  // of Make and Find
	made   int
}

var errShelf = errors.New("the store is away")

func (s *shelf) Find(_ context.Context, _ time.Time, o Object, _ Tenant) (Binding, error) {
	if s.broken {
		return Binding{}, errShelf
	}
	return s.bound[o], s.many
}

func (s *shelf) Make(context.Context, time.Time, Tenant) error {
	s.made++
	return s.many
}

func (s *shelf) Await(ctx context.Context, now time.Time, o Object, t Tenant) (Binding, error) {
	s.awaits++
	if s.during != nil {
		s.during()
	}
	return s.Find(ctx, now, o, t)
}

// counter is Resources of one tally, which fails where it is told to.
type counter struct {
	tally  Tally
	broken bool
	during func()
}

func (c *counter) Reserve(_ context.Context, now time.Time, _ Resource, most int64, admission string, until time.Time) (bool, error) {
	if c.during != nil {
		c.during()
	}
	if c.broken {
		return false, errShelf
	}
	return c.tally.Reserve(now, most, admission, until), nil
}

func (c *counter) Free(_ context.Context, _ Resource, admission string) error {
	c.tally.Free(admission)
	return nil
}

func (c *counter) Tally(context.Context, Resource) (Tally, error) {
	if c.broken {
		return Tally{}, errShelf
	}
	return c.tally, nil
}

// inStudio is an authorizer with a route to the studio; cap is that of tasks in
// both plans, -1 for none.
func inStudio(t *testing.T, most int64) (*Authorizer, *shelf, *counter, *ledger) {
	t.Helper()
	a, l := newAuthorizer(t)
	tables := *a.Tables()
	tables.Routes = append(tables.Routes, catalog.Route{Dialect: &studio, Cluster: "route:studio", MaxDuration: time.Minute, MaxBody: 1 << 10})
	if most >= 0 {
		for _, p := range tables.Plans {
			p.Resources = map[string]int64{"tasks": most}
		}
	}
	objects, resources := &shelf{bound: map[Object]Binding{}}, &counter{}
	a.Tables, a.Objects, a.Resources = func() *catalog.Tables { return &tables }, objects, resources
	return a, objects, resources, l
}

func get(secret, path string) *dialect.Request {
	return &dialect.Request{Method: "GET", Path: path, Host: "gw", Headers: []dialect.Header{{Name: "authorization", Value: "Bearer " + secret}}}
}

func check1(t *testing.T, a *Authorizer, req *dialect.Request) *Decision {
	t.Helper()
	var d Decision
	a.Check(t.Context(), start, req, &d)
	return &d
}

func (s *shelf) put(kind, id, workspace, model string) {
	s.bound[Object{"studio", kind, id}] = Binding{Tenant: Tenant{Workspace: workspace}, Model: model, From: start, Until: start.Add(time.Hour)}
}

func TestObjectsOfAnotherWorkspaceDontExist(t *testing.T) {
	a, s, _, l := inStudio(t, -1)
	s.put("task", "mine", "demo", "meta-llama/Llama")
	s.put("task", "theirs", "other", "theirs")
	s.put("voice", "theirs", "other", "theirs")
	s.put("task", "of-closed", "demo", "closed")
	s.put("task", "of-idle", "demo", "idle")
	s.put("task", "of-gone", "demo", "no-longer-there")
	s.put("task", "of-route", "demo", "")

	d := check1(t, a, get("good", "/v1/task?task_id=mine"))
	if d.Admission == nil || d.Admission.Model != "meta-llama/Llama" || d.Cluster != catalog.ModelCluster("meta-llama/Llama") {
		t.Fatalf("its own task: %v, %+v to %s", d.Reason, d.Admission, d.Cluster)
	}
	if d = check1(t, a, get("good", "/v1/task?task_id=of-route")); d.Admission == nil || d.Cluster != "route:studio" {
		t.Errorf("an object of the route's upstream: %v to %s", d.Reason, d.Cluster)
	}
	unknown, theirs := check1(t, a, get("good", "/v1/task?task_id=nobodys")), check1(t, a, get("good", "/v1/task?task_id=theirs"))
	for what, d := range map[string]*Decision{"unknown": unknown, "another workspace's": theirs} {
		if d.Reason != reason.ModelUnknown || d.Response.Status != 404 || !strings.Contains(string(d.Response.Body), `task_id`) {
			t.Errorf("%s: %v %+v", what, d.Reason, d.Response)
		}
	}
	if string(unknown.Response.Body) != string(theirs.Response.Body) {
		t.Errorf("they can be told apart:\n%s\n%s", unknown.Response.Body, theirs.Response.Body)
	}
	if s.awaits != 4 {
		t.Errorf("waited for %d of 4 objects", s.awaits)
	}
	for path, want := range map[string]reason.Reason{
		"/v1/task?task_id=of-closed": reason.ModelDenied,
		"/v1/task?task_id=of-idle":   reason.ModelNotDeployed,
		"/v1/task?task_id=of-gone":   reason.ModelUnknown,
		"/v1/voice?voice_id=system":  reason.None,
		"/v1/voice?voice_id=theirs":  reason.ModelUnknown,
	} {
		if d := check1(t, a, get("good2", path)); d.Reason != want {
			t.Errorf("%s: %v, want %v", path, d.Reason, want)
		}
	}
	if s.awaits != 7 {
		t.Errorf("waited for voices, of which some are the service's own: %d", s.awaits)
	}
	s.broken = true
	if d := check1(t, a, get("good2", "/v1/task?task_id=mine")); d.Reason != reason.Unavailable {
		t.Errorf("the store is away: %v", d.Reason)
	}
	a.Objects = nil
	if d := check1(t, a, get("good2", "/v1/voice?voice_id=system")); d.Reason != reason.Unavailable {
		t.Errorf("nobody knows of objects: %v", d.Reason)
	}
	if len(l.open) != 3 {
		t.Errorf("%d admissions, want those of what was let through", len(l.open))
	}
}

// An id is one account's: what the request names must be where its model is.
func TestObjectsOfAnotherAccount(t *testing.T) {
	a, s, _, _ := inStudio(t, -1)
	tables := *a.Tables()
	tables.Models = maps.Clone(tables.Models)
	for id, cluster := range map[string]string{"small": "one", "large": "one", "elsewhere": "two"} {
		tables.Models[id] = &catalog.Model{ID: id, Deployed: true, Cluster: cluster, UpstreamModel: id}
	}
	for _, p := range tables.Plans {
		p.Models = nil
	}
	a.Tables = func() *catalog.Tables { return &tables }
	s.put("task", "1", "demo", "small")
	s.put("task", "2", "demo", "no-longer-there")
	for body, want := range map[string]reason.Reason{
		`{"model":"small","task_id":1}`:     reason.None,
		`{"model":"large","task_id":"1"}`:   reason.None,
		`{"model":"elsewhere","task_id":1}`: reason.ModelUnknown,
		`{"model":"small","task_id":2}`:     reason.ModelUnknown,
	} {
		req := get("good2", "/v1/again")
		req.Method, req.Body = "POST", []byte(body)
		if d := check1(t, a, req); d.Reason != want {
			t.Errorf("%s: %v, want %v", body, d.Reason, want)
		}
	}
}

func TestObjectsOfAnEarlierWorkspace(t *testing.T) {
	a, s, _, _ := inStudio(t, -1)
	s.put("task", "mine", "demo", "meta-llama/Llama")
	a.Tables().Workspaces["demo"].Generation = "second"
	for _, r := range a.Keys.(keyring) {
		r.Generation = "second"
	}
	if d := check1(t, a, get("good", "/v1/task?task_id=mine")); d.Reason != reason.ModelUnknown {
		t.Errorf("a task of the workspace before: %v", d.Reason)
	}
}

// Whoever is revoked while the store is asked is not let through.
func TestRevokedWhileWaiting(t *testing.T) {
	a, s, r, l := inStudio(t, 1)
	s.put("task", "mine", "demo", "meta-llama/Llama")
	keys := a.Keys.(keyring)
	revoke := func() { delete(keys, key.DigestOf("good")) }
	s.during = revoke
	if d := check1(t, a, get("good", "/v1/task?task_id=mine")); d.Reason != reason.KeyInvalid {
		t.Errorf("revoked while waiting for an object: %v", d.Reason)
	}
	keys.add("good", key.Record{})
	r.during = revoke
	if d := check1(t, a, create("good")); d.Reason != reason.KeyInvalid {
		t.Errorf("revoked while a place was reserved: %v", d.Reason)
	}
	if len(r.tally.Held) != 0 || len(l.open) != 0 {
		t.Errorf("held: %v, admitted: %d", r.tally.Held, len(l.open))
	}
}

func create(secret string) *dialect.Request {
	req := post(secret, `{"model":"meta-llama/Llama","prompt":"a cat"}`)
	req.Path = "/v1/tasks"
	return req
}

func TestResourceCap(t *testing.T) {
	a, _, r, l := inStudio(t, 2)
	var last *Decision
	for n := range 4 {
		last = check1(t, a, create("good"))
		adm := last.Admission
		if passed := adm != nil; passed != (n < 2) {
			t.Fatalf("creation %d: %v", n, last.Reason)
		}
		if adm != nil && (adm.Counting != "tasks" || !r.tally.Held[adm.ID].Equal(adm.Deadline.Add(heldLonger))) {
			t.Errorf("%+v; held: %v", adm, r.tally.Held)
		}
	}
	if last.Reason != reason.ResourceLimitExceeded || last.Response.Status != 403 || !strings.Contains(string(last.Response.Body), "cap of 2 tasks") {
		t.Errorf("%v %s", last.Reason, last.Response.Body)
	}
	var v limit.Verdict
	a.Limits.Peek(start, []limit.Demand{{Scope: limit.Key, Tenant: "id-of-good", Requests: 5, Tokens: 1000}}, 0, &v)
	if v.Requests.Remaining != 3 {
		t.Errorf("what was refused used up quota: %d of 5 requests are left, want 3", v.Requests.Remaining)
	}
	q := &Question{Secret: "good", Method: "POST", Path: "/v1/tasks", Model: "meta-llama/Llama"}
	if e := a.Explain(t.Context(), start, q); e.Reason != reason.ResourceLimitExceeded {
		t.Errorf("explained as %v", e.Reason)
	}
	r.tally = Tally{Count: 1}
	if e := a.Explain(t.Context(), start, q); e.Reason != reason.None || len(r.tally.Held) != 0 {
		t.Errorf("explained as %v, and it holds %v", e.Reason, r.tally.Held)
	}
	// What can't be written down holds nothing.
	l.err = errShelf
	if d := check1(t, a, create("good2")); d.Reason != reason.Unavailable || len(r.tally.Held) != 0 {
		t.Errorf("%v; held %v", d.Reason, r.tally.Held)
	}
	l.err = nil
	r.broken = true
	if d := check1(t, a, create("good2")); d.Reason != reason.Unavailable {
		t.Errorf("the store is away: %v", d.Reason)
	}
}

func TestResourceWithoutCap(t *testing.T) {
	a, _, r, _ := inStudio(t, -1)
	r.broken = true
	if d := check1(t, a, create("good")); d.Admission == nil || d.Admission.Counting != "tasks" {
		t.Errorf("no cap, and the store is away: %v %+v", d.Reason, d.Admission)
	}
	a, _, r, _ = inStudio(t, 0)
	r.broken = true
	if d := check1(t, a, create("good")); d.Reason != reason.ResourceLimitExceeded {
		t.Errorf("a cap of 0, and the store is away: %v", d.Reason)
	}
}

// What an answer says of objects and resources, by the real paths of dialects.
func TestEffectsOfUsage(t *testing.T) {
	video := &Admission{Workspace: "demo", Generation: "g", Dialect: "minimax", Path: "POST /v1/video_generation"}
	voice := &Admission{Workspace: "demo", Dialect: "minimax", Path: "POST /v1/voice_clone", Creating: "OurVoice1"}
	mind := &Admission{Workspace: "demo", Generation: "g", Dialect: "minds", Path: "POST /api/v1/minds", Counting: "minds"}
	gone := &Admission{Workspace: "demo", Dialect: "minds", Path: "DELETE /api/v1/minds/{id}", Counting: "minds", Creating: "m1"}
	older := &Admission{Workspace: "demo", Dialect: "minimax"} // of version 1
	for _, c := range []struct {
		name             string
		u                Usage
		created, removed string
		delta            int64
	}{
		{"a task", Usage{Admission: video, Status: 200, Outcome: Completed, Object: "t1"}, "t1", "", 0},
		{"a caller that left", Usage{Admission: video, Status: 200, Outcome: ClientClosed, Object: "t1"}, "t1", "", 0},
		{"a task without an id", Usage{Admission: video, Status: 200, Outcome: Completed}, "", "", 0},
		{"a task by an error", Usage{Admission: video, Status: 500, Outcome: UpstreamError, Object: "t1"}, "", "", 0},
		{"a task that was refused", Usage{Admission: video, Status: 200, Refused: true, Outcome: UpstreamError, Object: "t1"}, "", "", 0},
		{"a voice", Usage{Admission: voice, Status: 200, Outcome: Completed}, "OurVoice1", "", 0},
		{"an unknown path", Usage{Admission: older, Status: 200, Outcome: Completed, Object: "t1"}, "", "", 0},
		{"a mind", Usage{Admission: mind, Status: 201, Outcome: Completed, Object: "m1"}, "m1", "", 1},
		{"a mind by an error", Usage{Admission: mind, Status: 400, Outcome: Completed}, "", "", 0},
		{"not sent", Usage{Admission: mind, Status: 200, Outcome: NotSent}, "", "", 0},
		{"nobody came back", Usage{Admission: mind, Outcome: Unknown, Measurement: None}, "", "", 0},
		{"a mesh that can't tell", Usage{Admission: mind, Outcome: Unknown, Measurement: Estimated}, "", "", 1},
		{"a mind less", Usage{Admission: gone, Status: 204, Outcome: Completed}, "", "m1", -1},
		{"a mind that wasn't there", Usage{Admission: gone, Status: 404, Outcome: Completed}, "", "", 0},
		{"a deletion of which a mesh can't tell", Usage{Admission: gone, Outcome: Unknown, Measurement: Estimated}, "", "", 0},
	} {
		created, _, _ := c.u.Created()
		removed, _ := c.u.Removed()
		r, delta, counted := c.u.Counted()
		if created.ID != c.created || removed.ID != c.removed || delta != c.delta {
			t.Errorf("%s: made %q, removed %q, %d more", c.name, created.ID, removed.ID, delta)
		}
		if counted != (c.u.Admission.Counting != "") || counted && (r.Name != "minds" || r.Workspace != "demo" || r.Generation != c.u.Admission.Generation) {
			t.Errorf("%s: counted %t %+v", c.name, counted, r)
		}
	}
}

// Some upstreams put what is made in the place of what has the same id.
func TestNothingIsMadeOverAnothersObject(t *testing.T) {
	a, s, _, _ := inStudio(t, -1)
	minimax, _ := dialect.Lookup("minimax")
	tables := *a.Tables()
	tables.Routes = []catalog.Route{{Dialect: minimax, Cluster: "route:minimax", MaxDuration: time.Minute, MaxBody: 1 << 10}}
	a.Tables = func() *catalog.Tables { return &tables }
	bind := func(id, workspace string, until time.Duration) {
		s.bound[Object{"minimax", "voice", id}] = Binding{Tenant: Tenant{Workspace: workspace}, From: start.Add(-time.Hour), Until: start.Add(until)}
	}
	bind("mine-voice", "demo", time.Hour)
	bind("their-voice", "other", time.Hour)
	bind("their-late-voice", "other", -ObjectRest/2)
	bind("their-former-voice", "other", -ObjectRest)
	s.bound[Object{"minimax", "file", "1"}] = Binding{Tenant: Tenant{Workspace: "demo"}, From: start, Until: start.Add(time.Hour)}
	for voice, want := range map[string]reason.Reason{
		"mine-voice": reason.None, "new-voice": reason.None, "their-former-voice": reason.None,
		"their-voice": reason.BodyInvalid, "their-late-voice": reason.BodyInvalid,
	} {
		req := post("good", `{"file_id":"1","voice_id":"`+voice+`"}`)
		req.Path = "/v1/voice_clone"
		d := check1(t, a, req)
		if d.Reason != want {
			t.Errorf("%s: %v, want %v", voice, d.Reason, want)
		}
		if d.Admission != nil && (d.Admission.Creating != voice || d.Admission.Path != "POST /v1/voice_clone") {
			t.Errorf("%+v", d.Admission)
		}
	}
}
