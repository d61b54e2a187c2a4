package events

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"tollgate/events/natstest"
	"tollgate/events/natstest/freeaddr"
)

// connectAs is Connect for tests.
func connectAs(t *testing.T, cfg ConnectConfig) (*nats.Conn, error) {
	t.Helper()
	cfg.Name, cfg.Logger = t.Name(), quiet
	nc, err := Connect(t.Context(), cfg)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

// expectRefusal checks that an error says what to do, and no secret.
func expectRefusal(t *testing.T, err error, says string, secrets ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("connected; want an error with %q", says)
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %q, want %q in it", err, says)
	}
	for _, s := range secrets {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error tells the secret %s: %v", s, err)
		}
	}
}

func TestConnectTLS(t *testing.T) {
	dir := t.TempDir()
	ca, other := newAuthority(t, dir, "ca"), newAuthority(t, dir, "other")
	serverCert, serverKey := ca.issue(t, "server", "127.0.0.1")
	wrongCert, wrongKey := ca.issue(t, "wrong", "elsewhere.example")
	clientCert, clientKey := ca.issue(t, "client", "")
	strangeCert, strangeKey := other.issue(t, "stranger", "")
	tls := func(cert, key, more string) string {
		return fmt.Sprintf("tls {cert_file: %q, key_file: %q, %s}\n", cert, key, more)
	}
	const login = "authorization {user: a, password: geheim}\n"

	c := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: login + tls(serverCert, serverKey, "")})
	url := "tls://a:geheim@" + c.Addr(0)
	nc, err := connectAs(t, ConnectConfig{URL: url, CAFile: ca.path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Errorf("no TLS: %v", err)
	}
	_, err = connectAs(t, ConnectConfig{URL: url, CAFile: other.path})
	expectRefusal(t, err, "not of a CA that we trust ("+other.path+")", "geheim")
	_, err = connectAs(t, ConnectConfig{URL: url})
	expectRefusal(t, err, "not of a CA that we trust (the system's)", "geheim")
	_, err = connectAs(t, ConnectConfig{URL: "tls://a:falsch@" + c.Addr(0), CAFile: ca.path})
	expectRefusal(t, err, "does not let us in (user and password of the URL)", "falsch")

	c = natstest.StartCluster(t, natstest.Options{Servers: 1, Config: tls(wrongCert, wrongKey, "")})
	_, err = connectAs(t, ConnectConfig{URL: c.URL(), CAFile: ca.path})
	expectRefusal(t, err, "its certificate is for another name")

	c = natstest.StartCluster(t, natstest.Options{Servers: 1, Config: tls(serverCert, serverKey, fmt.Sprintf("ca_file: %q, verify: true", ca.path))})
	if _, err := connectAs(t, ConnectConfig{URL: c.URL(), CAFile: ca.path, CertFile: clientCert, KeyFile: clientKey}); err != nil {
		t.Errorf("with a client certificate: %v", err)
	}
	_, err = connectAs(t, ConnectConfig{URL: c.URL(), CAFile: ca.path})
	expectRefusal(t, err, "does it want a client certificate")
	_, err = connectAs(t, ConnectConfig{URL: c.URL(), CAFile: ca.path, CertFile: strangeCert, KeyFile: strangeKey})
	expectRefusal(t, err, "does it want a client certificate")

	c = natstest.StartCluster(t, natstest.Options{Servers: 1})
	_, err = connectAs(t, ConnectConfig{URL: c.URL(), CAFile: ca.path})
	expectRefusal(t, err, "does not speak TLS")
}

func TestConnectRefusals(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountSeed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	userSeed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	c := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: `
accounts {
  A {users: [{user: a, password: geheim}]}
  B {jetstream: enabled, users: [{user: b, password: geheim}]}
}`})
	url := c.URL()
	closed := "nats://a:geheim@" + freeaddr.Take(t)
	for says, cfg := range map[string]ConnectConfig{
		"JetStream is not enabled for our account":             {URL: "nats://a:geheim@" + c.Addr(0)},
		"nobody answers there":                                 {URL: closed},
		"want nats://host:port":                                {URL: "nats://a:geheim@%zz"},
		"want nats:// or tls://":                               {URL: "http://a:geheim@127.0.0.1"},
		"knows nobody by nkey (we are nkey " + publicKey(user): {URL: url, NkeyFile: file("user.nk", string(userSeed))},
		"without credentials":                                  {URL: url},
		"there is no host of that name":                        {URL: "nats://a:geheim@nowhere.invalid"},
		"give one of them":                                     {URL: url, NkeyFile: "a", CredsFile: "b"},
		"give both or none":                                    {URL: url, CertFile: "a"},
		"no such file":                                         {URL: url, NkeyFile: filepath.Join(dir, "none")},
		"but not of a user":                                    {URL: url, NkeyFile: file("account.nk", string(accountSeed))},
		"has no seed of a user":                                {URL: url, NkeyFile: file("geheim.nk", "geheim")},
		"want a .creds file":                                   {URL: url, CredsFile: file("geheim.creds", "geheim")},
		"no certificate in PEM form":                           {URL: url, CAFile: file("ca.pem", "geheim")},
		"the client certificate for NATS":                      {URL: url, CertFile: file("cert.pem", "geheim"), KeyFile: file("key.pem", "geheim")},
	} {
		_, err := connectAs(t, cfg)
		// The names of files are no secrets, though these have the word in them.
		if err != nil {
			err = errors.New(strings.NewReplacer("geheim.nk", "", "geheim.creds", "").Replace(err.Error()))
		}
		expectRefusal(t, err, says, "geheim", string(userSeed), string(accountSeed))
	}
	if _, err := connectAs(t, ConnectConfig{URL: closed + ",nats://b:geheim@" + c.Addr(0)}); err != nil {
		t.Errorf("with one of two servers there: %v", err)
	}
}

