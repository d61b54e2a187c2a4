package envoy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"tollgate/authz"
	"tollgate/authz/dialect"
)

func checkRequest(h *authv3.AttributeContext_HttpRequest) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: h}}}
}

func raw(pairs ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}

func TestReadCheck(t *testing.T) {
	look := metadata.NewIncomingContext(t.Context(), metadata.Pairs(phaseHeader, phaseHeaders))
	all := func(string) bool { return true }
	for name, c := range map[string]struct {
		ctx     context.Context
		in      *authv3.AttributeContext_HttpRequest
		headers string // name=value, joined by spaces
		body    string
		look    bool
		cut     bool
	}{
		"raw headers":                 {in: &authv3.AttributeContext_HttpRequest{HeaderMap: raw(":path", "/", "X-Api-Key", "a", "x-api-key", "\xff"), RawBody: []byte("{}")}, headers: "x-api-key=a x-api-key=\xff", body: "{}"},
		"joined":                      {in: &authv3.AttributeContext_HttpRequest{Headers: map[string]string{"authorization": "a,b"}, Body: "{}"}, headers: "authorization=a,b", body: "{}"},
		"a look":                      {ctx: look, in: &authv3.AttributeContext_HttpRequest{HeaderMap: raw("a", "b"), RawBody: []byte("{}")}, headers: "a=b", look: true},
		"cut short":                   {in: &authv3.AttributeContext_HttpRequest{HeaderMap: raw("x-envoy-auth-partial-body", "true"), RawBody: []byte("{}")}, cut: true},
		"not sent":                    {in: &authv3.AttributeContext_HttpRequest{HeaderMap: raw("content-length", "2")}, headers: "content-length=2", cut: true},
		"not sent, of unknown length": {in: &authv3.AttributeContext_HttpRequest{HeaderMap: raw("transfer-encoding", "chunked")}, headers: "transfer-encoding=chunked", cut: true},
		"empty":                       {in: &authv3.AttributeContext_HttpRequest{HeaderMap: raw("content-length", "0")}, headers: "content-length=0"},
		"not cut":                     {in: &authv3.AttributeContext_HttpRequest{HeaderMap: raw("x-envoy-auth-partial-body", "false"), RawBody: []byte("{}")}, body: "{}"},
		"no body":                     {in: &authv3.AttributeContext_HttpRequest{}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			c.in.Method, c.in.Path, c.in.Host = "POST", "/v1/x?q", "h"
			var r dialect.Request
			if !readCheck(c.ctx, checkRequest(c.in), all, &r) {
				t.Fatal("not read")
			}
			var got []string
			for _, h := range r.Headers {
				got = append(got, h.Name+"="+h.Value)
			}
			if strings.Join(got, " ") != c.headers || string(r.Body) != c.body || r.HeadersOnly != c.look || r.BodyCut != c.cut || r.Path != "/v1/x?q" || r.Host != "h" || r.Method != http.MethodPost {
				t.Errorf("%+v", r)
			}
		})
	}
	var r dialect.Request
	if readCheck(t.Context(), checkRequest(nil), nil, &r) || readCheck(t.Context(), nil, nil, &r) {
		t.Error("a check of no HTTP request was read")
	}
}

// No message makes the reader panic, and what it reads keeps its promises.
func FuzzReadCheck(f *testing.F) {
	for _, h := range []*authv3.AttributeContext_HttpRequest{
		{Method: "POST", Path: "/v1/x", HeaderMap: raw("authorization", "Bearer x", "x-envoy-auth-partial-body", "true"), RawBody: []byte("{}")},
		{Method: "GET", Path: "/", Headers: map[string]string{"A": "b"}, Body: "x"},
		{},
	} {
		b, err := proto.Marshal(checkRequest(h))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, message []byte, look bool) {
		var in authv3.CheckRequest
		if proto.Unmarshal(message, &in) != nil {
			return
		}
		ctx := t.Context()
		if look {
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(phaseHeader, phaseHeaders))
		}
		var r dialect.Request
		if !readCheck(ctx, &in, func(name string) bool { return name != "secret" }, &r) {
			return
		}
		if r.HeadersOnly != look || look && r.Body != nil || r.Method == "" || r.Path == "" {
			t.Errorf("%+v", r)
		}
		for _, h := range r.Headers {
			if h.Name != strings.ToLower(h.Name) || strings.HasPrefix(h.Name, ":") || h.Name == "secret" {
				t.Errorf("header %q", h.Name)
			}
		}
		// Whatever is decided can be sent.
		d := authz.Decision{Response: &dialect.Response{Status: 200, Headers: r.Headers, Body: r.Body}}
		if _, err := proto.Marshal(answer(&in, &r, &d)); err != nil {
			t.Error(err)
		}
		if answer(&in, &r, &d).GetStatus().GetCode() == int32(codes.OK) {
			t.Error("an answer of Tollgate's own would let the request pass")
		}
	})
}

