package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/authz/reason"
)

// metrics are Tollgate's own, on the metrics listener. No label has a key, a
// workspace or a model: their number would be up to callers.
type metrics struct {
	registry    *prometheus.Registry
	checks      *prometheus.CounterVec
	duration    prometheus.Histogram
	settlements *prometheus.CounterVec
	unaudited   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_checks_total",
			Help: "Checks answered, by decision (allow, deny, answer, look), reason of a refusal, and dialect.",
		}, []string{"decision", "reason", "dialect"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tollgate_check_duration_seconds",
			Help:    "Time to decide a check, without the proxy's and gRPC's.",
			Buckets: []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1},
		}),
		settlements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_settlements_dropped_total",
			Help: "Settlements that were not taken: a token that doesn't verify, another replica's, an admission closed before.",
		}, []string{"why"}),
		unaudited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tollgate_audit_unwritten_total",
			Help: "Entries of the audit trail that are not in it, or not whole: suppressed and shortened to bound it, unstored ones are in the log.",
		}, []string{"why"}),
	}
	m.registry.MustRegister(m.checks, m.duration, m.settlements, m.unaudited,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, why := range []string{"token", "foreign", "closed"} {
		m.settlements.WithLabelValues(why)
	}
	for _, r := range reason.All() {
		m.checks.WithLabelValues("deny", r.String(), "") // so that a rate over it starts at 0
	}
	return m
}

func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

func (m *metrics) counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

// checker counts what the Authorizer decides.
type checker struct {
	*authz.Authorizer
	metrics *metrics
}

func (c checker) Check(ctx context.Context, now time.Time, req *dialect.Request, d *authz.Decision) {
	c.Authorizer.Check(ctx, now, req, d)
	c.metrics.duration.Observe(time.Since(now).Seconds())
	why := d.Reason
	if why == reason.None {
		why = d.Observed // what would have been refused
	}
	c.metrics.checks.WithLabelValues(verdict(d), why.String(), d.Dialect).Inc()
}

// verdict is the decision label: a look is a headers-only check that found
// nothing wrong.
func verdict(d *authz.Decision) string {
	switch {
	case d.Reason != reason.None:
		return "deny"
	case d.Admission != nil:
		return "allow"
	case d.Response != nil:
		return "answer"
	}
	return "look"
}
