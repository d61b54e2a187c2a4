package envoy_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// What a client says in trailers reaches no upstream, HTTP/2 from end to end
// included, where Envoy would pass it on.
func TestRequestTrailers(t *testing.T) {
	type taken struct {
		body    string
		proto   string
		trailer http.Header
	}
	seen := make(chan taken, 1)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- taken{string(body), r.Proto, r.Trailer}
	}))
	secure.EnableHTTP2 = true
	secure.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	secure.StartTLS()
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, secure.Config.Handler.ServeHTTP, func(o *envoytest.Options) {
		o.Config.CAFile = ca
		o.Spec.Clusters = []envoy.Cluster{{Name: "model", TLS: true, Endpoints: []envoy.Endpoint{endpoint(t, secure.URL)}}}
	})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	for _, body := range []string{`{}`, `{"x":"` + strings.Repeat("x", 100<<10) + `"}`} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/x", io.MultiReader(strings.NewReader(body))) // of unknown length
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer good")
		req.Trailer = http.Header{"X-Tollgate-User": {"root"}, "X-Other": {"1"}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("status %d", res.StatusCode)
		}
		if got := <-seen; got.proto != "HTTP/2.0" || got.body != body || len(got.trailer) > 0 {
			t.Errorf("the upstream got %d bytes by %s, and the trailers %v", len(got.body), got.proto, got.trailer)
		}
	}
}