// A caller's own x-tollgate-* headers go, whatever the proxy in front lets in.
func TestForgedHeaders(t *testing.T) {
	in := checkRequest(&authv3.AttributeContext_HttpRequest{
		HeaderMap: raw("X-Tollgate-User", "root", "x-tollgate-cluster", "secret", "x-tollgate-key-id", "k", "x-tollgate-new", "1", "x-other", "1", "X-Original-URL", "/admin"),
	})
	d := authz.Decision{
		Admission: &authz.Admission{}, RemoveHeaders: []string{"authorization"},
		SetHeaders: []dialect.Header{{Name: "x-tollgate-key-id", Value: "mine"}},
	}
	removed := func() []string {
		out := answer(in, &dialect.Request{}, &d).GetOkResponse().GetHeadersToRemove()
		slices.Sort(out)
		return slices.Compact(out)
	}
	if got := removed(); !slices.Equal(got, []string{"authorization", "x-original-url", "x-tollgate-cluster", "x-tollgate-new", "x-tollgate-user"}) {
		t.Errorf("removed %v", got)
	}
	d.Cluster = "model"
	if got := removed(); slices.Contains(got, "x-tollgate-cluster") {
		t.Errorf("the cluster that was decided is removed: %v", got)
	}
}

// What a check wants to be told fits through Envoy: see the tap's bounds and reader.
func TestWatchedMembers(t *testing.T) {
	d := authz.Decision{Admission: &authz.Admission{}, Watch: []string{"a.b", "c"}}
	if got := admitted(&d).GetFields()[metaWatch].GetStringValue(); got != "a.b c" {
		t.Errorf("Envoy is told to watch for %q", got)
	}
	if got := admitted(&authz.Decision{Admission: &authz.Admission{}}).GetFields(); got[metaWatch] != nil {
		t.Errorf("Envoy is told to watch for nothing: %v", got)
	}
	member := regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
	for _, name := range dialect.Names() {
		d, _ := dialect.Lookup(name)
		for i := range d.Paths {
			watched := d.Paths[i].Watched()
			if len(watched) > maxTold {
				t.Errorf("%s %s has more members than are told: %q", name, d.Paths[i].Pattern, watched)
			}
			for _, w := range watched {
				if !member.MatchString(w) {
					t.Errorf("%s %s: %q can't be watched", name, d.Paths[i].Pattern, w)
				}
			}
		}
	}
}

