package envoy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// counted is an upstream that counts what it serves, one request a connection, so
// that none is caught on a connection which the upstream just closes.
type counted struct {
	*httptest.Server
	requests, checks atomic.Int64
	sick             atomic.Bool // its health is 503
}

func newCounted(t *testing.T) *counted {
	t.Helper()
	c := new(counted)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			c.checks.Add(1)
			if r.Host != strings.TrimPrefix(c.URL, "http://") {
				w.WriteHeader(http.StatusMisdirectedRequest)
			} else if c.sick.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		c.requests.Add(1)
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(c.Close)
	return c
}

// upstreams starts a gate whose model has these endpoints.
func upstreams(t *testing.T, change func(*envoy.Cluster), servers ...*httptest.Server) *gate {
	t.Helper()
	return newGate(t, nil, func(o *envoytest.Options) {
		c := &o.Spec.Clusters[0]
		*c = clusterAt(t, "model", servers...)
		if change != nil {
			change(c)
		}
	})
}

// burst sends n requests, eight at a time, that must all be answered 200.
func (g *gate) burst(t *testing.T, n int) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if a := g.post(t, "/v1/x", "{}"); a.status != http.StatusOK {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	all.Wait()
}

func TestWeights(t *testing.T) {
	a, b := newCounted(t), newCounted(t)
	g := upstreams(t, func(c *envoy.Cluster) { c.Endpoints[0].Weight = 3 }, a.Server, b.Server)
	g.burst(t, 400)
	if n := a.requests.Load(); n < 280 || n > 320 || n+b.requests.Load() != 400 {
		t.Errorf("3:1 became %d:%d", n, b.requests.Load())
	}
}

// An upstream dies under load, the one with most of the weight: its requests go
// to the other, each to be computed once.
func TestUpstreamDies(t *testing.T) {
	a, b := newCounted(t), newCounted(t)
	g := upstreams(t, func(c *envoy.Cluster) { c.Endpoints[0].Weight = 100 }, a.Server, b.Server)
	g.burst(t, 50)
	a.Close()
	before := b.requests.Load()
	if answer := g.post(t, "/v1/x", "{}"); answer.status != http.StatusOK { // nobody else finds it out for this one
		t.Errorf("the first one: %d %s", answer.status, answer.body)
	}
	g.burst(t, 199)
	if n := b.requests.Load() - before; n != 200 {
		t.Errorf("200 requests were computed %d times", n)
	}
	// It is left out after a few: the others don't try it first.
	eventually(t, "its ejection", func() bool {
		return strings.Contains(g.Stats(t, "cluster.model.outlier_detection.ejections_active"), "active: 1\n")
	})
	// Both are dead: told as such, and both are tried.
	b.Close()
	answer := g.post(t, "/v1/x", "{}")
	if o := g.settled.of(t, "adm-251"); answer.status != 503 || !strings.Contains(o.Flags, "UF") {
		t.Errorf("with no upstream: %d %s, settled as %+v", answer.status, answer.body, o)
	}
}

// With a health check, who says that it is unwell gets nothing; who says nothing,
// neither.
func TestHealthCheck(t *testing.T) {
	a, b := newCounted(t), newCounted(t)
	g := upstreams(t, func(c *envoy.Cluster) {
		c.HealthCheck = &envoy.HealthCheck{Path: "/health", Interval: 50 * time.Millisecond, Timeout: envoy.MaxHealthTimeout}
	}, a.Server, b.Server)
	healthy := func(n string) {
		t.Helper()
		eventually(t, n+" are healthy", func() bool {
			return strings.Contains(g.Stats(t, "cluster.model.membership_healthy"), "healthy: "+n+"\n")
		})
	}
	healthy("2")
	g.burst(t, 40)
	if a.requests.Load() == 0 || b.requests.Load() == 0 {
		t.Errorf("%d and %d requests", a.requests.Load(), b.requests.Load())
	}
	a.sick.Store(true)
	healthy("1")
	before := a.requests.Load()
	g.burst(t, 40)
	if n := a.requests.Load() - before; n != 0 {
		t.Errorf("the sick one got %d requests", n)
	}
	b.sick.Store(true)
	healthy("0")
	answer := g.post(t, "/v1/x", "{}")
	if o := g.settled.of(t, "adm-81"); answer.status != 503 || !strings.Contains(o.Flags, "UH") {
		t.Errorf("with none healthy: %d %s, settled as %+v", answer.status, answer.body, o)
	}
	a.sick.Store(false)
	healthy("1")
	g.burst(t, 10)
	if n := a.requests.Load() - before; n != 10 {
		t.Errorf("the recovered one got %d of 10 requests", n)
	}
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "a private CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	return a
}

// issue signs a certificate, the first one with its own key.
func (a *authority) issue(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = time.Now().Add(-2 * time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

// serve is an https upstream with a certificate of a's, and what it saw.
func (a *authority) serve(h http.Handler, c *x509.Certificate) *httptest.Server {
	a.t.Helper()
	cert, key := a.issue(c)
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = nil
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

// An https upstream is reached if its certificate is good in every respect, and
// otherwise not at all: there is no other way to it.
func TestUpstreamCertificate(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	here := net.IPv4(127, 0, 0, 1)
	for _, test := range []struct {
		name, host string // host: what the upstream's URL names
		by         *authority
		cert       x509.Certificate
		check      bool // with a health check
		want       int
	}{
		{"an address", "127.0.0.1", ca, x509.Certificate{IPAddresses: []net.IP{here}}, false, 200},
		{"a name", "localhost", ca, x509.Certificate{DNSNames: []string{"localhost"}}, false, 200},
		{"a name, its health checked", "localhost", ca, x509.Certificate{DNSNames: []string{"localhost"}}, true, 200},
		{"an address, its health checked", "127.0.0.1", ca, x509.Certificate{IPAddresses: []net.IP{here}}, true, 200},
		{"another name", "localhost", ca, x509.Certificate{DNSNames: []string{"elsewhere"}}, false, 503},
		{"another address", "127.0.0.1", ca, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}}, false, 503},
		{"expired", "localhost", ca, x509.Certificate{DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(-time.Hour)}, false, 503},
		{"somebody else's CA", "localhost", stranger, x509.Certificate{DNSNames: []string{"localhost"}}, false, 503},
		{"somebody else's CA, its health checked", "localhost", stranger, x509.Certificate{DNSNames: []string{"localhost"}}, true, 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			var requests atomic.Int64
			up := test.by.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/health" {
					requests.Add(1)
				}
				_, _ = io.WriteString(w, "private")
			}), &test.cert)
			g := upstreams(t, func(c *envoy.Cluster) {
				c.CA, c.Endpoints[0].Host = ca.pem, test.host
				c.Credential = &envoy.Credential{Header: "authorization", Secret: "sk-private", Env: "HOME"}
				if test.check {
					c.HealthCheck = &envoy.HealthCheck{Path: "/health", Interval: time.Second}
				}
			}, up)
			a := g.post(t, "/v1/x", "{}")
			if a.status != test.want || requests.Load() != map[int]int64{200: 1}[test.want] {
				t.Errorf("%d %s, want %d; %d requests arrived", a.status, a.body, test.want, requests.Load())
			}
			if o := g.settled.of(t, "adm-1"); test.want != 200 && !strings.Contains(o.Flags, "UF") && !strings.Contains(o.Flags, "UH") {
				t.Errorf("settled as %+v: nothing says that it was not sent", o)
			}
		})
	}
}
