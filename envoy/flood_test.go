package envoy_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

const (
	floodSockets = 100
	floodBytes   = 15 << 20 // on each
	floodGrowth  = 64 << 20 // that Envoy's memory may grow by, of the 1.5 GB sent
	floodEach    = 40 << 10 // that a stream may take before anybody is checked: its body, and 20 KiB of Envoy's
)

// Nobody without a key makes Envoy hold a body: a hundred clients send all but
// the end of theirs, in each of the ways that might get past the look at the
// headers.
func TestFloodWithoutKey(t *testing.T) {
	for name, head := range map[string]string{
		"with a length":     "POST /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bad\r\nContent-Length: 16777216\r\n\r\n",
		"chunked":           "POST /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bad\r\nTransfer-Encoding: chunked\r\n\r\nf00000\r\n",
		"a GET with a body": "GET /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bad\r\nTransfer-Encoding: chunked\r\n\r\nf00000\r\n",
		"multipart":         "POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\nf00000\r\n",
		"no such path":      "POST /v2/x HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(http.ResponseWriter, *http.Request) { t.Error("it reached the upstream") }, nil)
			want := 401
			if name == "no such path" {
				want = 404
			}
			flood(t, g, func() error { return floodSocket(g.Addr, head, want) })
		})
	}
}

// Over HTTP/2 the length can be a lie.
func TestFloodWithFalseLength(t *testing.T) {
	g := newGate(t, func(http.ResponseWriter, *http.Request) { t.Error("it reached the upstream") }, nil)
	flood(t, g, func() error { return floodHTTP2(g.Addr) })
}

// flood runs one for each socket, all at once, and looks at Envoy's memory
// meanwhile.
func flood(t *testing.T, g *gate, one func() error) {
	t.Helper()
	before := memory(t, g.PID())
	most := before
	done := make(chan struct{})
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		for range floodSockets {
			wg.Go(func() {
				if err := one(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
		}
		most = max(most, memory(t, g.PID()))
	}
	t.Logf("Envoy's memory: %d MiB, at most %d MiB", before>>20, most>>20)
	if most-before > floodGrowth {
		t.Errorf("Envoy's memory grew by %d MiB", (most-before)>>20)
	}
}

// floodSocket sends as much as is taken, and expects to be refused.
func floodSocket(addr, head string, want int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	go func() { // until it is cut off
		if _, err := conn.Write([]byte(head)); err != nil {
			return
		}
		block := make([]byte, 64<<10)
		for range floodBytes / len(block) {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("answered %s, not %d", resp.Status, want)
	}
	return nil
}

// floodHTTP2 announces two bytes on each of a connection's streams and sends as
// many as Envoy's windows let it.
func floodHTTP2(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/v1/x"}, {"content-length", "2"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true}); err != nil {
		return err
	}
	data := make([]byte, 16<<10)
	for range 15 { // within the first window
		if err := framer.WriteData(1, false, data); err != nil {
			return nil // cut off
		}
	}
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return nil // the connection was closed on us
		}
		switch f.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return nil
		case *http2.HeadersFrame:
			return nil // an error status: a good one would have reached the upstream
		}
	}
}

// TestFloodOfSmallBodies: bodies that are checked in one go are held before anybody
// has looked at the request. All but the last byte of as many as a connection's
// streams can have must not fill Envoy, and who has a key still gets through.
func TestFloodOfSmallBodies(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }, nil)
	var conns sync.WaitGroup
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(conns.Wait)
	t.Cleanup(release)
	before := memory(t, g.PID())
	var sent sync.WaitGroup
	for range floodSockets {
		sent.Add(1)
		conns.Go(func() {
			if err := floodStreams(g.Addr, sent.Done, held); err != nil {
				t.Error(err)
			}
		})
	}
	sent.Wait()
	eventually(t, "the bodies have arrived", func() bool {
		return strings.Contains(g.Stats(t, `^http\.gateway\.downstream_rq_active$`), fmt.Sprint(floodSockets*floodPerConnection))
	})
	grown := memory(t, g.PID()) - before
	t.Logf("Envoy's memory grew by %d MiB for %d streams", grown>>20, floodSockets*floodPerConnection)
	if each := grown / (floodSockets * floodPerConnection); each > floodEach {
		t.Errorf("a stream takes %d bytes of Envoy's memory", each)
	}
	if a := g.post(t, "/v1/x", "{}"); a.status != http.StatusOK {
		t.Errorf("a request with a good key meanwhile: %d %s", a.status, a.body)
	}
	release()
}

// floodPerConnection is how many streams Envoy takes on one: what clients take for
// granted before they have read the settings, and no more.
const floodPerConnection = 100

// floodStreams opens as many streams as there may be, each with a body whose last
// byte doesn't come, calls sent, and holds them.
func floodStreams(addr string, sent func(), held <-chan struct{}) error {
	sent = sync.OnceFunc(sent)
	defer sent()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	first, err := framer.ReadFrame()
	if err != nil {
		return err
	}
	settings, ok := first.(*http2.SettingsFrame)
	if !ok {
		return fmt.Errorf("it began with %v", first)
	}
	if most, _ := settings.Value(http2.SettingMaxConcurrentStreams); most != floodPerConnection {
		return fmt.Errorf("a connection may have %d streams: this test tries %d", most, floodPerConnection)
	}
	go func() { // so that Envoy can write
		for {
			if _, err := framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for i := range uint32(floodPerConnection) {
		block.Reset()
		for _, f := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/v1/x"}, {"content-length", fmt.Sprint(envoy.SmallBody)},
		} {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				return err
			}
		}
		id := 2*i + 1
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndHeaders: true}); err != nil {
			return err
		}
		if err := framer.WriteData(id, false, make([]byte, envoy.SmallBody-1)); err != nil {
			return err
		}
	}
	sent()
	<-held
	return nil
}

// memory is the resident set of a process, in bytes.
func memory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib := 0
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// Connections beyond the limit are closed at once; those within go on.
func TestConnectionLimit(t *testing.T) {
	g := newGate(t, func(http.ResponseWriter, *http.Request) {}, func(o *envoytest.Options) { o.Config.MaxConnections = 3 })
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	ask := func() error {
		conn, err := net.Dial("tcp", g.Addr)
		if err != nil {
			return err
		}
		held = append(held, conn)
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, "GET /v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
		_, err = bufio.NewReader(conn).ReadString('\n') // the status line
		return err
	}
	// The connection by which its start was noticed may still be counted.
	eventually(t, "no connections", func() bool {
		return strings.HasSuffix(strings.TrimSpace(g.Stats(t, `^http\.gateway\.downstream_cx_active$`)), ": 0")
	})
	for i := range 3 {
		if err := ask(); err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
	}
	if err := ask(); err == nil {
		t.Error("a fourth connection was served")
	}
}
