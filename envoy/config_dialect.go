package envoy

import (
	"fmt"
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	headermetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"tollgate/authz/dialect"
)

// dialectFilterName is the filter that notes the dialect of a request's route, for
// localReplies, and the dynamic metadata that it notes it in. It comes first: what
// filters behind it answer is in that dialect. Metadata can't be forged, isn't seen by
// the upstream, and is still there when the router answers, as a header would not be.
const (
	dialectFilterName = "tollgate.dialect"
	metaDialect       = "name"
)

// otherDialects are those that refuse in another way than OpenAI's, which is what
// nobody has to ask for.
func otherDialects() []*dialect.Dialect {
	var others []*dialect.Dialect
	for _, name := range dialect.Names() {
		if d, _ := dialect.Lookup(name); refusesOtherwise(d) {
			others = append(others, d)
		}
	}
	return others
}

func refusesOtherwise(d *dialect.Dialect) bool { return d.Style != dialect.OpenAI }

// dialects are those of otherDialects that the spec has.
func (s Spec) dialects() []*dialect.Dialect {
	return slices.DeleteFunc(otherDialects(), func(d *dialect.Dialect) bool {
		return !slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Dialect == d.Name }) &&
			!slices.ContainsFunc(s.Managed, func(m Managed) bool { return m.Dialect == d.Name })
	})
}

// checkDialect checks Route.Dialect and Managed.Dialect.
func checkDialect(name string) error {
	if _, ok := dialect.Lookup(name); !ok && name != "" {
		return fmt.Errorf("there is no dialect %q", name)
	}
	return nil
}

// note adds a route's dialect to its filters.
func note(name string, filters map[string]*anypb.Any) {
	if d, ok := dialect.Lookup(name); !ok || !refusesOtherwise(d) {
		return
	}
	filters[dialectFilterName] = pack(&headermetadatav3.Config{RequestRules: []*headermetadatav3.Config_Rule{{
		Header: ":method", // which every request has
		OnHeaderPresent: &headermetadatav3.Config_KeyValuePair{
			MetadataNamespace: dialectFilterName, Key: metaDialect, Value: name,
		},
	}}})
}

// dialectFilter matches a request whose route speaks d.
func dialectFilter(d *dialect.Dialect) *accesslogv3.AccessLogFilter {
	return metadataFilter(dialectFilterName, metaDialect, &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: d.Name}},
	}}, false)
}
