package manage_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// oracle says what every key may do in a world of three workspaces, in the words of
// docs/keys.md and by nothing of the code: it is asked before each request.
type oracle struct {
	suspended map[string]bool               // workspaces
	users     map[string]map[string]*person // by workspace
	keys      []*held
}

type person struct {
	admin, suspended bool
	byOperator       bool // suspended by
}

type held struct {
	made
	workspace, user string // user "": a workspace key
	actions, models []string
	gone            bool
	of              *person // the user as it was when the key was made; of one made anew it is another
}

const noID = "01990000-0000-7000-8000-000000000000"

// refusal is the status that a key gets for whatever it asks; 0: it may ask.
func (o *oracle) refusal(k *held) int {
	u := o.users[k.workspace][k.user]
	switch {
	case k.gone, k.user != "" && (u == nil || u != k.of):
		return 401
	case o.suspended[k.workspace], k.user != "" && u.suspended:
		return 403
	}
	return 0
}

func (o *oracle) manages(k *held) int {
	if status := o.refusal(k); status != 0 {
		return status
	}
	if !slices.Contains(k.actions, "manage") {
		return 403
	}
	return 0
}

// administers: an admin's key or a workspace key, not limited to models.
func (o *oracle) administers(k *held) bool { return !o.member(k) && k.models == nil }

func (o *oracle) member(k *held) bool { return k.user != "" && !o.users[k.workspace][k.user].admin }

// sees: what is there, of the same workspace, of a member only its own, of a key that
// is limited to models only those that open no others.
func (o *oracle) sees(by, k *held) bool {
	if k.gone || by.workspace != k.workspace || k.user != "" && o.users[k.workspace][k.user] != k.of {
		return false
	}
	if o.member(by) && (k.user == "" || k.user != by.user) {
		return false
	}
	return opensNoMore(by, k)
}

func opensNoMore(by, k *held) bool {
	if by.models == nil {
		return true
	}
	return k.models != nil && !slices.ContainsFunc(k.models, func(m string) bool { return !slices.Contains(by.models, m) })
}

// gives: a key gives nothing that it doesn't have.
func gives(by, k *held) bool {
	return opensNoMore(by, k) && !slices.ContainsFunc(k.actions, func(a string) bool { return !slices.Contains(by.actions, a) })
}

// TestEverybodyMayWhatTheTableSays asks all kinds of things with all kinds of keys, in
// random order, and compares each answer with the oracle's.
func TestEverybodyMayWhatTheTableSays(t *testing.T) {
	for seed := range uint64(4) {
		w := &walk{service: serve(t), r: rand.New(rand.NewPCG(seed, 7)), oracle: oracle{
			suspended: map[string]bool{"frozen": true}, users: map[string]map[string]*person{"demo": {}, "other": {}, "frozen": {}},
		}}
		for _, workspace := range workspacesOfWalk {
			for user, role := range map[string]string{"ada": "admin", "max": "member"} {
				if workspace != "demo" { // which has them
					w.must(201, "POST", "/api/v1/users?workspace="+workspace, operator, fmt.Sprintf(`{"id":%q,"role":%q}`, user, role))
				}
				w.users[workspace][user] = &person{admin: user == "ada"}
			}
			for _, user := range []string{"", "ada", "max"} {
				w.give(workspace, user, []string{"infer", "manage", "metrics"}, nil)
			}
			w.give(workspace, "", []string{"infer", "manage"}, []string{"shared/one"})
		}
		for range 800 {
			w.step()
		}
	}
}

var workspacesOfWalk = []string{"demo", "other", "frozen"}

// walk is a service that is asked at random.
type walk struct {
	*service
	oracle
	r *rand.Rand
}

func pick[T any](w *walk, of ...T) T { return of[w.r.IntN(len(of))] }

// give makes a key as the operator.
func (w *walk) give(workspace, user string, actions, models []string) {
	k := &held{workspace: workspace, user: user, actions: actions, models: models}
	if user != "" {
		k.of = w.users[workspace][user]
	}
	k.made = w.create(operator, k.request(true))
	w.keys = append(w.keys, k)
}