func TestConnectNeedsJetStream(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	_, err = connectAs(t, ConnectConfig{URL: "nats://" + s.Addr().String()})
	expectRefusal(t, err, "JetStream is not enabled on the nats-server")
}

// An old server is told by what it says of itself.
func TestConnectNeedsVersion(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintf(conn, "INFO {\"server_id\":\"x\",\"version\":\"2.12.9\",\"proto\":1,\"max_payload\":1048576,\"headers\":true}\r\n")
				for s := bufio.NewScanner(conn); s.Scan(); {
					if strings.HasPrefix(s.Text(), "PING") {
						fmt.Fprintf(conn, "PONG\r\n")
					}
				}
			}()
		}
	}()
	_, err = connectAs(t, ConnectConfig{URL: "nats://" + l.Addr().String()})
	expectRefusal(t, err, "has version 2.12.9, Tollgate needs 2.15 or later")
	for version, want := range map[string]bool{
		"2.15.0": true, "2.15.0-RC.1": true, "2.16.1": true, "3.0.0": true, "2.15": true, "2.14.9": false, "1.99.0": false, "": false, "x.y": false, "2": false,
	} {
		if got := atLeast(version, 2, 15); got != want {
			t.Errorf("%q: %t", version, got)
		}
	}
}

// A connection that was lost comes back, also where the server has refused our
// user in between; what is published meanwhile fails at once.
func TestConnectionComesBack(t *testing.T) {
	const known = "authorization {users: [{user: a, password: p}]}"
	c := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: known})
	nc, err := connectAs(t, ConnectConfig{URL: "nats://a:p@" + c.Addr(0)})
	if err != nil {
		t.Fatal(err)
	}
	heard, err := nc.SubscribeSync("subject")
	if err != nil {
		t.Fatal(err)
	}
	c.Stop(0)
	eventually(t, "the loss is noticed", func() bool { return !nc.IsConnected() })
	start := time.Now()
	if err := nc.Publish("subject", []byte("x")); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("publishing while away: %v", err)
	}
	if _, err := nc.Request("subject", nil, time.Minute); !errors.Is(err, nats.ErrReconnectBufExceeded) || time.Since(start) > 10*time.Second {
		t.Errorf("asking while away: %v after %v", err, time.Since(start))
	}
	c.Reconfigure("authorization {users: [{user: b, password: p}]}")
	c.Restart(0)
	c.WaitReady()
	eventually(t, "the server refuses us", func() bool { return errors.Is(nc.LastError(), nats.ErrAuthorization) })
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if nc.IsClosed() {
			t.Fatal("the connection gave up")
		}
	}
	c.Reconfigure(known)
	eventually(t, "it is back", nc.IsConnected)
	if err := nc.Publish("subject", []byte("y")); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(time.Minute); err != nil || string(m.Data) != "y" {
		t.Errorf("heard %v, %v", m, err)
	}
}

// A server that is gone without a sign is given up for another one.
func TestSilentServerIsGivenUp(t *testing.T) {
	c := natstest.StartCluster(t, natstest.Options{})
	proxy := natstest.NewProxy(t, c.Addr(0))
	// The first is the proxy: the second is closed until that is connected.
	nc, err := connectAs(t, ConnectConfig{URL: "nats://" + proxy.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.SetServerPool([]string{"nats://" + proxy.Addr(), "nats://" + c.Addr(1)}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	proxy.Cut()
	eventually(t, "another server", func() bool { return nc.IsConnected() && nc.ConnectedAddr() == c.Addr(1) })
	if took := time.Since(start); took > 12*time.Second {
		t.Errorf("it took %v", took)
	}
}
