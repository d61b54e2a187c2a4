package catalog

import (
	"fmt"
	"slices"
	"strings"

	"tollgate/authz/key"
)

// Bounds of how many there may be.
const (
	maxWorkspaces = 10_000
	maxUsers      = 100_000
	maxPlans      = 1_000
	maxModels     = 10_000
	maxUpstreams  = 64
	maxPatterns   = 1_000 // of a plan
	maxLabels     = 16
	maxResources  = 64
	maxTagHeaders = 8
)

// Units are what a rate may be for: tokens of these kinds per million, and one
// each of request, second, character, image, video and song.
func Units() []string {
	return []string{
		"input", "cacheReadInput", "cacheCreationInput", "output", "reasoningOutput", "audioInput", "audioOutput",
		"request", "second", "character", "image", "video", "song",
	}
}

// Validate finds out what Parse would find wrong with a catalog that didn't
// come from a text or was changed since. The error is an *Error, without lines.
func Validate(c *Catalog) error {
	s := newSource("", nil)
	s.validate(c)
	return s.err()
}

// ids are what may be referred to.
type ids struct{ plans, workspaces, models map[string]bool }

func (s *source) validate(c *Catalog) {
	switch {
	case c.Version < 0 || c.Version > Version:
		s.invalidf("v", "this Tollgate reads form %d of a catalog, not %d: use a newer one", Version, c.Version)
	case c.Version == 0 && s.written("v"):
		s.invalidf("v", "is 0: write %d or leave the field out", Version)
	}
	s.atMost("workspaces", len(c.Workspaces), maxWorkspaces)
	s.atMost("users", len(c.Users), maxUsers)
	s.atMost("plans", len(c.Plans), maxPlans)
	s.atMost("models", len(c.Models), maxModels)
	known := ids{make(map[string]bool), make(map[string]bool), make(map[string]bool, len(c.Models))}
	for i := range c.Plans {
		p := &c.Plans[i]
		path := fmt.Sprintf("plans[%d]", i)
		s.id(path, p.ID, "plan", checkSlug, known.plans)
		s.plan(path, p)
	}
	for i := range c.Workspaces {
		w := &c.Workspaces[i]
		path := fmt.Sprintf("workspaces[%d]", i)
		s.id(path, w.ID, "workspace", checkSlug, known.workspaces)
		s.workspace(path, w, known)
	}
	s.users(c.Users, known)
	for i := range c.Models {
		m := &c.Models[i]
		path := fmt.Sprintf("models[%d]", i)
		s.id(path, m.ID, "model", checkModelID, known.models)
		s.model(path, m, known)
	}
	s.routes(c.Routes, known)
	s.lists(c)
	s.settings(&c.Settings)
}

// invalidf notes a problem with a value, unless it could not be read anyway.
func (s *source) invalidf(path, format string, args ...any) {
	if s.broken[path] {
		return
	}
	v := showLine
	if strings.Contains(path, ".credential") || strings.HasSuffix(path, "url") || strings.HasSuffix(path, ".upstream") {
		v = showNone
	}
	s.problemf(s.find(path), path, v, format, args...)
}

// check notes what a check found, if anything.
func (s *source) check(path string, err error) {
	if err != nil {
		s.invalidf(path, "%v", err)
	}
}

// written reports whether the text has a value at path.
func (s *source) written(path string) bool {
	_, ok := s.at[path]
	return ok
}

// optional checks a string that may be left out but not be empty.
func (s *source) optional(path, value string, check func(string) error) {
	if value == "" {
		if s.written(path) {
			s.invalidf(path, "is empty: write a value or leave the field out")
		}
		return
	}
	s.check(path, check(value))
}

// required checks a string that may not be left out.
func (s *source) required(path, value string, check func(string) error) {
	if value == "" {
		if !s.broken[parentPath(path)] {
			s.invalidf(path, "is missing: it has no default")
		}
		return
	}
	s.check(path, check(value))
}

// id checks an id and that it is the only one.
func (s *source) id(path, id, what string, check func(string) error, seen map[string]bool) {
	s.required(path+".id", id, check)
	if id != "" && seen[id] {
		s.invalidf(path+".id", "there is another %s %s: ids are unique", what, quote(id))
	}
	seen[id] = true
}

// named checks that an id which may be left out, but not be empty, exists.
func (s *source) named(path, id, what string, known map[string]bool) {
	s.optional(path, id, func(string) error { return nil })
	s.reference(path, id, what, known)
}

// reference checks that an id exists.
func (s *source) reference(path, id, what string, known map[string]bool) {
	if known[id] || known[""] || s.broken[what+"s"] || id == "" {
		return // it exists, or it is told elsewhere why that can't be said
	}
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	advice := "declare it under " + what + "s"
	if name := closest(id, names); name != "" {
		advice = fmt.Sprintf("did you mean %q?", name)
	}
	s.invalidf(path, "there is no %s %s; %s", what, quote(id), advice)
}

func (s *source) atMost(path string, n, most int) {
	if n > most {
		s.invalidf(path, "%d are too many: %d at most", n, most)
	}
}

