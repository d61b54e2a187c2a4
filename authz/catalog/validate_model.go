package catalog

import (
	"fmt"
	"slices"
	"strings"

	"tollgate/authz/dialect"
)

func (s *source) model(path string, m *ModelSpec, known ids) {
	for i, id := range m.Workspaces {
		item := fmt.Sprintf("%s.workspaces[%d]", path, i)
		s.named(item, id, "workspace", known.workspaces)
		if slices.Contains(m.Workspaces[:i], id) {
			s.invalidf(item, "%s stands twice", quote(id))
		}
	}
	s.atMost(path+".upstreams", len(m.Upstreams), maxUpstreams)
	var first *Upstream
	for i, u := range m.Upstreams {
		item := fmt.Sprintf("%s.upstreams[%d]", path, i)
		s.required(item+".url", u.URL, checkURL)
		if u.Weight < 0 || u.Weight > maxWeight || u.Weight == 0 && s.written(item+".weight") {
			s.invalidf(item+".weight", "a weight is from 1 to %d; leave the upstream out if it should get nothing", maxWeight)
		}
		parsed, err := parseURL(u.URL)
		if err != nil {
			continue // told above, or in a variable, which Compile looks at
		}
		if first == nil {
			first = parsed
		} else if parsed.Scheme != first.Scheme || parsed.Path != first.Path {
			s.invalidf(item+".url", "differs in scheme or path from the first: the upstreams of a model serve the same API")
		}
	}
	if m.Cluster != "" && len(m.Upstreams) > 0 {
		s.invalidf(path+".cluster", "a model has upstreams or a cluster of yours, not both")
	}
	s.optional(path+".cluster", m.Cluster, func(name string) error {
		if strings.HasPrefix(name, ModelCluster("")) || strings.HasPrefix(name, RouteCluster("")) {
			return fmt.Errorf("names that begin with %s or %s are Tollgate's own", ModelCluster(""), RouteCluster(""))
		}
		return checkASCII(name)
	})
	https := first == nil || first.Scheme == "https" // what is in a variable may be either
	if m.CAFile != "" && (len(m.Upstreams) == 0 || !https) {
		s.invalidf(path+".caFile", "is for https upstreams, of which this model has none")
	}
	s.optional(path+".caFile", m.CAFile, checkFile)
	s.healthCheck(path+".healthCheck", m)
	s.optional(path+".upstreamModel", m.UpstreamModel, checkText)
	s.credential(path+".credential", m.Credential)
	s.rates(path+".rates", m.Rates)
}

func (s *source) healthCheck(path string, m *ModelSpec) {
	h := m.HealthCheck
	if h == nil {
		return
	}
	if len(m.Upstreams) == 0 {
		s.invalidf(path, "is for upstreams, of which this model has none")
	}
	s.required(path+".path", h.Path, checkPath)
	s.optional(path+".interval", h.Interval, healthInterval.check)
	s.optional(path+".timeout", h.Timeout, healthTimeout.check)
}

func (s *source) credential(path string, c *CredentialSpec) {
	if c == nil {
		return
	}
	s.required(path+".from", c.From, checkFrom)
	s.optional(path+".header", c.Header, func(name string) error {
		if err := checkHeader(name); err != nil {
			return err
		}
		return checkFree(name)
	})
	if c.Scheme != nil && *c.Scheme != "" {
		s.check(path+".scheme", checkHeader(*c.Scheme))
	}
}

// checkFree checks that a header may be set: it isn't the gate's own, and HTTP
// doesn't need it.
func checkFree(name string) error {
	switch lower := strings.ToLower(name); {
	case strings.HasPrefix(lower, "x-tollgate-") && lower != DefaultModelHeader,
		strings.HasPrefix(lower, "x-envoy-"), strings.HasPrefix(lower, "content-"), strings.HasPrefix(lower, "sec-"),
		slices.Contains([]string{"host", "connection", "transfer-encoding", "te", "upgrade", "keep-alive", "trailer", "expect", "x-request-id"}, lower):
		return fmt.Errorf("the header %s has another use: choose another one", lower)
	}
	return nil
}

// secretHeaders carry keys, which must not get into events.
var secretHeaders = append(dialect.CredentialHeaders(), "cookie")

func (s *source) routes(routes []RouteSpec, known ids) {
	for i := range routes {
		r := &routes[i]
		path := fmt.Sprintf("routes[%d]", i)
		s.required(path+".dialect", r.Dialect, func(name string) error {
			if _, ok := dialect.Lookup(name); ok {
				return nil
			}
			return fmt.Errorf("there is no dialect %s; it may be %s", quote(name), strings.Join(dialect.Names(), ", "))
		})
		s.hosts(path+".hosts", r)
		s.cors(path+".cors", r.CORS)
		s.optional(path+".upstream", r.Upstream, checkURL)
		if s.named(path+".model", r.Model, "model", known.models); r.Model != "" && r.Upstream != "" {
			s.invalidf(path+".model", "says where requests go that name no model, and so does upstream: keep one")
		}
		s.optional(path+".maxDuration", r.MaxDuration, maxDuration.check)
		s.optional(path+".maxWebSocketDuration", r.MaxWebSocketDuration, maxDuration.check)
		s.optional(path+".maxBody", r.MaxBody, func(text string) error {
			_, err := parseSize(text)
			return err
		})
		oneOf(s, path+".mode", r.Mode, Enforce, Observe)
		s.observe(path+".observe", r, known)
		oneOf(s, path+".settlement", r.Settlement, SettledByEnvoy, Unsettled)
	}
	s.apart(routes)
}

// observe checks that what a route in observe mode lets through has an owner.
func (s *source) observe(path string, r *RouteSpec, known ids) {
	if r.Mode != Observe {
		if s.written(path) || r.Observe.Workspace != "" {
			s.invalidf(path, "is for mode: observe, which this route doesn't have")
		}
		return
	}
	if r.Observe.Workspace == "" && len(known.workspaces) != 1 && !s.broken["workspaces"] {
		s.invalidf(path+".workspace", "is missing: name the workspace that owns what passes without a key; only where there is one workspace it is the default")
		return
	}
	s.named(path+".workspace", r.Observe.Workspace, "workspace", known.workspaces)
}

func (s *source) settings(c *SettingsSpec) {
	s.optional("settings.modelHeader", c.ModelHeader, func(name string) error {
		if err := checkHeader(name); err != nil {
			return err
		}
		if slices.Contains(secretHeaders, strings.ToLower(name)) {
			return fmt.Errorf("the header %s carries keys: choose another one", strings.ToLower(name))
		}
		return checkFree(name)
	})
	s.atMost("settings.tagHeaders", len(c.TagHeaders), maxTagHeaders)
	for i, name := range c.TagHeaders {
		item := fmt.Sprintf("settings.tagHeaders[%d]", i)
		s.required(item, name, checkHeader)
		if slices.Contains(secretHeaders, strings.ToLower(name)) {
			s.invalidf(item, "this header carries keys, which must not get into events")
		}
		if slices.ContainsFunc(c.TagHeaders[:i], func(other string) bool { return strings.EqualFold(name, other) }) {
			s.invalidf(item, "%s stands twice", quote(name))
		}
	}
	oneOf(s, "settings.billing.unsettled", c.Billing.Unsettled, ChargeZero, ChargeEstimate)
	oneOf(s, "settings.billing.estimated", c.Billing.Estimated, ChargeEstimate, ChargeZero)
	oneOf(s, "settings.billing.upstreamError", c.Billing.UpstreamError, ChargeReported, ChargeZero)
}
