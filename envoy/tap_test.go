package envoy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// newTap starts a gate before an upstream that is spoken to in HTTP/2, in which
// Envoy hands on each frame, so each piece that the upstream flushes, by itself.
// The tap strips the usage chunk for requests with the header x-strip.
func newTap(t *testing.T, upstream http.HandlerFunc) *gate {
	t.Helper()
	server := httptest.NewUnstartedServer(upstream)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	g := newGate(t, upstream, func(o *envoytest.Options) {
		o.Spec.Clusters = append(o.Spec.Clusters, envoy.Cluster{Name: "http2", Endpoints: []envoy.Endpoint{endpoint(t, server.URL)}})
		o.Change = func(r *envoy.Resources) {
			for _, c := range r.Clusters {
				if c.GetName() == "http2" {
					c.TypedExtensionProtocolOptions = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2Options(t)}
				}
			}
		}
	})
	g.checks.hook = func(_ context.Context, r *dialect.Request, d *authz.Decision) {
		d.Strip = headerOf(r, "x-strip") != ""
		if headerOf(r, "x-http1") == "" {
			d.Cluster = "http2"
		}
	}
	return g
}

func http2Options(t *testing.T) *anypb.Any {
	t.Helper()
	o, err := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
		}}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// patience is how long a test waits for what should come at once.
const patience = 15 * time.Second

// open sends a request whose answer is to be read as it comes.
func open(ctx context.Context, url string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/x", strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer good")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return http.DefaultClient.Do(req)
}

// writePieces sends a body in pieces: a first one of the given length (0: there is
// none), and others of size.
func writePieces(w http.ResponseWriter, body string, first, size int) {
	w.Header().Set("content-type", "text/event-stream")
	c := http.NewResponseController(w)
	_ = c.Flush()
	for n := first; len(body) > 0; n = size {
		n = min(n, len(body))
		_, _ = io.WriteString(w, body[:n])
		_ = c.Flush()
		body = body[n:]
	}
}

// exchange is an answer of the corpus, sent in certain pieces.
type exchange struct {
	stream
	strip       bool
	first, size int // of the pieces
	token       string
	got         string
	failed      error
}

// run asks for the list's stream i.
func (e *exchange) run(g *gate, i int, more ...string) {
	headers := append(slices.Clone(more), fmt.Sprint("x-case: ", i), fmt.Sprint("x-first: ", e.first), fmt.Sprint("x-size: ", e.size))
	if e.strip {
		headers = append(headers, "x-strip: 1")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := open(ctx, g.URL, headers...)
	if err != nil {
		e.failed = err
		return
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	e.token, e.got, e.failed = resp.Header.Get("x-request-id"), string(b), err
}

// wrong says what the client or the settlement got that it should not have; "":
// nothing.
func (e *exchange) wrong(t testing.TB, g *gate) string {
	t.Helper()
	want := e.sent()
	if e.strip {
		want = e.stripped()
	}
	how := fmt.Sprintf("in pieces of %d and %d, strip %v", e.first, e.size, e.strip)
	if e.failed != nil || e.got != want {
		return fmt.Sprintf("%s (%v): the client got\n%.2000q; want\n%.2000q", how, e.failed, e.got, want)
	}
	o := g.settled.of(t, e.token)
	if o.Reported == e.none || o.Tokens != e.want || o.Events != e.events || o.Bytes != int64(len(e.sent())) || !o.Complete {
		return fmt.Sprintf("%s: %+v of\n%.2000q; want reported %v, %+v, %d events", how, o, e.sent(), !e.none, e.want, e.events)
	}
	return ""
}

func (e *exchange) check(t testing.TB, g *gate) {
	t.Helper()
	if w := e.wrong(t, g); w != "" {
		t.Fatal(e.name + ", " + w)
	}
}

// upstreamOf answers with a stream of the list in the pieces that are asked for.
func upstreamOf(list []stream) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body := list[atoi(r.Header.Get("x-case"))].sent()
		if r.Header.Get("x-length") != "" {
			w.Header().Set("content-length", strconv.Itoa(len(body)))
		}
		if r.Header.Get("x-trailer") != "" {
			w.Header().Set("trailer", "x-trailer")
			defer w.Header().Set("x-trailer", "1")
		}
		writePieces(w, body, atoi(r.Header.Get("x-first")), atoi(r.Header.Get("x-size")))
	}
}