func settlementOf(pairs ...string) *rlsv3.RateLimitRequest {
	d := &rlcommonv3.RateLimitDescriptor{}
	for i := 0; i < len(pairs); i += 2 {
		d.Entries = append(d.Entries, &rlcommonv3.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return &rlsv3.RateLimitRequest{Domain: settleDomain, Descriptors: []*rlcommonv3.RateLimitDescriptor{d}}
}

func TestReadSettlement(t *testing.T) {
	token, seen, ok := readSettlement(settlementOf(
		descSeen, "s=200 f=- d=1500 t=30 u=[::1]:80 new=x", descToken, "T",
		"in", "5", "out", "6", "cached", "1", "created", "2", "reasoning", "3", "events", "7", "bytes", "800", "complete", "1", "reported", "1", "later", "x",
		"told", "base_resp.status_code=0 title=a%20b%3D%25%C3%BC empty="))
	want := authz.Observation{
		Status: 200, Duration: 1500 * time.Millisecond, FirstByte: 30 * time.Millisecond, Upstream: "[::1]:80",
		Reported: true, Tokens: authz.Tokens{Input: 5, CacheRead: 1, CacheCreation: 2, Output: 6, Reasoning: 3},
		Events: 7, Bytes: 800, Complete: true,
		Told: []authz.Label{{Name: "base_resp.status_code", Value: "0"}, {Name: "title", Value: "a b=%ü"}, {Name: "empty"}},
	}
	if !ok || token != "T" || !reflect.DeepEqual(seen, want) {
		t.Errorf("%v %q %+v", ok, token, seen)
	}
	// A hang-up before anything: all that nobody saw is zero.
	_, seen, ok = readSettlement(settlementOf(descSeen, "s=0 f=DC d=3 t=- u=-", descToken, "T",
		"in", "-", "out", "-", "cached", "-", "created", "-", "reasoning", "-", "events", "-", "bytes", "-", "complete", "-", "reported", "-", "told", "-"))
	if want := (authz.Observation{Flags: "DC", Duration: 3 * time.Millisecond}); !ok || !reflect.DeepEqual(seen, want) {
		t.Errorf("%v %+v", ok, seen)
	}
	// What an Envoy doesn't tell is not known, which is something else than zero.
	for name, c := range map[string]struct {
		in   *rlsv3.RateLimitRequest
		want authz.Observation
	}{
		"the token alone": {settlementOf(descToken, "T"), authz.Observation{Untold: true, Unwatched: true}},
		"an Envoy that knows no formats": {
			settlementOf(descSeen, seenFormat, descToken, "T", "events", "2", "bytes", "80", "complete", "-"),
			authz.Observation{Untold: true, Events: 2, Bytes: 80},
		},
		"without a tap": {
			settlementOf(descSeen, "s=200 f=- d=3 t=2 u=h:1", descToken, "T"),
			authz.Observation{Status: 200, Duration: 3 * time.Millisecond, FirstByte: 2 * time.Millisecond, Upstream: "h:1", Unwatched: true},
		},
		"without a tap, but asked for it": {
			settlementOf(descSeen, "s=200 f=- d=3 t=2 u=h:1", descToken, "T", "events", "-", "bytes", "-", "complete", "-"),
			authz.Observation{Status: 200, Duration: 3 * time.Millisecond, FirstByte: 2 * time.Millisecond, Upstream: "h:1", Unwatched: true},
		},
		"without a tap, hung up": {
			settlementOf(descSeen, "s=200 f=DC d=3 t=2 u=h:1", descToken, "T"),
			authz.Observation{Status: 200, Flags: "DC", Duration: 3 * time.Millisecond, FirstByte: 2 * time.Millisecond, Upstream: "h:1", Unwatched: true},
		},
	} {
		if _, seen, ok := readSettlement(c.in); !ok || !reflect.DeepEqual(seen, c.want) {
			t.Errorf("%s: %+v, want %+v", name, seen, c.want)
		}
	}
	for name, in := range map[string]*rlsv3.RateLimitRequest{
		"nothing":        nil,
		"other domain":   {Domain: "x", Descriptors: settlementOf(descToken, "T").GetDescriptors()},
		"no token":       settlementOf(descSeen, "s=200"),
		"a huge token":   settlementOf(descToken, strings.Repeat("x", maxToken+1)),
		"no descriptors": {Domain: settleDomain},
	} {
		if token, _, ok := readSettlement(in); ok {
			t.Errorf("%s: token %q", name, token)
		}
	}
}

func FuzzReadSettlement(f *testing.F) {
	for _, in := range []*rlsv3.RateLimitRequest{
		settlementOf(descSeen, "s=200 f=DC,UF d=1 t=2 u=h:1", descToken, "T", "in", "1", "reported", "1"),
		settlementOf(descToken, "T", "told", "a=1 b.c=%20%ff =x d e=%0 "+strings.Repeat("f=1 ", 20)+"g="+strings.Repeat("x", 300)),
		settlementOf(descSeen, "s=99999 d=18446744073709551615 t=-1", descToken, "T", "in", "9007199254740993", "out", "-1"),
	} {
		b, err := proto.Marshal(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		var in rlsv3.RateLimitRequest
		if proto.Unmarshal(message, &in) != nil {
			return
		}
		token, seen, ok := readSettlement(&in)
		if ok != (token != "") {
			t.Fatalf("%v %q", ok, token)
		}
		for _, n := range []int64{
			seen.Tokens.Input, seen.Tokens.Output, seen.Tokens.CacheRead, seen.Tokens.CacheCreation, seen.Tokens.Reasoning,
			seen.Events, seen.Bytes, int64(seen.Status), int64(seen.Duration), int64(seen.FirstByte),
		} {
			if n < 0 || seen.Status > 999 {
				t.Errorf("%+v", seen)
			}
		}
		if !seen.Reported && seen.Tokens != (authz.Tokens{}) {
			t.Errorf("tokens that nobody reported: %+v", seen)
		}
		if len(seen.Told) > maxTold {
			t.Errorf("told too much: %+v", seen)
		}
		for _, l := range seen.Told {
			if l.Name == "" || len(l.Value) > maxToldValue || !utf8.ValidString(l.Value) {
				t.Errorf("told %q", l)
			}
		}
	})
}

type settleFunc func(token string) error

func (f settleFunc) Settle(_ context.Context, _ time.Time, token string, _ authz.Observation) error {
	return f(token)
}

// Only "come again" is an error for Envoy, whatever happens here.
func TestSettleAnswers(t *testing.T) {
	var stats Stats
	s := &settleServer{stats: &stats, log: slog.New(slog.DiscardHandler), settler: settleFunc(func(token string) error {
		switch token {
		case "later":
			return errors.New("disk full")
		case "bug":
			panic("x")
		}
		return nil
	})}
	for in, want := range map[*rlsv3.RateLimitRequest]codes.Code{
		settlementOf(descToken, "fine"): codes.OK, settlementOf("x", "y"): codes.OK,
		settlementOf(descToken, "later"): codes.Unavailable, settlementOf(descToken, "bug"): codes.Unavailable,
	} {
		out, err := s.ShouldRateLimit(t.Context(), in)
		if status.Code(err) != want || err == nil && out.GetOverallCode() != rlsv3.RateLimitResponse_OK {
			t.Errorf("%v: %v, %v", in, out, err)
		}
	}
	if stats.Settled.Load() != 1 || stats.MalformedSettlements.Load() != 1 || stats.SettlementsDeferred.Load() != 1 || stats.SettlePanics.Load() != 1 {
		t.Errorf("counted %+v", &stats)
	}
}
