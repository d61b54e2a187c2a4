package envoy

import (
	"encoding/json"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A reply is an error that Envoy itself answers with, in the form that every
// SDK reads. Envoy's own texts are for its operator.
type reply struct {
	flags   []string // any of these response flags
	status  uint32   // or this status; 0: any
	kind    string   // the error's type
	code    string   // the error's code; "": null
	message string
	retry   bool // tells the client to try again in a second
}

// replies are tried in order. The last one takes every error that is left.
var replies = []reply{
	{status: 413, kind: "invalid_request_error", code: "request_too_large", message: "The request's body is larger than this path allows."},
	{status: 404, kind: "invalid_request_error", message: "There is no such path here. Check the base URL of your client."},
	{status: 408, kind: "invalid_request_error", message: "The request took too long to arrive."},
	{status: 504, kind: "server_error", message: "The model took too long to answer."}, // a route's maxDuration, which sets no flag
	{flags: []string{"UT", "DT", "SI", "UMSDR"}, kind: "server_error", message: "The model took too long to answer."},
	{flags: []string{"UF", "UH", "UC", "LR", "UR", "UPE", "URX", "DF"}, kind: "server_error", message: "The model's server could not be reached, or broke off. Try again.", retry: true},
	{flags: []string{"NC"}, kind: "server_error", message: "There is no way to the model's server. Try again, and tell whoever runs this gateway if it stays so.", retry: true},
	{status: 503, kind: "server_error", message: "The gateway can't check keys right now. Try again.", retry: true},
}

// anyReply is for the errors that no entry of replies names.
var (
	badRequest  = reply{kind: "invalid_request_error", message: "The gateway could not accept this request."}
	serverError = reply{kind: "server_error", message: "The gateway could not process this request."}
)

// localReplies gives Envoy's own errors the form of an OpenAI error. What
// Tollgate answers is a local reply too, in the dialect of its route already:
// the first mapper, which changes nothing, keeps the others away from it.
func localReplies() *hcmv3.LocalReplyConfig {
	mappers := append(make([]*hcmv3.ResponseMapper, 0, len(replies)+4), &hcmv3.ResponseMapper{Filter: answeredFilter()})
	mappers = append(mappers, unmanaged())
	for _, r := range replies {
		filter := flagFilter(r.flags...)
		if r.status != 0 {
			filter = statusFilter(accesslogv3.ComparisonFilter_EQ, r.status)
		}
		mappers = append(mappers, r.mapper(filter))
	}
	mappers = append(mappers,
		serverError.mapper(statusFilter(accesslogv3.ComparisonFilter_GE, 500)),
		badRequest.mapper(statusFilter(accesslogv3.ComparisonFilter_GE, 400)))
	return &hcmv3.LocalReplyConfig{Mappers: mappers}
}

func (r reply) mapper(filter *accesslogv3.AccessLogFilter) *hcmv3.ResponseMapper {
	m := &hcmv3.ResponseMapper{
		Filter: filter,
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			ContentType: "application/json",
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: r.body()},
			}},
		},
		HeadersToAdd: []*corev3.HeaderValueOption{replyHeader(requestIDHeader, "%REQ(X-REQUEST-ID)%")},
	}
	if r.retry {
		m.HeadersToAdd = append(m.HeadersToAdd, replyHeader("retry-after", "1"))
	}
	return m
}

// unmanaged is for a managed request that Tollgate didn't answer: such a path is
// there for clients that read no OpenAI error.
func unmanaged() *hcmv3.ResponseMapper {
	m := reply{retry: true}.mapper(&accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
		Filters: []*accesslogv3.AccessLogFilter{
			statusFilter(accesslogv3.ComparisonFilter_GE, 500),
			{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accesslogv3.HeaderFilter{
				Header: &routev3.HeaderMatcher{Name: remoteHeader, HeaderMatchSpecifier: present(true)},
			}}},
		},
	}}})
	m.StatusCode = wrapperspb.UInt32(503)
	m.BodyFormatOverride.Format = &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
		Specifier: &corev3.DataSource_InlineString{InlineString: unmanagedBody},
	}}
	return m
}

const unmanagedBody = `{"statusCode":503,"statusMessage":"Service Unavailable","message":"Keys can't be managed at the moment. Try again in a second."}`

// body is the error object. It must not hold a percent sign, which would start
// a substitution.
func (r reply) body() string {
	var code *string
	if r.code != "" {
		code = &r.code
	}
	body, err := json.Marshal(map[string]any{"error": struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}{r.message, r.kind, nil, code}})
	if err != nil {
		panic("envoy: a constant doesn't marshal: " + err.Error())
	}
	return string(body)
}

func replyHeader(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
}

// answeredFilter matches what Tollgate answered, by the metadata that came with
// it. The response flag is no help: it is the same where Tollgate didn't answer.
func answeredFilter() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
		Matcher: &matcherv3.MetadataMatcher{
			Filter: checkFilter,
			Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: metaAnswered}}},
			Value:  &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_BoolMatch{BoolMatch: true}},
		},
		MatchIfKeyNotFound: wrapperspb.Bool(false),
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
