package manage_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
	"tollgate/authz/money"
)

// scrape reads the series of a workspace, without their comments.
func (s *service) scrape(path, secret string, headers ...string) string {
	s.t.Helper()
	r := s.must(200, "GET", path, secret, "", headers...)
	if r.header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		s.t.Errorf("a scrape is of the type %q", r.header.Get("Content-Type"))
	}
	if problems, err := promlint.New(strings.NewReader(r.body)).Lint(); err != nil || len(problems) > 0 {
		s.t.Errorf("%v, %+v of\n%s", err, problems, r.body)
	}
	var samples strings.Builder
	for line := range strings.Lines(r.body) {
		if !strings.HasPrefix(line, "#") {
			samples.WriteString(line)
		}
	}
	return samples.String()
}

func addUsage(s *service, workspace, keyID, model string, n manage.UsageCounts) {
	s.store.AddUsage(managetest.Usage{At: usedAt, Workspace: workspace, Key: keyID, Model: model, UsageCounts: n})
}

// TestMetrics: exactly the series of the workspace, with exactly what was used.
func TestMetrics(t *testing.T) {
	s := serve(t)
	exporter := s.create(operator, `{"workspace":"demo","actions":["metrics"]}`)
	addUsage(s, "demo", exporter.ID, "shared/one", manage.UsageCounts{
		Requests: 3, InputTokens: 100, CacheReadInputTokens: 30, CacheCreationInputTokens: 20, OutputTokens: 70, ReasoningOutputTokens: 7,
		Cost: money.New(123, 5),
	})
	addUsage(s, "demo", "", `odd"\`, manage.UsageCounts{Requests: 1 << 60})
	addUsage(s, "other", "x", "other/own", manage.UsageCounts{Requests: 5, InputTokens: 5})
	demo := `tollgate_workspace_requests_total{model="odd\"\\"} 1152921504606846976
tollgate_workspace_requests_total{model="shared/one"} 3
tollgate_workspace_tokens_total{model="odd\"\\",type="input"} 0
tollgate_workspace_tokens_total{model="odd\"\\",type="cache_read_input"} 0
tollgate_workspace_tokens_total{model="odd\"\\",type="cache_creation_input"} 0
tollgate_workspace_tokens_total{model="odd\"\\",type="output"} 0
tollgate_workspace_tokens_total{model="odd\"\\",type="reasoning_output"} 0
tollgate_workspace_tokens_total{model="shared/one",type="input"} 50
tollgate_workspace_tokens_total{model="shared/one",type="cache_read_input"} 30
tollgate_workspace_tokens_total{model="shared/one",type="cache_creation_input"} 20
tollgate_workspace_tokens_total{model="shared/one",type="output"} 63
tollgate_workspace_tokens_total{model="shared/one",type="reasoning_output"} 7
tollgate_workspace_cost_usd_total{model="odd\"\\"} 0
tollgate_workspace_cost_usd_total{model="shared/one"} 0.00123
tollgate_workspace_model_deployed{model="demo/own"} 1
tollgate_workspace_model_deployed{model="shared/one"} 1
`
	other := `tollgate_workspace_requests_total{model="other/own"} 5
tollgate_workspace_tokens_total{model="other/own",type="input"} 5
tollgate_workspace_tokens_total{model="other/own",type="cache_read_input"} 0
tollgate_workspace_tokens_total{model="other/own",type="cache_creation_input"} 0
tollgate_workspace_tokens_total{model="other/own",type="output"} 0
tollgate_workspace_tokens_total{model="other/own",type="reasoning_output"} 0
tollgate_workspace_cost_usd_total{model="other/own"} 0
tollgate_workspace_model_deployed{model="other/own"} 0
tollgate_workspace_model_deployed{model="shared/one"} 1
`
	for _, c := range []struct{ path, secret, want string }{
		{"/metrics", exporter.Key, demo},
		{"/metrics?workspace=demo", exporter.Key, demo},
		{"/metrics?workspace=demo", operator, demo},
		{"/metrics?workspace=other", operator, other},
	} {
		if got := s.scrape(c.path, c.secret); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.path, got, c.want)
		}
	}
	s.must(400, "GET", "/metrics", operator, "") // which one?
	s.must(400, "GET", "/metrics?workspace=other", exporter.Key, "")
	s.must(400, "GET", "/metrics?workspace=nowhere", operator, "")
	s.must(401, "GET", "/metrics", "", "")
}

// The action metrics opens the workspace's series to whoever has it: to members all
// of them, to a key that is limited those of its models.
func TestWhoSeesWhichMetrics(t *testing.T) {
	s := serve(t)
	shared := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	member := s.create(operator, `{"workspace":"demo","user":"max","actions":["infer","metrics"]}`)
	narrow := s.create(operator, `{"workspace":"demo","actions":["metrics"],"models":["demo/*"]}`)
	addUsage(s, "demo", shared.ID, "shared/one", manage.UsageCounts{Requests: 1})
	addUsage(s, "demo", member.ID, "demo/own", manage.UsageCounts{Requests: 2})
	addUsage(s, "demo", narrow.ID, "demo/own", manage.UsageCounts{Requests: 4})
	for _, c := range []struct {
		who, secret string
		want        []string
	}{
		{"a member", member.Key, []string{`requests_total{model="demo/own"} 6`, `requests_total{model="shared/one"} 1`, `deployed{model="shared/one"}`}},
		{"a limited key", narrow.Key, []string{`requests_total{model="demo/own"} 4`, `deployed{model="demo/own"}`}},
	} {
		got := s.scrape("/metrics", c.secret)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s sees\n%s\nwithout %s", c.who, got, want)
			}
		}
		if strings.Contains(got, "shared/one") == (c.who == "a limited key") {
			t.Errorf("%s sees\n%s", c.who, got)
		}
	}
	if r := s.must(403, "GET", "/metrics", shared.Key, ""); !strings.Contains(r.body, "the action metrics") {
		t.Errorf("without the action: %s", r.body)
	}
}

// Counters that lag behind would look as if they had begun anew.
func TestMetricsWaitForTotals(t *testing.T) {
	s := serve(t)
	s.store.SetPending(-1)
	if r := s.must(503, "GET", "/metrics?workspace=demo", operator, ""); r.header.Get("Retry-After") != "1" {
		t.Errorf("%q", r.header)
	}
	s.store.SetPending(3)
	s.must(200, "GET", "/metrics?workspace=demo", operator, "")
}

// TestMetricsThroughTheGateway is Baseten's: the key by its scheme, refusals in its
// form, and nobody else's series.
func TestMetricsThroughTheGateway(t *testing.T) {
	s, api, first := serveGateway(t)
	exporter := api.create(operator, `{"workspace":"demo","actions":["metrics"]}`)
	addUsage(s, "demo", exporter.ID, "shared/one", manage.UsageCounts{Requests: 3})
	if got := s.scrape("/metrics", "", "Authorization: Api-Key "+exporter.Key); !strings.HasPrefix(got, "tollgate_workspace_requests_total{model=\"shared/one\"} 3\n") {
		t.Error(got)
	}
	for status, headers := range map[int][]string{
		401: nil,
		403: {"Authorization: Api-Key " + first.Key},
		400: {"Authorization: Api-Key " + first.Key, "X-Api-Key: " + exporter.Key},
	} {
		r := s.must(status, "GET", "/metrics", "", "", headers...)
		if status == 403 && !strings.Contains(r.body, "This takes a key with the action metrics; the presented one is a personal key") {
			t.Errorf("what opens it is told as %s", r.body)
		}
		if !strings.HasPrefix(r.body, `{"error":`) || r.header.Get("Content-Type") != "application/json" || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%d is told as %s, %q", status, r.body, r.header)
		}
	}
	s.must(400, "GET", "/metrics?workspace=other", exporter.Key, "")
}
