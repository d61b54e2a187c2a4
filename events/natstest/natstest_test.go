package natstest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect reaches one server of a cluster and no other.
func connect(t *testing.T, addr string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("nats://"+addr, nats.Timeout(patience), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// makeStream makes a stream with a copy on each of three servers.
func makeStream(t *testing.T, c *Cluster) {
	t.Helper()
	js := connect(t, c.Addr(0))
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		// A leader may lose sight of a server for a moment, and then places nothing there.
		if _, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3}); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// publish stores a message, however long elections take.
func publish(t *testing.T, js jetstream.JetStream, subject string) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = tryPublish(t, js, subject, 2*time.Second); err == nil {
			return
		}
	}
	t.Fatalf("publishing: %v", err)
}

func tryPublish(t *testing.T, js jetstream.JetStream, subject string, most time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	_, err := js.Publish(ctx, subject, []byte("x"), jetstream.WithMsgID(subject))
	return err
}

// expectMessages waits until a server tells of so many messages in the stream.
func expectMessages(t *testing.T, js jetstream.JetStream, want uint64) {
	t.Helper()
	var got uint64
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		s, err := js.Stream(t.Context(), "S")
		if err != nil {
			continue
		}
		if got = s.CachedInfo().State.Msgs; got == want {
			return
		}
	}
	t.Fatalf("%d messages, want %d", got, want)
}

func TestClusterOutlivesItsServers(t *testing.T) {
	c := StartCluster(t, Options{})
	makeStream(t, c)
	leader := c.Leader("S")
	other := (leader + 1) % c.Len()
	js := connect(t, c.Addr(other))
	publish(t, js, "s.1")

	c.Kill9(leader)
	publish(t, js, "s.2")
	if now := c.Leader("S"); now == leader {
		t.Errorf("n%d leads still, and is dead", now)
	}
	c.Restart(leader)
	c.WaitReady()
	js = connect(t, c.Addr(leader))
	expectMessages(t, js, 2)

	paused := c.Leader("S")
	c.Pause(paused)
	publish(t, connect(t, c.Addr((paused+1)%c.Len())), "s.3")
	c.Resume(paused)
	c.WaitReady()
	c.Stop(paused)
	c.Wipe(paused)
	c.Restart(paused)
	c.WaitReady()
	publish(t, connect(t, c.Addr(paused)), "s.4")
}

// A partition is real: the servers find no way around the proxies. What is sent
// to the leader while it is cut off gets no acknowledgement, and the others choose
// another.
func TestIsolate(t *testing.T) {
	c := StartCluster(t, Options{ProxyRoutes: true})
	makeStream(t, c)
	leader := c.Leader("S")
	cut, rest := connect(t, c.Addr(leader)), connect(t, c.Addr((leader+1)%c.Len()))
	publish(t, cut, "s.1")

	c.Isolate(leader)
	start := time.Now()
	publish(t, rest, "s.2")
	t.Logf("the others took a message %v after the partition", time.Since(start))
	if now := c.Leader("S"); now == leader {
		t.Errorf("n%d leads still, and is cut off", leader)
	}
	// Long enough for servers to find a way around.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if err := tryPublish(t, cut, "s.lost", time.Second); err == nil {
			t.Fatal("a leader that was cut off acknowledged a message")
		}
	}
	publish(t, rest, "s.3")

	c.Heal(leader)
	c.WaitReady()
	publish(t, cut, "s.4")
	// s.lost may be stored by now: it was never refused. Msg ids keep it single.
	s, err := cut.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"s.1", "s.2", "s.3", "s.4"} {
		if _, err := s.GetLastMsgForSubject(t.Context(), subject); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
	}
}

func TestOneServer(t *testing.T) {
	c := StartCluster(t, Options{Servers: 1, Config: `authorization {user: a, password: b}`})
	if _, err := nats.Connect(c.URL()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without a password: %v", err)
	}
	nc, err := nats.Connect(c.URL(), nats.UserInfo("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	if got := c.Leader("S"); got != 0 {
		t.Errorf("n%d leads", got)
	}
}

// echo answers each line with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func TestProxy(t *testing.T) {
	p := NewProxy(t, echo(t))
	dial := func() (net.Conn, *bufio.Reader) {
		t.Helper()
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, bufio.NewReader(conn)
	}
	expect := func(r *bufio.Reader, want string) {
		t.Helper()
		if got, err := r.ReadString('\n'); err != nil || got != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	conn, r := dial()
	io.WriteString(conn, "one\n")
	expect(r, "one\n")

	p.Cut()
	io.WriteString(conn, "two\n")
	late, lateReader := dial()
	io.WriteString(late, "late\n")
	conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if b, err := r.ReadByte(); err == nil {
		t.Fatalf("read %q through a cut network", b)
	}
	conn.SetReadDeadline(time.Time{})
	p.Heal()
	expect(r, "two\n")
	expect(lateReader, "late\n")

	p.Delay(50*time.Millisecond, 100*time.Millisecond)
	start := time.Now()
	io.WriteString(conn, "three\n")
	expect(r, "three\n")
	if took := time.Since(start); took < 150*time.Millisecond {
		t.Errorf("a delay of 150 ms took %v", took)
	}
	p.Delay(0, 0)

	p.Cut()
	p.Reset()
	if _, err := r.ReadByte(); err == nil {
		t.Error("a connection outlived Reset")
	}
	p.Heal()
	conn, r = dial()
	io.WriteString(conn, "four\n")
	expect(r, "four\n")
}

// Delays keep the order of what is sent, whatever they change to.
func TestDelayKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy("")
		near, far := net.Pipe()
		l := &link{ends: [2]net.Conn{toTarget: near}, done: make(chan struct{})}
		chunks := make(chan chunk, 2)
		chunks <- chunk{[]byte("a"), time.Now().Add(time.Hour)}
		chunks <- chunk{[]byte("b"), time.Now()}
		close(chunks)
		go p.write(l, toTarget, chunks)
		got := make([]byte, 2)
		start := time.Now()
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "ab" || time.Since(start) != time.Hour {
			t.Errorf("%q, %v after %v", got, err, time.Since(start))
		}
	})
}
