package envoy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// allHosts is Envoy's name for every host that no other one names.
const allHosts = "*"

var hostPattern = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// checkHosts checks Route.Hosts and Managed.Hosts.
func checkHosts(hosts []string) error {
	for i, h := range hosts {
		if len(h) > 255 || !hostPattern.MatchString(h) {
			return fmt.Errorf("host %q: write it in lower case and without a port, as api.example.com or *.example.com", h)
		}
		if slices.Contains(hosts[:i], h) {
			return fmt.Errorf("host %q: it is there twice", h)
		}
	}
	return nil
}

// serves reports whether what is for hosts is also for domain, which is one of
// somebody's hosts or allHosts, and how exactly it names it: 0: it is not; 1: it is
// for all; more, the longer the name is.
func serves(hosts []string, domain string) int {
	if len(hosts) == 0 {
		return 1
	}
	best := 0
	for _, h := range hosts {
		suffix, wildcard := strings.CutPrefix(h, "*")
		if h == domain || wildcard && len(domain) > len(suffix) && strings.HasSuffix(domain, suffix) {
			best = max(best, 1+len(h))
		}
	}
	return best
}

// domains are all hosts that anything in the spec names, and allHosts behind them.
func (s Spec) domains() []string {
	var all []string
	for _, m := range s.Managed {
		all = append(all, m.Hosts...)
	}
	for _, r := range s.Routes {
		all = append(all, r.Hosts...)
	}
	slices.Sort(all)
	return append(slices.Compact(all), allHosts)
}

// buildHosts makes a virtual host of each domain. Envoy takes the one that names a
// request's host most exactly and looks into no other, so each has all routes that
// are for its domain: of two for the same requests, the one that names it more
// exactly.
func buildHosts(o Options, s Spec) []*routev3.VirtualHost {
	domains := s.domains()
	hosts := make([]*routev3.VirtualHost, 0, len(domains))
	for _, domain := range domains {
		name := domain
		if domain == allHosts {
			name = "all"
		}
		h := &routev3.VirtualHost{Name: name, Domains: []string{domain}}
		for _, m := range s.managedAt(domain) {
			h.Routes = append(h.Routes, managedRoute(m))
		}
		for _, r := range s.routesAt(domain) {
			h.Routes = append(h.Routes, checkedRoutes(o, r)...)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// managedAt are the managed paths of a domain, each once.
func (s Spec) managedAt(domain string) []Managed {
	return at(s.Managed, domain, func(m Managed) []string { return m.Hosts }, func(m Managed) string { return m.Path })
}

// routesAt are the routes of a domain in the order in which they are tried: the
// longest prefix first, and of two that ask for a header and not, the one that does.
func (s Spec) routesAt(domain string) []Route {
	routes := at(s.Routes, domain, func(r Route) []string { return r.Hosts }, func(r Route) string { return r.Prefix + " " + r.Header })
	slices.SortStableFunc(routes, func(a, b Route) int {
		return cmp.Or(len(b.Prefix)-len(a.Prefix), len(b.Header)-len(a.Header))
	})
	return routes
}

// at are those of all that are for a domain, and of those with the same key the one
// that names it most exactly: the first of them.
func at[T any](all []T, domain string, hosts func(T) []string, key func(T) string) []T {
	best := make(map[string]int)
	for _, one := range all {
		best[key(one)] = max(best[key(one)], serves(hosts(one), domain))
	}
	var chosen []T
	for _, one := range all {
		k := key(one)
		if rank := serves(hosts(one), domain); rank > 0 && rank == best[k] {
			chosen = append(chosen, one)
			best[k] = -1 // it is taken
		}
	}
	return chosen
}
