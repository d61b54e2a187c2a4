package catalog

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tollgate/authz/dialect"
)

// maxHosts is how many hosts a route may name.
const maxHosts = 64

const anySubdomain = "*."

var hostLabels = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// HostName is a request's host as routes name it: without a port and without the dot
// of the root, in lower case. It takes the port off as Envoy does.
func HostName(host string) string {
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		host = host[:colon]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// Serves reports whether the route is for a host (as HostName has it), and how
// exactly it names it: 0: it is not; 1: it names none, and is for all; more: by a
// wildcard, the longer the more; most: as it is.
func (r *Route) Serves(host string) int {
	if len(r.Hosts) == 0 {
		return 1
	}
	best := 0
	for _, h := range r.Hosts {
		switch suffix, wildcard := strings.CutPrefix(h, "*"); {
		case h == host:
			return mostExact
		case wildcard && len(host) > len(suffix) && strings.HasSuffix(host, suffix):
			best = max(best, 1+len(suffix))
		}
	}
	return best
}

// SomeHost is one that the route is for; "" where it is for all.
func (r *Route) SomeHost() string {
	if len(r.Hosts) == 0 {
		return ""
	}
	if rest, wildcard := strings.CutPrefix(r.Hosts[0], anySubdomain); wildcard {
		return "some." + rest
	}
	return r.Hosts[0]
}

// mostExact is more than any wildcard has.
const mostExact = 1 << 10

func checkHost(name string) error {
	lower := strings.ToLower(name)
	switch {
	case len(name) > maxText:
		return fmt.Errorf("a host has at most %d bytes", maxText)
	case strings.Contains(name, ":"):
		return errors.New("write the host without a scheme and a port, such as api.example.com")
	case !hostLabels.MatchString(lower):
		return errors.New("want a host such as api.example.com, or *.example.com for all below it")
	}
	return nil
}

// hosts checks a route's.
func (s *source) hosts(path string, r *RouteSpec) {
	if r.Hosts != nil && len(r.Hosts) == 0 {
		s.invalidf(path, "is empty: name a host, or leave the field out for all of them")
	}
	s.atMost(path, len(r.Hosts), maxHosts)
	for i, name := range r.Hosts {
		item := fmt.Sprintf("%s[%d]", path, i)
		s.required(item, name, checkHost)
		if slices.ContainsFunc(r.Hosts[:i], func(other string) bool { return strings.EqualFold(name, other) }) {
			s.invalidf(item, "%s stands twice", quote(name))
		}
	}
}

// apart checks that of any two routes for the same host no request could be for
// both, and that objects, which are told apart by their dialect, are in one place.
func (s *source) apart(routes []RouteSpec) {
	for i := range routes {
		d, known := dialect.Lookup(routes[i].Dialect)
		for j := range routes[:i] {
			other, otherKnown := dialect.Lookup(routes[j].Dialect)
			if known && d == other && d.NamesObjects() && routes[i].Upstream != routes[j].Upstream {
				s.invalidf(fmt.Sprintf("routes[%d].upstream", i), "differs from that of routes[%d]: what one upstream has under an id would be taken for what the other has, "+
					"maybe another workspace's; routes of %s have the same upstream", j, d.Name)
				break
			}
			host, shared := sharedHost(&routes[i], &routes[j])
			if !known || !otherKnown || !shared {
				continue
			}
			path := fmt.Sprintf("routes[%d].dialect", i)
			if d == other {
				s.invalidf(path, "there is another route of this dialect, routes[%d], for %s: keep one, or give them hosts of their own", j, host)
				break
			}
			if p, q := dialect.Collision(d, other); p != nil {
				s.invalidf(path, "%s has the path %s, and %s (routes[%d]) has %s, for %s: nobody could tell which is meant; give them hosts of their own",
					d.Name, p.Name(), other.Name, j, q.Name(), host)
				break
			}
		}
	}
}

// sharedHost is a host that two routes name in the same way, in words.
func sharedHost(a, b *RouteSpec) (host string, shared bool) {
	if len(a.Hosts) == 0 && len(b.Hosts) == 0 {
		return "all hosts", true
	}
	for _, h := range a.Hosts {
		if slices.ContainsFunc(b.Hosts, func(other string) bool { return strings.EqualFold(h, other) }) {
			return "the host " + quote(h), true
		}
	}
	return "", false
}

// compileHosts makes hosts comparable.
func compileHosts(hosts []string) []string {
	if hosts == nil {
		return nil
	}
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = strings.ToLower(h)
	}
	return names
}
