package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/authz/dialect"
	"tollgate/authz/reason"
)

// A reply is an error that Envoy itself answers with, in place of its own text, which
// is for its operator.
type reply struct {
	filters []*accesslogv3.AccessLogFilter // all of them match
	reason  reason.Reason
	status  uint32 // what is answered; 0: the status that Envoy has
	message string
}

// requestIDFormat is how an error's text and headers have the request's id: that of
// the admission, else Envoy's own. Neither is a client's (see earlyMutations), which
// could end a text early.
const requestIDFormat = "%REQ(X-TOLLGATE-REQUEST-ID?X-REQUEST-ID)%"

// replies are tried in order. The last ones take every error that is left.
func replies() []reply {
	is := func(status uint32) []*accesslogv3.AccessLogFilter {
		return []*accesslogv3.AccessLogFilter{statusFilter(accesslogv3.ComparisonFilter_EQ, status)}
	}
	atLeast := func(status uint32) *accesslogv3.AccessLogFilter {
		return statusFilter(accesslogv3.ComparisonFilter_GE, status)
	}
	flagged := func(flags ...string) []*accesslogv3.AccessLogFilter {
		return []*accesslogv3.AccessLogFilter{flagFilter(flags...)}
	}
	const (
		slow        = "The model took too long to answer."
		unreachable = "The model's server could not be reached, or broke off. Try again."
		noWay       = "There is no way to the model's server. Try again, and tell whoever runs this gateway if it stays so."
	)
	return []reply{
		{[]*accesslogv3.AccessLogFilter{atLeast(500), managedFilter()}, reason.Unavailable, 503, "The gateway can't answer this at the moment. Try again in a second."},
		{is(413), reason.RequestTooLarge, 413, "The request's body is larger than this path allows."},
		{is(404), reason.RouteUnknown, 404, "There is no such path here. Check the base URL of your client."},
		// Of Envoy 501, which clients would try again.
		{is(501), reason.BodyInvalid, 400, "The request has a transfer coding that is not known here. Send a Content-Length, or chunked alone."},
		{is(408), reason.BodyInvalid, 408, "The request took too long to arrive."},
		{is(504), reason.Unavailable, 504, slow}, // a route's maxDuration, which sets no flag
		{flagged("UT", "DT", "SI", "UMSDR"), reason.Unavailable, 504, slow},
		{flagged("UF", "UH", "UC", "LR", "UR", "UPE", "URX", "DF"), reason.Unavailable, 503, unreachable},
		{flagged("NC"), reason.Unavailable, 503, noWay},
		{is(503), reason.Unavailable, 503, "The gateway can't check keys right now. Try again."},
		{[]*accesslogv3.AccessLogFilter{atLeast(500)}, reason.Unavailable, 503, "The gateway could not process this request."},
		{[]*accesslogv3.AccessLogFilter{atLeast(400)}, reason.BodyInvalid, 0, "The gateway could not accept this request."},
	}
}

// localReplies gives Envoy's own errors the form in which Tollgate refuses in the
// dialect of the request's route, for each of dialects, and OpenAI's for all that
// came to no route. What Tollgate answers is a local reply too, in that form already:
// the first mapper, which changes nothing, keeps the others away from it.
func localReplies(dialects []*dialect.Dialect) *hcmv3.LocalReplyConfig {
	all := replies()
	mappers := make([]*hcmv3.ResponseMapper, 0, 1+len(all)*(len(dialects)+1))
	mappers = append(mappers, &hcmv3.ResponseMapper{Filter: answeredFilter()})
	for _, d := range dialects {
		for _, r := range all {
			r.filters = append([]*accesslogv3.AccessLogFilter{dialectFilter(d)}, r.filters...)
			mappers = append(mappers, r.mapper(d))
		}
	}
	for _, r := range all {
		mappers = append(mappers, r.mapper(nil))
	}
	return &hcmv3.LocalReplyConfig{Mappers: mappers}
}

// mapper writes the reply as a refusal of d's. Its text and headers are formats for
// Envoy: no message has a percent sign.
func (r reply) mapper(d *dialect.Dialect) *hcmv3.ResponseMapper {
	refused := d.Refuse(dialect.Refusal{Reason: r.reason, Status: int(r.status), Detail: r.message, RequestID: requestIDFormat})
	m := &hcmv3.ResponseMapper{
		Filter: allOf(r.filters...),
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			ContentType: "application/json",
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: string(refused.Body)},
			}},
		},
	}
	if r.status != 0 {
		m.StatusCode = wrapperspb.UInt32(r.status)
	}
	for _, h := range refused.Headers {
		if h.Name != "content-type" {
			m.HeadersToAdd = append(m.HeadersToAdd, replyHeader(h.Name, h.Value))
		}
	}
	return m
}

func replyHeader(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
}

// answeredFilter matches what Tollgate answered, by the metadata that came with
// it. The response flag is no help: it is the same where Tollgate didn't answer.
func answeredFilter() *accesslogv3.AccessLogFilter {
	return metadataFilter(checkFilter, metaAnswered, &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_BoolMatch{BoolMatch: true}}, false)
}

// managedFilter matches a managed request: see managedRoute.
func managedFilter() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accesslogv3.HeaderFilter{
		Header: &routev3.HeaderMatcher{Name: remoteHeader, HeaderMatchSpecifier: present(true)},
	}}}
}

// metadataFilter matches by a value of dynamic metadata; absent: also where there is
// none.
func metadataFilter(namespace, key string, value *matcherv3.ValueMatcher, absent bool) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
		Matcher: &matcherv3.MetadataMatcher{
			Filter: namespace,
			Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}}},
			Value:  value,
		},
		MatchIfKeyNotFound: wrapperspb.Bool(absent),
	}}}
}

func flagFilter(flags ...string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: flags}}}
}

func statusFilter(op accesslogv3.ComparisonFilter_Op, status uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{StatusCodeFilter: &accesslogv3.StatusCodeFilter{
		Comparison: &accesslogv3.ComparisonFilter{Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: status, RuntimeKey: "tollgate.reply"}},
	}}}
}

func allOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	if len(filters) == 1 {
		return filters[0]
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: filters}}}
}