// Every stream of the corpus, split at every byte: the client gets all of it but
// the usage chunk (all of it where that isn't to be stripped), and the settlement
// tells the same whatever the pieces. Whole, byte by byte, and in pieces of an
// eighth that start at each offset: so eight splits are tried at a time.
func TestTapSplits(t *testing.T) {
	g := newTap(t, upstreamOf(streams))
	for i, s := range streams {
		t.Run(s.name, func(t *testing.T) {
			n := len(s.sent())
			all := []*exchange{{stream: s, size: 1}, {stream: s, size: n}, {stream: s, strip: true, size: 1}, {stream: s, strip: true, size: n}}
			for first := range (n + 7) / 8 {
				all = append(all, &exchange{stream: s, strip: true, first: first, size: (n + 7) / 8})
			}
			todo := make(chan *exchange)
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					for e := range todo {
						e.run(g, i)
					}
				})
			}
			for _, e := range all {
				todo <- e
			}
			close(todo)
			workers.Wait()
			for _, e := range all {
				e.check(t, g)
			}
		})
	}
}

// The same with an upstream that speaks HTTP/1.1, in which a body ends in another
// way, and with one that states the body's length.
func TestTapOverHTTP1(t *testing.T) {
	g := newTap(t, upstreamOf(streams))
	for i, s := range streams {
		for _, strip := range []bool{false, true} {
			for _, length := range []string{"x-length: ", "x-length: 1"} {
				e := exchange{stream: s, strip: strip, first: 1, size: 1 << 20}
				e.run(g, i, "x-http1: 1", length)
				e.check(t, g)
			}
		}
	}
}

// With an upstream's trailers the body has ended before its end is known: what is
// held back of an event that breaks off is lost, and nothing else.
func TestTapTrailers(t *testing.T) {
	g := newTap(t, upstreamOf(streams))
	for i, s := range streams {
		e := exchange{stream: s, strip: true, first: 1, size: 1 << 20}
		e.run(g, i, "x-trailer: 1")
		if s.cut {
			at := strings.LastIndex(e.body, "\n\n") + 2
			e.body = e.body[:at] + "«" + e.body[at:] + "»"
		}
		e.check(t, g)
	}
}

// Long events pass as they come, whatever they have in them; a usage at the end of
// one is read.
func TestTapLongEvents(t *testing.T) {
	long := strings.Repeat(`\"usage\":{}[\\`, 70_000)
	usage := `"usage":{"prompt_tokens":11,"completion_tokens":7}`
	list := []stream{
		{name: "content", body: sse(`{"choices":[{"delta":{"content":"`+long+`"}}],`+usage+`}`) + done, events: 1},
		{name: "not known to be content at first", body: sse(`{"x":"`+long+`","choices":[{}],`+usage+`}`) + done, events: 1},
		// More than is held back, so it isn't taken out either.
		{name: "usage only", body: sse(`{"x":"`+long+`","choices":[],`+usage+`}`) + done},
		{name: "Responses API", body: sse(`{"response":{"output":[{"text":"`+long+`"}],`+usage+`}}`) + done, events: 1},
		{name: "comment", body: ":" + long + "\n\n«" + sse(used) + "»" + done},
		{name: "many events", body: strings.Repeat(sse(hello), 20_000) + "«" + sse(used) + "»" + done, events: 20_000},
	}
	g := newTap(t, upstreamOf(list))
	for i, s := range list {
		s.want = usedTokens
		for _, strip := range []bool{false, true} {
			e := exchange{stream: s, strip: strip, first: 9000, size: 1 << 20}
			e.run(g, i)
			e.check(t, g)
		}
	}
}

// steps are pieces of a stream, and what of each reaches the client before there
// is a next one.
var steps = []struct{ sent, arrives string }{
	{"data", ""},
	{`: {"id":"c",`, ""},
	{`"choices":[{`, `data: {"id":"c","choices":[{`}, // can't be the usage chunk any more
	{`"delta":{"content":"`, `"delta":{"content":"`},
	{`hi"}}]}`, `hi"}}]}`},
	{"\n", "\n"},
	{"\n", "\n"},
	{sse(hello), sse(hello)},
	{": ke", ": ke"},
	{"ep-alive\n\n", "ep-alive\n\n"},
	{sse(hello) + `data: {"choices":[],"p`, sse(hello)},
	{`rompt_filter_results":[]`, ""},
	{"}", `data: {"choices":[],"prompt_filter_results":[]}`}, // has no usage
	{"\n\n", "\n\n"},
	{sse(hello, hello, used), sse(hello, hello)},
	{"event: x\n", ""},
	{"data: [", "event: x\ndata: ["},
	{"]\n\n", "]\n\n"},
	{"data: " + used[:20], ""},
	{used[20:], ""},
	{"\r\n\r", ""},
	{"\n" + sse(hello), sse(hello)},
	{`data: {"x":"` + strings.Repeat("x", 9000), `data: {"x":"` + strings.Repeat("x", 9000)}, // more than is held back
	{"\"}\n\n", "\"}\n\n"},
	{done, done},
}

