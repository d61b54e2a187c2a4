package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"tollgate/events"
)

// natsSettings say which NATS is used, and as whom. An empty url: the embedded
// one.
type natsSettings struct {
	url           string
	creds, nkey   string // files
	ca, cert, key string // files
	adminCreds    string // files: who makes changes; both empty: the same as above
	adminNkey     string
	copies        int // of each record in the cluster; 0: 3 in a cluster, 1 on a single server
}

// flags gives f the flags of a connection, with their environment twins.
func (n *natsSettings) flags(f *pflag.FlagSet) {
	text := func(to *string, name, usage string) {
		env := "TOLLGATE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		f.StringVar(to, name, os.Getenv(env), usage+" ("+env+")")
	}
	text(&n.url, "nats-url", "NATS to use, such as nats://a:4222,nats://b:4222; empty: the embedded one")
	text(&n.creds, "nats-creds", "file with credentials for it")
	text(&n.nkey, "nats-nkey", "file with an nkey seed for it")
	text(&n.ca, "nats-ca", "file with the certificates that its TLS is checked against; empty: the system's")
	text(&n.cert, "nats-cert", "file with our certificate for its TLS")
	text(&n.key, "nats-key", "file with the key of that certificate")
	text(&n.adminCreds, "nats-admin-creds", "credentials of who makes changes to keys and the catalog; empty: the same as --nats-creds")
	text(&n.adminNkey, "nats-admin-nkey", "nkey seed of who makes changes; empty: the same as --nats-nkey")
	f.IntVar(&n.copies, "nats-replicas", 0, "how many servers of the cluster hold each record, where streams have to be made; 0: 3 in a cluster")
}

// external reports whether the NATS is one of the operator's.
func (n *natsSettings) external() bool { return n.url != "" }

func (n *natsSettings) check() error {
	switch {
	case n.external():
	case n.creds != "" || n.nkey != "" || n.ca != "" || n.cert != "" || n.key != "" || n.adminCreds != "" || n.adminNkey != "":
		return errors.New("--nats-creds, --nats-nkey, --nats-ca, --nats-cert, --nats-key and their like are for a NATS of yours: name it by --nats-url")
	}
	switch {
	case n.creds != "" && n.nkey != "", n.adminCreds != "" && n.adminNkey != "":
		return errors.New("credentials and an nkey are two ways to say who one is: give one of them")
	case (n.cert == "") != (n.key == ""):
		return errors.New("--nats-cert and --nats-key belong together")
	case n.copies < 0 || n.copies > 5:
		return fmt.Errorf("--nats-replicas %d: want 1 to 5", n.copies)
	}
	return nil
}

// connect connects to the operator's NATS as a replica.
func (n *natsSettings) connect(ctx context.Context, name string, log *slog.Logger) (*nats.Conn, error) {
	return events.Connect(ctx, events.ConnectConfig{
		URL: n.url, Name: name, CredsFile: n.creds, NkeyFile: n.nkey,
		CAFile: n.ca, CertFile: n.cert, KeyFile: n.key, Logger: log,
	})
}

// admin reports whether changes are made as somebody else.
func (n *natsSettings) admin() bool { return n.adminCreds != "" || n.adminNkey != "" }

// connectAdmin connects as who makes changes.
func (n *natsSettings) connectAdmin(ctx context.Context, name string, log *slog.Logger) (*nats.Conn, error) {
	as := *n
	if n.admin() {
		as.creds, as.nkey = n.adminCreds, n.adminNkey
	}
	return as.connect(ctx, name, log)
}
