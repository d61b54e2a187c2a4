package envoy

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"tollgate/authz"
	"tollgate/authz/dialect"
)

// A Checker decides whether a request may pass. authz.Authorizer is one.
type Checker interface {
	// Check fills d, which is zero, for the request. It must not keep r or what
	// r refers to. It is called by many goroutines at once, and should answer
	// within the Check's timeout, after which Envoy refuses the request by
	// itself; ctx ends then.
	Check(ctx context.Context, now time.Time, r *dialect.Request, d *authz.Decision)
}

// Dynamic metadata that comes with an answer, under the Check filter's name.
const (
	metaToken    = "adm"      // the admission token, for settlement
	metaEdits    = "edits"    // of the body, for lua/edit.lua
	metaStrip    = "strip"    // that the added usage chunk goes out of the stream
	metaWatch    = "watch"    // the members of the answer that settlement wants to be told
	metaAnswered = "answered" // that Tollgate answered the request itself
)

// checkServer answers Envoy's Checks.
type checkServer struct {
	checker  Checker
	settler  Settler
	wanted   func(header string) bool
	routable func(cluster string) bool
	stats    *Stats
	log      *slog.Logger
}

// Check implements authv3.AuthorizationServer. An error makes Envoy answer 503.
func (s *checkServer) Check(ctx context.Context, in *authv3.CheckRequest) (out *authv3.CheckResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.stats.CheckPanics.Add(1)
			// Neither the panic's value, which may hold a key, nor the request.
			s.log.Error("a check panicked", "stack", string(debug.Stack()))
			out, err = nil, status.Error(codes.Internal, "the check failed")
		}
	}()
	var r dialect.Request
	if !readCheck(ctx, in, s.wanted, &r) {
		s.stats.MalformedChecks.Add(1)
		return nil, status.Error(codes.InvalidArgument, "not a check of an HTTP request")
	}
	var d authz.Decision
	s.checker.Check(ctx, time.Now(), &r, &d)
	if d.Admission != nil {
		if ctx.Err() != nil {
			// Envoy has given up on this Check: its clock started before ours.
			s.stats.AbandonedChecks.Add(1)
			s.takeBack(ctx, &d)
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		if s.routable != nil && !s.routable(d.Cluster) {
			// Envoy would answer 503 too, but never settle.
			s.stats.UnroutableChecks.Add(1)
			s.log.Error("a model's cluster is not in Envoy's configuration", "cluster", d.Cluster)
			s.takeBack(ctx, &d)
			return nil, status.Error(codes.Unavailable, "no such cluster")
		}
	}
	if d.Unsettled && d.Admission != nil {
		// Nobody will come back to tell more than this.
		if err := s.settler.Settle(ctx, time.Now(), d.Token, authz.Observation{Untold: true, Unwatched: true}); err != nil {
			s.log.Warn("an admission could not be closed; it will be when its time is over", "err", err)
		}
		d.Token = ""
	}
	return answer(in, &r, &d), nil
}

// takeBack settles an admission whose request goes nowhere. NC is Envoy's flag
// for a request that no cluster was asked to take.
func (s *checkServer) takeBack(ctx context.Context, d *authz.Decision) {
	if err := s.settler.Settle(context.WithoutCancel(ctx), time.Now(), d.Token, authz.Observation{Flags: "NC"}); err != nil {
		s.log.Warn("an admission that came to nothing was not taken back; it will be when its time is over", "err", err)
	}
}

// readCheck reads what a decision needs of a Check into r, and reports whether
// there is an HTTP request in it at all.
func readCheck(ctx context.Context, in *authv3.CheckRequest, wanted func(string) bool, r *dialect.Request) bool {
	h := in.GetAttributes().GetRequest().GetHttp()
	if h.GetMethod() == "" || h.GetPath() == "" {
		return false
	}
	r.Method, r.Path, r.Host = h.GetMethod(), h.GetPath(), h.GetHost()
	partial, announced := false, false // of the body
	add := func(name, value string) {
		switch name {
		case "x-envoy-auth-partial-body":
			partial = partial || value != "false"
			return
		case "content-length":
			announced = announced || value != "0"
		case "transfer-encoding":
			announced = true
		}
		if !strings.HasPrefix(name, ":") && (wanted == nil || wanted(name)) {
			r.Headers = append(r.Headers, dialect.Header{Name: name, Value: value})
		}
	}
	if raw := h.GetHeaderMap().GetHeaders(); raw != nil {
		r.Headers = make([]dialect.Header, 0, len(raw))
		for _, v := range raw {
			if b := v.GetRawValue(); len(b) > 0 {
				add(strings.ToLower(v.GetKey()), string(b))
			} else {
				add(strings.ToLower(v.GetKey()), v.GetValue())
			}
		}
	} else { // an Envoy without encode_raw_headers
		r.Headers = make([]dialect.Header, 0, len(h.GetHeaders()))
		for k, v := range h.GetHeaders() {
			add(strings.ToLower(k), v)
		}
	}
	for _, phase := range metadata.ValueFromIncomingContext(ctx, phaseHeader) {
		r.HeadersOnly = r.HeadersOnly || phase == phaseHeaders
	}
	if r.HeadersOnly {
		return true
	}
	if partial {
		// Of a body that Envoy cut short nothing is read: the rest might say
		// something else.
		r.BodyCut, r.CutAt = true, int64(len(h.GetRawBody())+len(h.GetBody()))
		return true
	}
	if r.Body = h.GetRawBody(); len(r.Body) == 0 {
		r.Body = []byte(h.GetBody())
	}
	r.BodyCut = len(r.Body) == 0 && announced
	return true
}

