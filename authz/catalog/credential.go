package catalog

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Credential is what an upstream is shown instead of the caller's key. It does
// not print.
type Credential struct {
	Header string // in lower case
	Prefix string // what goes before the secret: "Bearer ", or nothing
	From   string // where the secret was read: env:NAME or file:PATH
	secret string
}

// Secret must not be stored, logged or told.
func (c Credential) Secret() string { return c.secret }

// Value is the header's value: Prefix and Secret.
func (c Credential) Value() string { return c.Prefix + c.secret }

// File is the path of the file that the secret was read from, "" if from none.
func (c Credential) File() string { return c.named(filePrefix) }

// Env is the variable that the secret was read from, "" if from none.
func (c Credential) Env() string { return c.named(envPrefix) }

func (c Credential) named(prefix string) string {
	if name, ok := strings.CutPrefix(c.From, prefix); ok {
		return name
	}
	return ""
}

// String keeps the secret out of texts.
func (c Credential) String() string { return c.Header + ": [secret]" }

// GoString keeps the secret out of texts.
func (c Credential) GoString() string { return c.String() }

const (
	envPrefix  = "env:"
	filePrefix = "file:"
)

// credential reads the secret that a spec names.
func (s Source) credential(spec *CredentialSpec) (*Credential, error) {
	if spec == nil {
		return nil, nil
	}
	secret, err := s.secret(spec.From)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	c := &Credential{Header: strings.ToLower(cmp.Or(spec.Header, "authorization")), From: spec.From, secret: secret}
	scheme := ""
	if spec.Scheme != nil {
		scheme = *spec.Scheme
	} else if c.Header == "authorization" {
		scheme = "Bearer"
	}
	if scheme != "" {
		c.Prefix = scheme + " "
	}
	return c, nil
}

func (s Source) secret(from string) (string, error) {
	var secret string
	if path, ok := strings.CutPrefix(from, filePrefix); ok {
		if s.File == nil {
			return "", fmt.Errorf("%s can't be read here: files are not looked at", from)
		}
		b, err := s.File(path)
		if err != nil {
			return "", fmt.Errorf("the file can't be read: %w", err)
		}
		secret = string(b)
	} else {
		var err error
		if secret, err = s.env(from); err != nil {
			return "", err
		}
	}
	if secret = strings.TrimSpace(secret); secret == "" {
		return "", fmt.Errorf("%s is empty: put the upstream's key there", from)
	}
	for i := range len(secret) {
		if secret[i] < ' ' || secret[i] > '~' {
			return "", fmt.Errorf("%s is not one line of printable ASCII, so it can't go into a header", from)
		}
	}
	return secret, nil
}

// certificates reads a file of CA certificates.
func (s Source) certificates(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	if s.File == nil {
		return nil, errors.New("caFile: files are not looked at here")
	}
	text, err := s.File(path)
	if err != nil {
		return nil, fmt.Errorf("caFile: the file can't be read: %w", err)
	}
	n := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if n++; block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("caFile: %s has a %s, which doesn't belong there", path, strings.ToLower(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("caFile: %s: certificate %d: %w", path, n, err)
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("caFile: %s has no certificate in PEM (-----BEGIN CERTIFICATE-----)", path)
	}
	return text, nil
}

// env looks up what env:NAME names.
func (s Source) env(from string) (string, error) {
	name, ok := strings.CutPrefix(from, envPrefix)
	if !ok {
		return "", errors.New("want env:NAME or file:PATH")
	}
	if s.Env != nil {
		if value, ok := s.Env(name); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("the environment variable %s is not set: set it before Tollgate starts", name)
}

// upstream reads a URL, or the variable that holds one.
func (s Source) upstream(text string) (*Upstream, error) {
	if !strings.HasPrefix(text, envPrefix) {
		return parseURL(text)
	}
	value, err := s.env(text)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	u, err := parseURL(strings.TrimSpace(value))
	if err != nil {
		return nil, fmt.Errorf("upstream: the environment variable %s: %w", strings.TrimPrefix(text, envPrefix), err)
	}
	return u, nil
}
