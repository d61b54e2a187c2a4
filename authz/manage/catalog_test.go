package manage_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tollgate/authz/manage"
)

const yamlType = "Content-Type: application/yaml"

// plainCatalog is demoCatalog without what a test's environment lacks.
var plainCatalog = strings.Replace(demoCatalog, `, credential: "env:UPSTREAM"`, "", 1)

func (s *service) apply(query, text string) manage.Applied {
	s.t.Helper()
	var a manage.Applied
	r := s.must(200, "PUT", "/api/v1/catalog"+query, operator, text, yamlType)
	if err := json.Unmarshal([]byte(r.body), &a); err != nil {
		s.t.Fatal(err)
	}
	return a
}

func TestApply(t *testing.T) {
	s := serve(t)
	if a := s.apply("", plainCatalog); len(a.Changes) != 0 || a.DryRun {
		t.Errorf("the catalog in force, applied again, changes %+v", a)
	}
	changed := strings.Replace(plainCatalog, "requestsPerMinute: 60", "requestsPerMinute: 61", 1)
	changed = strings.Replace(changed, "  - {id: max, workspace: demo}\n", "", 1)
	changed += "  - {id: new/one}\nsettings: {modelHeader: x-model}\n"
	const want = "[{change plan lite [limits]} {add model new/one []} {change settings  [modelHeader]}]"
	for range 2 {
		if a := s.apply("?dryRun=true", changed); fmt.Sprint(a.Changes) != want || !a.DryRun {
			t.Errorf("a dry run tells %+v", a)
		}
	}
	if a := s.apply("", changed); fmt.Sprint(a.Changes) != want || a.DryRun {
		t.Errorf("an apply tells %+v", a)
	}
	tables := s.store.Tables()
	if tables.Workspaces["demo"].Plan.PerKey.RequestsPerMinute != 61 || tables.Models["new/one"] == nil || tables.Settings.ModelHeader != "x-model" {
		t.Error("it is not in force")
	}
	if tables.User("demo", "max") == nil {
		t.Error("a user who was not written is gone without prune")
	}
	if a := s.apply("?prune=true", changed); fmt.Sprint(a.Changes) != "[{remove user demo/max []}]" {
		t.Errorf("a prune tells %+v", a)
	}
	if a := s.apply("", plainCatalog); fmt.Sprint(a.Changes) != "[{change plan lite [limits]} {add user demo/max []}]" {
		t.Errorf("without settings, an apply tells %+v", a)
	}

	r := s.must(200, "GET", "/api/v1/catalog", operator, "")
	if r.header.Get("X-Tollgate-Revision") != "4" || !strings.Contains(r.body, `"new/one"`) {
		t.Errorf("the catalog is %v %s", r.header, r.body)
	}
	if a := s.apply("?prune=true", r.body); len(a.Changes) != 0 {
		t.Errorf("what GET tells, applied again, changes %+v", a)
	}
}

func TestApplyRefuses(t *testing.T) {
	s := serve(t)
	for text, says := range map[string]string{
		"models:\n  - {id: a, deploy: true}\n":                "cat.yaml:2:",
		"models:\n  - {id: a, credential: \"env:NOT_SET\"}\n": "NOT_SET",
		"":                                       "body is empty",
		"workspaces:\n  - {id: w, plan: none}\n": "cat.yaml:2:",
	} {
		r := s.must(400, "PUT", "/api/v1/catalog?name=cat.yaml", operator, text, yamlType)
		if !strings.Contains(r.body, says) {
			t.Errorf("%q: %s, want %s", text, r.body, says)
		}
	}
	s.must(400, "PUT", "/api/v1/catalog?dryrun=true", operator, plainCatalog, yamlType)
	s.must(400, "PUT", "/api/v1/catalog?dryRun=yes", operator, plainCatalog, yamlType)
	s.must(415, "PUT", "/api/v1/catalog", operator, plainCatalog, "Content-Type: multipart/form-data; boundary=x")
	s.must(413, "PUT", "/api/v1/catalog", operator, strings.Repeat("#", 4<<20+1), yamlType)
	if r := s.must(200, "GET", "/api/v1/catalog", operator, ""); r.header.Get("X-Tollgate-Revision") != "1" {
		t.Error("a refused catalog was stored")
	}
}

