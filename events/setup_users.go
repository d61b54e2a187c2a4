package events

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// Users says which users' files are written, and where.
type Users struct {
	// Dir is where. It is made if missing, for its owner alone.
	Dir string
	// AccountSeedFile has the seed of the account, or of a signing key of it, that
	// lets users in by JWT. Empty: the servers are told of the users in their
	// configuration.
	AccountSeedFile string
	// Account is the public key of the account, where the seed is one of its
	// signing keys.
	Account string
	// Dry writes nothing.
	Dry bool
}

// The files of a set-up.
const (
	replicaName = "replica"
	adminName   = "admin"
	usersFile   = "tollgate-users.conf"
)

// Write makes a user for replicas and one for changes, each with its permissions
// and no more. Without an account's seed it writes replica.nk and admin.nk, nkey
// seeds that only their owner reads, and tollgate-users.conf for the servers; with
// one, replica.creds and admin.creds. Seeds that are there are kept; all else is
// written anew, so that users get the permissions of this version.
func (u Users) Write() ([]Done, error) {
	if !u.Dry {
		if err := os.MkdirAll(u.Dir, 0o700); err != nil {
			return nil, err
		}
	}
	if u.AccountSeedFile != "" {
		return u.writeCreds()
	}
	replica, first, err := u.seed(replicaName + ".nk")
	if err != nil {
		return nil, err
	}
	admin, second, err := u.seed(adminName + ".nk")
	all := []Done{first, second}
	if err != nil {
		return all[:1], err
	}
	done := Done{What: "file " + filepath.Join(u.Dir, usersFile), State: stateWritten, Detail: "for nats-server.conf: include " + usersFile}
	if u.Dry {
		done.State, done.Detail = stateMissing, "would be written"
		return append(all, done), nil
	}
	text := serverUsers(publicKey(replica), publicKey(admin))
	if err := writeWhole(filepath.Join(u.Dir, usersFile), []byte(text), 0o644); err != nil {
		return all, err
	}
	return append(all, done), nil
}

// seed reads the seed of a file, or makes one.
func (u Users) seed(name string) (nkeys.KeyPair, Done, error) {
	path := filepath.Join(u.Dir, name)
	done := Done{What: "file " + path, State: stateKept}
	text, err := os.ReadFile(path)
	if err == nil {
		defer clear(text)
		pair, err := nkeys.ParseDecoratedNKey(text)
		if err != nil || !nkeys.IsValidPublicUserKey(publicKey(pair)) {
			return nil, done, fmt.Errorf("%s has no seed of a user: move it away, and a new one is made", path)
		}
		done.Detail = "user " + publicKey(pair)
		return pair, done, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, done, err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, done, err
	}
	if u.Dry {
		done.State, done.Detail = stateMissing, "would be made"
		return pair, done, nil
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, done, err
	}
	done.State, done.Detail = stateMade, "user "+publicKey(pair)+"; a secret"
	return pair, done, writeWhole(path, slices.Concat(seed, []byte("\n")), 0o600)
}

// publicKey is that of a pair, "" where there is none.
func publicKey(pair nkeys.KeyPair) string {
	if pair == nil {
		return ""
	}
	public, err := pair.PublicKey()
	if err != nil {
		return ""
	}
	return public
}

// writeWhole writes a file whole or not at all.
func writeWhole(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already where all went well
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// serverUsers is the account and its users in the servers' own language.
func serverUsers(replica, admin string) string {
	var b strings.Builder
	b.WriteString("# Written by tollgate nats setup, for nats-server.conf: include " + usersFile + "\n")
	b.WriteString("# There are no secrets in it. Where you have accounts already, put the account\n# TOLLGATE among them in place of the include.\n")
	b.WriteString("accounts {\n  TOLLGATE {\n    jetstream: enabled\n    users: [\n")
	writeUser(&b, "replicas: --nats-nkey "+replicaName+".nk", replica, replicaPermissions(replica, admin))
	writeUser(&b, "changes, by replicas that serve the management API: --nats-admin-nkey "+adminName+".nk", admin, adminPermissions(admin, replica))
	b.WriteString("    ]\n    # What tollgate consumer create lets programs of others use.\n    exports: [\n")
	for _, s := range consumerServices("*") {
		fmt.Fprintf(&b, "      %s\n", s.export())
	}
	b.WriteString("    ]\n  }\n}\n")
	return b.String()
}

func writeUser(b *strings.Builder, what, public string, p permissions) {
	fmt.Fprintf(b, "      # %s\n      {nkey: %q, permissions: {\n", what, public)
	writeSubjects(b, "publish", p.Publish)
	writeSubjects(b, "subscribe", p.Subscribe)
	b.WriteString("      }}\n")
}

func writeSubjects(b *strings.Builder, what string, subjects []string) {
	fmt.Fprintf(b, "        %s: {allow: [\n", what)
	for _, s := range subjects {
		fmt.Fprintf(b, "          %q\n", s)
	}
	b.WriteString("        ]}\n")
}