func (k *held) request(named bool) string {
	kind := "workspace"
	body := map[string]any{"actions": k.actions, "models": k.models}
	if k.user != "" {
		kind, body["user"] = "personal", k.user
	}
	body["kind"] = kind
	if named {
		body["workspace"] = k.workspace
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// step asks one thing with one key.
func (w *walk) step() {
	by := pick(w, w.keys...)
	target := pick(w, w.keys...)
	if w.r.IntN(3) == 0 {
		target = by
	}
	switch w.r.IntN(12) {
	case 0:
		w.listed(by)
	case 1, 2, 3, 4:
		w.asksAbout(by, target)
	case 5:
		w.makes(by)
	case 6, 7:
		w.people(by, target.workspace)
	case 8:
		w.ofTheOperator(by)
	case 9:
		w.models(by)
	case 10:
		w.workspaces(by, target.workspace)
	case 11:
		w.operatorActs()
	}
}

// expect asks, and compares the status, and of a 404 the bytes with those of the same
// question about what never was.
func (w *walk) expect(want int, by *held, method, path, unknown, body string) reply {
	w.t.Helper()
	r := w.do(method, path, by.Key, body)
	if r.status != want {
		w.t.Fatalf("%s %s %s by %s %s %q %v %v: %d %s, want %d", method, path, body, by.ID, by.workspace, by.user, by.actions, by.models, r.status, r.body, want)
	}
	if want == 404 && unknown != "" {
		if never := w.do(method, unknown, by.Key, body); never.status != 404 || never.body != r.body {
			w.t.Fatalf("%s %s: %s, and of what never was %d %s", method, path, r.body, never.status, never.body)
		}
	}
	return r
}

func (w *walk) listed(by *held) {
	if status := w.manages(by); status != 0 {
		w.expect(status, by, "GET", "/api/v1/api-keys", "", "")
		return
	}
	var got []made
	if err := json.Unmarshal([]byte(w.expect(200, by, "GET", "/api/v1/api-keys?limit=1000", "", "").body), &got); err != nil {
		w.t.Fatal(err)
	}
	var want, have []string
	for _, k := range w.keys {
		if w.sees(by, k) {
			want = append(want, k.ID)
		}
	}
	for _, k := range got {
		have = append(have, k.ID)
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		w.t.Fatalf("%s of %s %q lists %q, want %q", by.ID, by.workspace, by.user, have, want)
	}
}

func (w *walk) asksAbout(by, target *held) {
	one := func(id string) string { return "/api/v1/api-keys/" + id }
	what := w.r.IntN(7)
	want, managing := 0, w.manages(by)
	switch {
	case what == 0 && by == target: // what it used, every key may ask about itself
		want = w.refusal(by)
	case managing != 0:
		want = managing
	case !w.sees(by, target):
		want = 404
	}
	is := func(status, otherwise int) int {
		if otherwise != 0 {
			return otherwise
		}
		return status
	}
	mayGive := want
	if want == 0 && !gives(by, target) {
		mayGive = 403
	}
	switch what {
	case 0:
		w.expect(is(200, want), by, "GET", one(target.ID)+"/usage", one(noID)+"/usage", "")
	case 1:
		w.expect(is(200, want), by, "GET", one(target.ID), one(noID), "")
	case 2:
		w.expect(is(200, mayGive), by, "PATCH", one(target.ID), one(noID), `{"name":"x"}`)
	case 3:
		r := w.expect(is(200, mayGive), by, "POST", one(target.ID)+"/rotate", one(noID)+"/rotate", `{}`)
		if mayGive == 0 {
			if err := json.Unmarshal([]byte(r.body), &target.made); err != nil {
				w.t.Fatal(err)
			}
		}
	case 4:
		w.expect(is(204, want), by, "DELETE", one(target.ID), one(noID), "")
		target.gone = target.gone || want == 0
	case 5, 6:
		// About itself every key may ask, about others that manages and sees them.
		if want = w.refusal(by); want == 0 && by != target && (managing != 0 || !w.sees(by, target)) {
			want = 404
		}
		ask := func(id string) string { return fmt.Sprintf(`{"keyId":%q,"model":"shared/one"}`, id) }
		r := w.expect(is(200, want), by, "POST", "/api/v1/explain", "", ask(target.ID))
		if want == 404 && w.do("POST", "/api/v1/explain", by.Key, ask(noID)).body != r.body {
			w.t.Fatalf("explain tells that %s exists", target.ID)
		}
	}
}

func (w *walk) makes(by *held) {
	k := &held{
		workspace: by.workspace, user: pick(w, "", "ada", "max", "nobody"),
		actions: pick(w, []string{"infer"}, []string{"manage"}, []string{"infer", "manage"}, []string{"infer", "metrics"}),
		models:  pick(w, nil, []string{"shared/one"}, []string{"demo/own", "shared/one"}),
	}
	want := w.manages(by)
	switch {
	case want != 0:
	case w.member(by) && k.user != by.user:
		want = 403
	case k.user != "" && w.users[k.workspace][k.user] == nil:
		want = 400
	case !gives(by, k):
		want = 403
	}
	if want == 0 {
		want = 201
	}
	r := w.expect(want, by, "POST", "/api/v1/api-keys", "", k.request(false))
	if want != 201 {
		return
	}
	if err := json.Unmarshal([]byte(r.body), &k.made); err != nil {
		w.t.Fatal(err)
	}
	if k.user != "" {
		k.of = w.users[k.workspace][k.user]
	}
	w.keys = append(w.keys, k)
}

// people asks about users: always of the key's own workspace, and 400 where another one
// is named, whether that is there or not.
func (w *walk) people(by *held, named string) {
	id, want := pick(w, "ada", "max", "eve"), w.manages(by)
	path := func(id, verb string) string { return "/api/v1/users/" + id + verb }
	if named != by.workspace && w.r.IntN(4) == 0 {
		if want == 0 {
			want = 400
		}
		w.expect(want, by, "GET", path(id, "?workspace="+named), "", "")
		return
	}
	users := w.users[by.workspace]
	u := users[id]
	switch {
	case want != 0:
	case u == nil || w.member(by) && id != by.user:
		want = 404
	}
	change := want
	switch {
	case want != 0:
	case !w.administers(by), by.user == id:
		change = 403
	}
	is := func(status, otherwise int) int {
		if otherwise != 0 {
			return otherwise
		}
		return status
	}
	switch w.r.IntN(6) {
	case 0:
		w.expect(is(200, want), by, "GET", path(id, ""), path("nobody", ""), "")
	case 1:
		if w.expect(is(200, change), by, "POST", path(id, "/suspend"), path("nobody", "/suspend"), ""); change == 0 {
			u.suspended = true
		}
	case 2:
		if change == 0 && u.suspended && u.byOperator {
			change = 403
		}
		if w.expect(is(200, change), by, "POST", path(id, "/resume"), path("nobody", "/resume"), ""); change == 0 {
			u.suspended = false
		}
	case 3:
		admin := w.r.IntN(2) == 0
		if w.expect(is(200, change), by, "PATCH", path(id, ""), path("nobody", ""), roleOf(admin)); change == 0 {
			u.admin = admin
		}
	case 4:
		if change == 0 && u.suspended && u.byOperator {
			change = 403
		}
		if w.expect(is(204, change), by, "DELETE", path(id, ""), path("nobody", ""), ""); change == 0 {
			delete(users, id)
		}
	case 5:
		want := w.manages(by)
		switch {
		case want != 0:
		case !w.administers(by):
			want = 403
		case u != nil:
			want = 409
		default:
			want, users[id] = 201, &person{}
		}
		w.expect(want, by, "POST", "/api/v1/users", "", `{"id":"`+id+`"}`)
	}
}

func roleOf(admin bool) string {
	if admin {
		return `{"role":"admin"}`
	}
	return `{"role":"member"}`
}

// ofTheOperator: no other key may, whatever is named.
func (w *walk) ofTheOperator(by *held) {
	want := w.refusal(by)
	if want == 0 {
		want = 403
	}
	method, path, _ := strings.Cut(pick(w, "GET catalog", "GET events", "GET consumers", "PUT catalog", "POST workspaces", "DELETE workspaces/none", "DELETE workspaces/other",
		"POST workspaces/demo/suspend", "POST workspaces/none/suspend", "POST workspaces/other/resume", "DELETE consumers/x"), " ")
	w.expect(want, by, method, "/api/v1/"+path, "", "")
}

// models: those of the key's workspace and of all, if the key opens them. What is its
// workspace's alone it deploys, if it belongs to no member.
func (w *walk) models(by *held) {
	sees := func(model string) bool {
		return (model == "shared/one" || model == by.workspace+"/own") && (by.models == nil || slices.Contains(by.models, model))
	}
	all := []string{"demo/own", "other/own", "shared/one"}
	want := w.manages(by)
	if w.r.IntN(2) == 0 {
		var got []made
		if want != 0 {
			w.expect(want, by, "GET", "/api/v1/models", "", "")
			return
		}
		if err := json.Unmarshal([]byte(w.expect(200, by, "GET", "/api/v1/models", "", "").body), &got); err != nil {
			w.t.Fatal(err)
		}
		for _, m := range all {
			if slices.Contains(got, made{ID: m}) != sees(m) {
				w.t.Fatalf("%s of %s %v sees the models %v", by.ID, by.workspace, by.models, got)
			}
		}
		return
	}
	model := pick(w, all...)
	switch {
	case want != 0:
	case !sees(model):
		want = 404
	case model == "shared/one", w.member(by):
		want = 403
	default:
		want = 200
	}
	path := "/api/v1/models/" + pick(w, "deploy", "undeploy")
	r := w.expect(want, by, "POST", path, "", `{"model":"`+model+`"}`)
	if never := w.do("POST", path, by.Key, `{"model":"never"}`); want == 404 && never.body != r.body {
		w.t.Fatalf("of %s it says %s, and of one that never was %s", model, r.body, never.body)
	}
}

// workspaces: of other workspaces than its own a key learns nothing.
func (w *walk) workspaces(by *held, id string) {
	want := w.manages(by)
	if want == 0 && id != by.workspace {
		want = 404
	}
	const path = "/api/v1/workspaces/"
	switch w.r.IntN(4) {
	case 0:
		if want == 0 {
			want = 200
		}
		w.expect(want, by, "GET", path+id, path+"never", "")
	case 1:
		switch {
		case want != 0:
		case w.administers(by):
			want = 200
		default:
			want = 403
		}
		w.expect(want, by, "PATCH", path+id, path+"never", `{"labels":{"by":"`+by.ID+`"}}`)
	case 2:
		if want = w.manages(by); want == 0 {
			want = 200
		}
		r := w.expect(want, by, "GET", "/api/v1/workspaces", "", "")
		for _, other := range workspacesOfWalk {
			if there := strings.Contains(r.body, `"id":"`+other+`"`); want == 200 && there != (other == by.workspace) {
				w.t.Fatalf("%s of %s sees the workspaces %s", by.ID, by.workspace, r.body)
			}
		}
	case 3:
		if want = w.manages(by); want == 0 {
			if want = 403; w.administers(by) {
				want = 200
			}
		}
		r := w.expect(want, by, "GET", "/api/v1/audit?limit=1000", "", "")
		for _, other := range workspacesOfWalk {
			if want == 200 && other != by.workspace && strings.Contains(r.body, `"workspace":"`+other+`"`) {
				w.t.Fatalf("%s of %s reads the trail of %s: %s", by.ID, by.workspace, other, r.body)
			}
		}
	}
}

// operatorActs changes the world.
func (w *walk) operatorActs() {
	workspace, id := pick(w, workspacesOfWalk...), pick(w, "ada", "max", "eve")
	u := w.users[workspace][id]
	path := "/api/v1/users/" + id
	switch what := w.r.IntN(5); {
	case what == 0:
		suspend := w.r.IntN(3) == 0
		w.must(200, "POST", "/api/v1/workspaces/"+workspace+map[bool]string{true: "/suspend", false: "/resume"}[suspend], operator, "")
		w.suspended[workspace] = suspend
	case u == nil:
		admin := w.r.IntN(2) == 0
		w.must(201, "POST", "/api/v1/users?workspace="+workspace, operator, `{"id":"`+id+`",`+roleOf(admin)[1:])
		w.users[workspace][id] = &person{admin: admin}
	case what == 1:
		w.must(200, "POST", path+"/suspend?workspace="+workspace, operator, "")
		u.suspended, u.byOperator = true, true
	case what == 2:
		w.must(200, "POST", path+"/resume?workspace="+workspace, operator, "")
		u.suspended, u.byOperator = false, false
	case what == 3 && w.r.IntN(3) == 0:
		w.must(204, "DELETE", path+"?workspace="+workspace, operator, "")
		delete(w.users[workspace], id)
	default:
		w.give(workspace, id, pick(w, []string{"infer", "manage"}, []string{"manage", "metrics"}, []string{"infer"}), pick(w, nil, []string{"shared/one"}))
	}
}
