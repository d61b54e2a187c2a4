package envoy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	injectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	genericv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Credential is what Envoy shows a cluster's upstreams, in place of whatever a
// client sent in the same header. It does not print.
type Credential struct {
	Header string // in lower case
	Prefix string // goes before the secret, such as "Bearer "
	// Secret goes to the Envoys of a Fleet, and into no file.
	Secret string
	// File or Env is where an Envoy with a static configuration finds the secret
	// by itself: a file that holds it and nothing else, or a variable of Envoy's
	// environment. One of them is required.
	File, Env string
}

// String keeps the secret out of texts.
func (c Credential) String() string { return c.Header + ": [secret]" }

// GoString keeps the secret out of texts.
func (c Credential) GoString() string { return c.String() }

func (c *Credential) check() error {
	switch {
	case c.Header == "" || c.Secret == "":
		return errors.New("a credential needs a header and a secret")
	case (c.File == "") == (c.Env == ""):
		return errors.New("a credential is from a file or a variable")
	}
	return nil
}

// secretName names a cluster's secret by where it comes from and who gets it. So
// a new secret is a change of the secret alone; but where anything else changes,
// it is another secret: at no moment do the new upstreams get the old one, or
// the old upstreams the new one.
func secretName(s Cluster) string {
	c := s.Credential
	h := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %v %t", c.Header, c.Prefix, c.File, c.Env, s.Endpoints, s.TLS))
	return s.Name + " " + hex.EncodeToString(h[:6])
}

// injectCredential is a filter on the way to one cluster. source says where its
// secret is found; nil: in the same file.
func injectCredential(s Cluster, source *corev3.ConfigSource) *hcmv3.HttpFilter {
	return httpFilter("envoy.filters.http.credential_injector", &injectorv3.CredentialInjector{
		Overwrite: true, // whatever a client sent under that name
		Credential: &corev3.TypedExtensionConfig{
			Name: "envoy.http.injected_credentials.generic",
			TypedConfig: pack(&genericv3.Generic{
				Credential:        &tlsv3.SdsSecretConfig{Name: secretName(s), SdsConfig: source},
				Header:            s.Credential.Header,
				HeaderValuePrefix: s.Credential.Prefix,
			}),
		},
	})
}

// staticSecret tells Envoy where to find a secret.
func staticSecret(s Cluster) *tlsv3.Secret {
	from := &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: s.Credential.File}}
	if s.Credential.Env != "" {
		from = &corev3.DataSource{Specifier: &corev3.DataSource_EnvironmentVariable{EnvironmentVariable: s.Credential.Env}}
	}
	return genericSecret(s, from)
}

// liveSecret tells Envoy the secret.
func liveSecret(s Cluster) *tlsv3.Secret {
	return genericSecret(s, &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s.Credential.Secret}})
}

func genericSecret(s Cluster, from *corev3.DataSource) *tlsv3.Secret {
	return &tlsv3.Secret{Name: secretName(s), Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{Secret: from}}}
}
