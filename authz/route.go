package authz

import (
	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/reason"
)

// findRoute finds whose path the request is for: of the routes that serve its host
// the one that names it most exactly, and among these one whose path asks for a
// header that the request has. A catalog leaves no doubt beyond that.
func (c *check) findRoute() bool {
	path, query := dialect.SplitPath(c.req.Path)
	host := catalog.HostName(c.req.Host)
	best := 0
	for i := range c.tables.Routes {
		route := &c.tables.Routes[i]
		rank := 2 * route.Serves(host)
		if rank == 0 || rank+1 <= best {
			continue
		}
		var call dialect.Call
		if !route.Dialect.Route(&call, c.req.Method, path) || !call.Path.Wants(c.req.Headers) {
			continue
		}
		if call.Path.Header != "" {
			rank++
		}
		if rank > best {
			best, c.route, c.call = rank, route, call
		}
	}
	if best == 0 {
		c.call.Dialect = c.spoken(path, host)
		if c.call.Dialect != nil {
			c.d.Dialect = c.call.Dialect.Name
		}
		return c.refuse(reason.RouteUnknown)
	}
	c.d.Dialect = c.route.Dialect.Name
	if c.call.Answer == dialect.AnswerManaged {
		c.why.Detail = managedElsewhere
		return c.refuse(reason.RouteUnknown)
	}
	c.why.Reason, c.why.Detail = dialect.CheckQuery(query)
	return c.why.Reason == reason.None
}

// spoken is the dialect in whose way an unknown path is refused: of the routes that
// serve the host most exactly and have others like it, the one for which most speaks.
// nil: none.
func (c *check) spoken(path, host string) (d *dialect.Dialect) {
	serves, claims := 0, 0
	for i := range c.tables.Routes {
		route := &c.tables.Routes[i]
		rank, claim := route.Serves(host), route.Dialect.Claims(path, c.req.Headers)
		if rank > 0 && claim > 0 && (rank > serves || rank == serves && claim > claims) {
			serves, claims, d = rank, claim, route.Dialect
		}
	}
	return d
}

// managedElsewhere is for whoever runs a proxy that is not configured for Tollgate:
// one that is makes no Check of such a request.
const managedElsewhere = "This path is Tollgate's own, and the proxy asked for a check instead of sending the request there. " +
	"Whoever runs the proxy: use the configuration that tollgate envoy bootstrap prints, or let callers use the management API."