func TestDeploymentBelongsToTheCommand(t *testing.T) {
	s := serve(t)
	if r := s.must(200, "POST", "/api/v1/models/undeploy", operator, `{"model":"shared/one"}`); !strings.Contains(r.body, `"deployed":false`) {
		t.Errorf("undeploy answers %s", r.body)
	}
	text := strings.Replace(plainCatalog, "{id: shared/one,", "{id: shared/one, deployed: true,", 1)
	a := s.apply("", text)
	if len(a.Changes) != 0 || len(a.Notes) != 1 || !strings.Contains(a.Notes[0], "tollgate model deploy shared/one") {
		t.Errorf("an apply tells %+v", a)
	}
	if s.store.Tables().Models["shared/one"].Deployed {
		t.Error("an apply deployed a model")
	}
	s.must(200, "POST", "/api/v1/models/deploy", operator, `{"model":"shared/one"}`)
	if !s.store.Tables().Models["shared/one"].Deployed {
		t.Error("deploy did not")
	}
	s.must(400, "POST", "/api/v1/models/deploy", operator, "")
	s.must(404, "POST", "/api/v1/models/deploy", operator, `{"model":"no/such"}`)
}

func TestTenantsDeployTheirOwn(t *testing.T) {
	s := serve(t)
	demo := s.create(operator, `{"workspace":"demo"}`)
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	narrow := s.create(operator, `{"workspace":"demo","models":["shared/*"],"actions":["manage"]}`)
	s.must(200, "POST", "/api/v1/models/undeploy", demo.Key, `{"model":"demo/own"}`)
	s.must(403, "POST", "/api/v1/models/undeploy", demo.Key, `{"model":"shared/one"}`)
	s.must(403, "POST", "/api/v1/models/undeploy", member.Key, `{"model":"demo/own"}`)
	unknown := s.must(404, "POST", "/api/v1/models/deploy", demo.Key, `{"model":"no/such"}`).body
	for _, c := range []struct{ secret, model string }{{demo.Key, "other/own"}, {narrow.Key, "demo/own"}} {
		if r := s.must(404, "POST", "/api/v1/models/deploy", c.secret, `{"model":"`+c.model+`"}`); r.body != unknown {
			t.Errorf("%s answers %s, an unknown one %s", c.model, r.body, unknown)
		}
	}
	for secret, want := range map[string]string{
		demo.Key:   `[{"id":"demo/own","deployed":false},{"id":"shared/one","deployed":true}]`,
		narrow.Key: `[{"id":"shared/one","deployed":true}]`,
	} {
		if r := s.must(200, "GET", "/api/v1/models", secret, ""); r.body != want {
			t.Errorf("models are %s, want %s", r.body, want)
		}
	}
	r := s.must(200, "GET", "/api/v1/models?limit=2", operator, "")
	if !strings.Contains(r.body, `"upstreams":["http://127.0.0.1:9100"]`) || !strings.Contains(r.header.Get("Link"), "cursor=") {
		t.Errorf("the operator's models are %s %v", r.body, r.header)
	}
}

// Routes of one dialect are told apart by their hosts.
func TestApplyRoutesOfOneDialect(t *testing.T) {
	s := serve(t)
	const wide = "routes:\n  - {dialect: openai}\n  - {dialect: openai, hosts: [B.example.com, a.example.com]}\n"
	if a := s.apply("", wide); fmt.Sprint(a.Changes) != "[{add route openai []} {add route openai for a.example.com, b.example.com []}]" {
		t.Errorf("a second route of a dialect: %+v", a.Changes)
	}
	if a := s.apply("?prune=false", wide); len(a.Changes) != 0 {
		t.Errorf("the same again changes %+v", a.Changes)
	}
	narrow := strings.Replace(wide, "a.example.com]", "a.example.com], maxBody: 1MiB", 1)
	if a := s.apply("", narrow); fmt.Sprint(a.Changes) != "[{change route openai for a.example.com, b.example.com [maxBody]}]" {
		t.Errorf("a change of the second: %+v", a.Changes)
	}
}
