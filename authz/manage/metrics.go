package manage

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"tollgate/authz/catalog"
)

const metricsPath = "/metrics"

// metricsMedia is the type of Prometheus' text format, version 0.0.4.
const metricsMedia = "text/plain; version=0.0.4; charset=utf-8"

func (a *api) metricsRoute() {
	handle(a, route{
		method: http.MethodGet, path: metricsPath, who: exporters, status: http.StatusOK, media: metricsMedia,
		summary: "What the workspace used, by model, as Prometheus reads it; of a key that opens some models, what keys like it used of these. Takes a key with the action metrics",
		query:   []param{{"workspace", "For the operator; where there is one workspace it is the default"}},
	}, a.metrics)
}

// metrics are the series of one workspace. A scrape goes to any replica: one whose
// totals lag behind would look as if the counters had begun anew, so it says nothing.
func (a *api) metrics(ctx context.Context, c *call, _ none) (raw, error) {
	ws, err := a.workspace(c.who, c.query.Get("workspace"))
	if err != nil {
		return nil, err
	}
	q := &UsageQuery{Workspace: ws.ID, Group: UsageGroup{Model: true}}
	if !c.who.operator() {
		// The action opens the workspace's series to members, too.
		all := *c.who
		all.member = false
		if err := a.confine(ctx, &all, q); err != nil {
			return nil, err
		}
	}
	sums, err := a.Totals.Usage(q)
	if err != nil {
		return nil, err
	}
	if !sums.Current {
		return nil, refuse(http.StatusServiceUnavailable, "The usage is being summed up, or can't be read at the moment; try again")
	}
	var s series
	s.usage(sums.Rows)
	s.cost(sums.Rows)
	s.models(slices.DeleteFunc(slices.Clone(a.Tables().ModelsFor(ws.ID)), func(m *catalog.Model) bool {
		return !ws.Plan.Allows(m.ID) || !c.who.operator() && !c.who.rec.Opens(m.ID)
	}))
	return raw(s.text), nil
}

// series are written in Prometheus' text format.
type series struct{ text []byte }

// usage writes counters by model. Kinds of tokens don't overlap here, so that they
// can be added up.
func (s *series) usage(rows []UsageSum) {
	s.family("tollgate_workspace_requests_total", "counter", "Requests that were let through, of every outcome.")
	for i := range rows {
		s.sample("tollgate_workspace_requests_total", count(rows[i].Requests), label{"model", rows[i].Model})
	}
	s.family("tollgate_workspace_tokens_total", "counter",
		"Tokens by type: input (none that are of the next two types), cache_read_input, cache_creation_input, output (without reasoning), reasoning_output.")
	for i := range rows {
		r := &rows[i]
		for _, kind := range [...]struct {
			name string
			n    int64
		}{
			{"input", max(0, r.InputTokens-r.CacheReadInputTokens-r.CacheCreationInputTokens)},
			{"cache_read_input", r.CacheReadInputTokens},
			{"cache_creation_input", r.CacheCreationInputTokens},
			{"output", max(0, r.OutputTokens-r.ReasoningOutputTokens)},
			{"reasoning_output", r.ReasoningOutputTokens},
		} {
			s.sample("tollgate_workspace_tokens_total", count(kind.n), label{"model", r.Model}, label{"type", kind.name})
		}
	}
}

// cost writes what is billed, by model. Prometheus rounds it to a float: bills are
// made of events.
func (s *series) cost(rows []UsageSum) {
	s.family("tollgate_workspace_cost_usd_total", "counter", "What is billed, in USD: the list cost times the multiplier of its time.")
	for i := range rows {
		s.sample("tollgate_workspace_cost_usd_total", rows[i].Cost.String(), label{"model", rows[i].Model})
	}
}

// models writes which models there are, and whether they are deployed.
func (s *series) models(models []*catalog.Model) {
	s.family("tollgate_workspace_model_deployed", "gauge", "Models that the key and the plan open: 1 if deployed, 0 if not.")
	for _, m := range models {
		deployed := "0"
		if m.Deployed {
			deployed = "1"
		}
		s.sample("tollgate_workspace_model_deployed", deployed, label{"model", m.ID})
	}
}

func (s *series) family(name, kind, help string) {
	s.text = append(s.text, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// labelEscapes are those of a label's value.
var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// label is one of a sample's.
type label struct{ name, value string }

func (s *series) sample(name, value string, labels ...label) {
	s.text = append(s.text, name...)
	for i, l := range labels {
		s.text = append(s.text, "{,"[min(i, 1)])
		s.text = append(s.text, l.name+`="`+labelEscapes.Replace(l.value)+`"`...)
	}
	s.text = append(s.text, "} "+value+"\n"...)
}

func count(n int64) string { return strconv.FormatInt(n, 10) }
