package events

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// inbox is the prefix of the subjects on which a user with this public key gets
// answers. It is below the usual _INBOX, so that permissions for that hold too.
func inbox(publicKey string) string { return "_INBOX." + publicKey }

// identity are the options that say who we are and whom we trust. All files are
// looked at, so that what is wrong with one is told with its name and not by a
// server that hangs up. Nothing of their content is in an error.
func identity(cfg *ConnectConfig) ([]nats.Option, error) {
	var options []nats.Option
	switch {
	case cfg.CredsFile != "" && cfg.NkeyFile != "":
		return nil, errors.New("credentials and an nkey are two ways to say who we are to NATS: give one of them")
	case cfg.CredsFile != "":
		public, err := publicKeyIn(cfg.CredsFile, true)
		if err != nil {
			return nil, fmt.Errorf("the NATS credentials: %w", err)
		}
		options = append(options, nats.UserCredentials(cfg.CredsFile), nats.CustomInboxPrefix(inbox(public)))
	case cfg.NkeyFile != "":
		public, err := publicKeyIn(cfg.NkeyFile, false)
		if err != nil {
			return nil, fmt.Errorf("the NATS nkey: %w", err)
		}
		option, err := nats.NkeyOptionFromSeed(cfg.NkeyFile)
		if err != nil {
			return nil, fmt.Errorf("the NATS nkey: %s has no seed of a user", cfg.NkeyFile)
		}
		options = append(options, option, nats.CustomInboxPrefix(inbox(public)))
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the CA of NATS: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the CA of NATS: %s has no certificate in PEM form", cfg.CAFile)
		}
		options = append(options, nats.RootCAs(cfg.CAFile))
	}
	switch {
	case (cfg.CertFile == "") != (cfg.KeyFile == ""):
		return nil, errors.New("the client certificate for NATS and its key belong together: give both or none")
	case cfg.CertFile != "":
		if _, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("the client certificate for NATS, %s with the key %s: %w", cfg.CertFile, cfg.KeyFile, err)
		}
		options = append(options, nats.ClientCert(cfg.CertFile, cfg.KeyFile))
	}
	return options, nil
}

// publicKeyIn is the public key of the user whose seed a file holds; with decorated
// it is a file of credentials, which has a JWT too.
func publicKeyIn(path string, decorated bool) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	defer clear(text)
	if decorated {
		if !bytes.Contains(text, []byte("BEGIN NATS USER JWT")) {
			return "", fmt.Errorf("%s has no JWT of a user: want a .creds file", path)
		}
	}
	pair, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return "", fmt.Errorf("%s has no seed of a user, which begins with SU", path)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return "", fmt.Errorf("%s has a seed, but not of a user: a user's begins with SU", path)
	}
	return public, nil
}