// What comes in whole events goes out at once, and so does all that can't be the
// usage chunk: the upstream sends a step only when the client has all that ought
// to arrive of those before. Without strip that is all of it, as without a gate.
func TestTapHoldsNothingBack(t *testing.T) {
	arrived := make(chan struct{})
	g := newTap(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "text/event-stream")
		c := http.NewResponseController(w)
		_ = c.Flush()
		for _, s := range steps {
			select {
			case <-arrived:
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, s.sent)
			_ = c.Flush()
		}
	})
	for _, c := range []struct{ name, url, header string }{
		{"no gate", g.upstream.URL, "x-strip: "},
		{"not stripped", g.URL, "x-strip: "},
		{"not stripped, HTTP/1.1", g.URL, "x-http1: 1"},
		{"stripped", g.URL, "x-strip: 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			begun := time.Now()
			resp, err := open(ctx, c.url, c.header)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for i, s := range steps {
				want := s.sent
				if c.name == "stripped" {
					want = s.arrives
				}
				select {
				case arrived <- struct{}{}:
				case <-ctx.Done():
					t.Fatalf("step %d: the upstream has gone", i)
				}
				got := make([]byte, len(want))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
					t.Fatalf("step %d: %v, %.200q; want %.200q", i, err, got, want)
				}
			}
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Errorf("at the end: %v, %q", err, rest)
			}
			t.Logf("%d steps, each with a round trip, took %v", len(steps), time.Since(begun))
		})
	}
}

// A client that hangs up is told of by what has passed: events, and the usage if
// nothing came after it.
func TestTapHangUps(t *testing.T) {
	cases := []struct {
		name, sent string
		want       authz.Observation
	}{
		{"after the last event", sse(hello, hello, used) + done, authz.Observation{Events: 2, Reported: true, Tokens: usedTokens}},
		{"before the usage", sse(hello, hello) + "data: {", authz.Observation{Events: 2}},
		{"in a long answer that states its usage as it goes", sse(`{"choices":[{}],"usage":{"prompt_tokens":11,"completion_tokens":7}}`), authz.Observation{Events: 1, Reported: true, Tokens: usedTokens}},
		{"after a usage of nothing", sse(`{"choices":[{}],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, hello), authz.Observation{Events: 2}},
		{"after a usage that was none of the end", sse(used, hello), authz.Observation{Events: 1, Partly: true, Tokens: usedTokens}},
		{"after Anthropic's first event", sse(`{"type":"message_start","message":{"usage":{"input_tokens":11,"cache_read_input_tokens":30,"cache_creation_input_tokens":5,"output_tokens":1}}}`, hello),
			authz.Observation{Events: 2, Partly: true, Tokens: authz.Tokens{Input: 46, CacheRead: 30, CacheCreation: 5, Output: 1}}},
		{"after an event of Anthropic's that states what went in as nothing", sse(`{"type":"message_start","message":{"usage":{"input_tokens":0,"output_tokens":1}}}`, hello), authz.Observation{Events: 2}},
		{"after Anthropic's last event", sse(`{"type":"message_start","message":{"usage":{"input_tokens":11,"output_tokens":1}}}`, `{"usage":{"output_tokens":7}}`, `{"type":"message_stop"}`), authz.Observation{Events: 3, Reported: true, Tokens: usedTokens}},
	}
	g := newTap(t, func(w http.ResponseWriter, r *http.Request) {
		body := cases[atoi(r.Header.Get("x-case"))].sent
		writePieces(w, body+": end\n", 0, len(body))
		<-r.Context().Done()
	})
	for i, c := range cases {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		resp, err := open(ctx, g.URL, fmt.Sprint("x-case: ", i))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got []byte
		for b := make([]byte, 1024); !bytes.HasSuffix(got, []byte(": end\n")); {
			n, err := resp.Body.Read(b)
			if got = append(got, b[:n]...); err != nil {
				t.Fatalf("%s: %v after %q", c.name, err, got)
			}
		}
		cancel()
		o := g.settled.of(t, resp.Header.Get("x-request-id"))
		if o.Events != c.want.Events || o.Reported != c.want.Reported || o.Partly != c.want.Partly || o.Tokens != c.want.Tokens || o.Complete || o.Flags != "DC" || o.Bytes != int64(len(c.sent)+6) {
			t.Errorf("%s: %+v; want %+v", c.name, o, c.want)
		}
	}
}

// An upstream that compresses its stream, which it was told not to do, blinds the
// tap, and is not changed by it.
func TestTapCompressedStream(t *testing.T) {
	g := newTap(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-encoding", "br")
		writePieces(w, sse(hello, used), 0, 1000)
	})
	a := g.post(t, "/v1/x", "{}", "x-strip: 1", "accept-encoding: br")
	o := g.settled.of(t, a.token())
	if a.body != sse(hello, used) || o.Reported || o.Bytes != int64(len(a.body)) || !o.Complete {
		t.Errorf("%q, %+v", a.body, o)
	}
}