// oneOf checks a value from a closed list; zero stands for a default.
func oneOf[T ~string](s *source, path string, value T, allowed ...T) {
	s.optional(path, string(value), func(string) error {
		if slices.Contains(allowed, value) {
			return nil
		}
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = string(a)
		}
		return fmt.Errorf("want one of %s, not %s", strings.Join(names, ", "), quote(string(value)))
	})
}

func (s *source) workspace(path string, w *WorkspaceSpec, known ids) {
	s.required(path+".plan", w.Plan, func(string) error { return nil })
	s.reference(path+".plan", w.Plan, "plan", known.plans)
	s.optional(path+".keyFormat", w.KeyFormat, func(pattern string) error {
		_, err := key.ParseFormat(pattern)
		return err
	})
	for i, a := range w.KeyDefaults.Actions {
		item := fmt.Sprintf("%s.keyDefaults.actions[%d]", path, i)
		oneOf(s, item, a, key.Infer, key.Wake, key.Manage, key.Metrics)
		if slices.Contains(w.KeyDefaults.Actions[:i], a) {
			s.invalidf(item, "%s stands twice", quote(string(a)))
		}
	}
	s.optional(path+".multiplier", w.Multiplier, checkDecimal)
	s.optional(path+".externalId", w.ExternalID, checkText)
	s.labels(path+".labels", w.Labels)
	s.provenance(path, w.Managed, w.Generation)
	s.credit(path+".credit", w.Credit)
}

func (s *source) users(users []UserSpec, known ids) {
	type identity struct{ workspace, id string }
	seen := make(map[identity]bool, len(users))
	for i := range users {
		u := &users[i]
		path := fmt.Sprintf("users[%d]", i)
		s.required(path+".id", u.ID, checkUserID)
		s.required(path+".workspace", u.Workspace, func(string) error { return nil })
		s.reference(path+".workspace", u.Workspace, "workspace", known.workspaces)
		if id := (identity{u.Workspace, u.ID}); seen[id] {
			s.invalidf(path+".id", "there is another user %s in this workspace", quote(u.ID))
		} else {
			seen[id] = u.ID != ""
		}
		oneOf(s, path+".role", u.Role, Admin, Member)
		s.optional(path+".externalId", u.ExternalID, checkText)
		s.labels(path+".labels", u.Labels)
		s.provenance(path, u.Managed, u.Generation)
	}
}

func (s *source) labels(path string, labels map[string]string) {
	s.atMost(path, len(labels), maxLabels)
	for name, value := range labels {
		item := member(path, name)
		if len(name) > maxLabelName || checkASCII(name) != nil {
			s.invalidf(item, "a label's name is 1 to %d printable ASCII characters without spaces", maxLabelName)
		}
		s.optional(item, value, checkText)
	}
}

func (s *source) plan(path string, p *PlanSpec) {
	perKey := path + ".limits.perKey"
	if s.written(path+".limits") && !s.written(perKey) {
		perKey = path + ".limits" // written flat
	}
	s.scope(perKey, p.Limits.PerKey)
	s.scope(path+".limits.perUser", p.Limits.PerUser)
	s.scope(path+".limits.perWorkspace", p.Limits.PerWorkspace)
	s.atMost(path+".limits.perModel", len(p.Limits.PerModel), maxPatterns)
	for pattern, l := range p.Limits.PerModel {
		item := member(path+".limits.perModel", pattern)
		s.check(item, checkPattern(pattern))
		s.scope(item, l)
	}
	if b := p.Budget; b != nil {
		s.required(path+".budget.period", string(b.Period), func(string) error { return nil })
		oneOf(s, path+".budget.period", b.Period, Day, Month, Total)
		s.required(path+".budget.amount", b.Amount, checkDecimal)
	}
	s.optional(path+".multiplier", p.Multiplier, checkDecimal)
	s.atMost(path+".models", len(p.Models), maxPatterns)
	for i, pattern := range p.Models {
		s.check(fmt.Sprintf("%s.models[%d]", path, i), checkPattern(pattern))
	}
	s.atMost(path+".resources", len(p.Resources), maxResources)
	for name, most := range p.Resources {
		item := member(path+".resources", name)
		if !resourcePattern.MatchString(name) {
			s.invalidf(item, "a resource's name is letters and digits, the first a small letter")
		}
		if most < 0 {
			s.invalidf(item, "a cap is 0, which closes the resource, or more")
		}
	}
}

func (s *source) scope(path string, l key.Limits) {
	s.limit(path+".requestsPerMinute", l.RequestsPerMinute)
	s.limit(path+".tokensPerMinute", l.TokensPerMinute)
	s.limit(path+".concurrentRequests", l.ConcurrentRequests)
}

func (s *source) limit(path string, n int64) {
	switch {
	case n < 0:
		s.invalidf(path, "a limit is 1 or more; leave it out for no limit")
	case n == 0 && s.written(path):
		s.invalidf(path, "a limit of 0 would let nothing through; leave it out for no limit")
	case n > maxLimit:
		s.invalidf(path, "a limit is at most %d; leave it out for no limit", int64(maxLimit))
	}
}
