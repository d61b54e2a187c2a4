package events

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
)

// refusal says why no connection came about, and what to do. What nobody refused is
// Away.
func refusal(cfg *ConnectConfig, err error) error {
	at := "NATS at " + hosts(cfg.URL)
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		dns       *net.DNSError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unreached(fmt.Errorf("%s: %w before it answered", at, err), err)
	case errors.Is(err, nats.ErrNoServers):
		return unreached(fmt.Errorf("%s: nobody answers there: is it running, and is the address right?", at), err)
	case errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("%s: our credentials have expired: make new ones (%s)", at, cfg.who())
	case errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("%s: our credentials were revoked: make new ones (%s)", at, cfg.who())
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("%s does not let us in (%s): is the user in its configuration, and was that reloaded?", at, cfg.who())
	case errors.As(err, &authority):
		return fmt.Errorf("%s: its certificate is not of a CA that we trust (%s): name the right one by --nats-ca", at, cfg.trust())
	case errors.As(err, &hostname):
		return fmt.Errorf("%s: its certificate is for another name: %w", at, err)
	case errors.As(err, &invalid):
		return fmt.Errorf("%s: its certificate is not valid: %w", at, err)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("%s knows nobody by nkey (we are %s): include tollgate-users.conf in its configuration and reload it", at, cfg.who())
	case strings.Contains(err.Error(), "remote error: tls:"), errors.Is(err, nats.ErrTLS): // or it just hangs up
		return fmt.Errorf("%s refused our TLS: does it want a client certificate of its CA (--nats-cert, --nats-key)? %w", at, err)
	case errors.As(err, &record), errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%s does not speak TLS, which tls:// or --nats-ca asks for", at)
	case errors.As(err, &dns):
		return unreached(fmt.Errorf("%s: there is no host of that name: %w", at, err), err)
	case errors.Is(err, nats.ErrTimeout):
		return unreached(fmt.Errorf("%s did not answer within %v", at, connectTimeout), err)
	}
	return unreached(fmt.Errorf("%s: %w", at, err), err)
}

// who says as whom we came, without any secret.
func (cfg *ConnectConfig) who() string {
	switch {
	case cfg.CredsFile != "":
		return "credentials " + cfg.CredsFile
	case cfg.NkeyFile != "":
		if public, err := publicKeyIn(cfg.NkeyFile, false); err == nil {
			return "nkey " + public + " of " + cfg.NkeyFile
		}
		return "nkey " + cfg.NkeyFile
	case strings.Contains(cfg.URL, "@"):
		return "user and password of the URL"
	case cfg.CertFile != "":
		return "certificate " + cfg.CertFile
	}
	return "without credentials: --nats-nkey or --nats-creds"
}

// trust says what the server's certificate was checked against.
func (cfg *ConnectConfig) trust() string {
	if cfg.CAFile != "" {
		return cfg.CAFile
	}
	return "the system's"
}