// answer is a decision in Envoy's words.
func answer(in *authv3.CheckRequest, r *dialect.Request, d *authz.Decision) *authv3.CheckResponse {
	switch {
	case d.Response != nil:
		return denied(r, d.Response)
	case d.Admission == nil:
		return &authv3.CheckResponse{
			Status:       &rpcstatus.Status{Code: int32(codes.OK)},
			HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
		}
	}
	set := headers(d.SetHeaders)
	if d.Cluster != "" {
		set = append(set, header(clusterHeader, d.Cluster))
	}
	if d.Path != "" {
		// query_parameters_to_set would take letters and digits only.
		set = append(set, header(":path", d.Path))
	}
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:              set,
			HeadersToRemove:      append(forged(in, set), d.RemoveHeaders...),
			ResponseHeadersToAdd: headers(d.ResponseHeaders),
		}},
		DynamicMetadata: admitted(d),
	}
}

// ownHeaders begin the names of the headers that only Tollgate may set.
const ownHeaders = "x-tollgate-"

// overrides are headers by which some servers (IIS, Laravel, Rails) take a path or a
// method that is not the one which was checked.
var overrides = []string{"x-original-url", "x-rewrite-url", "x-http-method-override", "x-http-method", "x-method-override"}

// forged are the headers of Tollgate's that the caller sent and that the answer
// does not overwrite, and its overrides. An Envoy of ours has taken them out long
// before; on any other a caller could choose its cluster by them. Those that decide
// most are named even if a Check doesn't carry them.
func forged(in *authv3.CheckRequest, set []*corev3.HeaderValueOption) []string {
	h := in.GetAttributes().GetRequest().GetHttp()
	var names []string
	add := func(name string) {
		name = strings.ToLower(name)
		if slices.Contains(overrides, name) {
			names = append(names, name)
		}
		if strings.HasPrefix(name, ownHeaders) && !slices.ContainsFunc(set, func(o *corev3.HeaderValueOption) bool { return o.GetHeader().GetKey() == name }) {
			names = append(names, name)
		}
	}
	add(clusterHeader)
	add(userHeader)
	for name := range h.GetHeaders() {
		add(name)
	}
	for _, v := range h.GetHeaderMap().GetHeaders() {
		add(v.GetKey())
	}
	return names
}

func admitted(d *authz.Decision) *structpb.Struct {
	fields := map[string]*structpb.Value{}
	if d.Token != "" {
		fields[metaToken] = structpb.NewStringValue(d.Token)
	}
	if len(d.Edits) > 0 {
		edits := make([]*structpb.Value, len(d.Edits))
		for i, e := range d.Edits {
			edits[i] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
				"off":  structpb.NewNumberValue(float64(e.Span.Start)),
				"len":  structpb.NewNumberValue(float64(e.Span.End - e.Span.Start)),
				"text": structpb.NewStringValue(valid(e.Text)),
			}})
		}
		fields[metaEdits] = structpb.NewListValue(&structpb.ListValue{Values: edits})
	}
	if d.Strip {
		fields[metaStrip] = structpb.NewBoolValue(true)
	}
	if len(d.Watch) > 0 {
		fields[metaWatch] = structpb.NewStringValue(strings.Join(d.Watch, " "))
	}
	return &structpb.Struct{Fields: fields}
}

// denied ends the request with an answer of Tollgate's: a refusal or, with a
// status below 400, what Tollgate answers by itself. For Envoy both are denials.
func denied(r *dialect.Request, a *dialect.Response) *authv3.CheckResponse {
	code := grpcCode(a.Status)
	set := headers(a.Headers)
	if isGRPC(r) {
		set = append(set, header("grpc-status", strconv.Itoa(int(code))))
	}
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(code)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(a.Status)},
			Headers: set,
			Body:    valid(string(a.Body)),
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{metaAnswered: structpb.NewBoolValue(true)}},
	}
}

func isGRPC(r *dialect.Request) bool {
	for _, h := range r.Headers {
		if h.Name == "content-type" {
			return strings.HasPrefix(h.Value, "application/grpc")
		}
	}
	return false
}

// grpcCode is what a gRPC client is told in place of an HTTP status. It is never
// OK, by which Envoy would let the request pass.
func grpcCode(httpStatus int) codes.Code {
	switch httpStatus {
	case 400:
		return codes.InvalidArgument
	case 401:
		return codes.Unauthenticated
	case 404:
		return codes.NotFound
	case 413, 429:
		return codes.ResourceExhausted
	case 503:
		return codes.Unavailable
	default:
		return codes.PermissionDenied
	}
}

func headers(list []dialect.Header) []*corev3.HeaderValueOption {
	set := make([]*corev3.HeaderValueOption, 0, len(list)+1)
	for _, h := range list {
		set = append(set, header(h.Name, h.Value))
	}
	return set
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: valid(value)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// valid makes s fit into a protobuf string, without which the whole answer
// would be an error.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
