package events

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"tollgate/events/natstest"
)

// states are those of a set-up's steps, in a line.
func states(done []Done) string {
	words := make([]string, 0, len(done))
	for _, d := range done {
		words = append(words, d.State)
	}
	return strings.Join(words, " ")
}

func TestSetUpRepeats(t *testing.T) {
	g := &ground{dir: setUpFiles(t)}
	g.cluster = natstest.StartCluster(t, natstest.Options{Servers: 1, Config: g.file(t, usersFile)})
	g.admin, g.replica = g.connect(t, adminName), g.connect(t, replicaName)
	ctx := t.Context()
	// Somebody made two of them before: one in the usual way, the other with limits
	// of his own.
	js, err := jetstream.New(g.admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: keysBucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenUsage(ctx, g.admin, UsageConfig{MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		dry  bool
		want string
	}{
		{true, "differs missing missing missing there missing"},
		{true, "differs missing missing missing there missing"},
		{false, "changed made made made there made"},
		{false, "there there there there there there"},
	} {
		done, err := SetUp(ctx, g.admin, 0, step.dry)
		if err != nil || states(done) != step.want {
			t.Errorf("dry %t: %v, %v; want %s", step.dry, done, err, step.want)
		}
	}
	s, err := js.Stream(ctx, UsageStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().Config.MaxBytes; got != 1<<20 {
		t.Errorf("the set-up changed a limit to %d", got)
	}
	if _, err := SetUp(ctx, g.admin, 3, false); err == nil || !strings.Contains(err.Error(), "is in no cluster") {
		t.Errorf("3 copies on a single server: %v", err)
	}
	if _, err := OpenUsage(ctx, g.replica, UsageConfig{Replicas: 3}); err != nil {
		t.Errorf("a stream that is there is opened whatever was asked for: %v", err)
	}
}

func TestSetUpNeedsRights(t *testing.T) {
	dir := t.TempDir()
	if _, err := (Users{Dir: dir}).Write(); err != nil {
		t.Fatal(err)
	}
	g := &ground{dir: dir}
	g.cluster = natstest.StartCluster(t, natstest.Options{Servers: 1, Config: g.file(t, usersFile)})
	done, err := SetUp(t.Context(), g.connect(t, adminName), 0, true)
	if err != nil || states(done) != "missing missing missing missing missing missing" {
		t.Errorf("a dry run: %v, %v", done, err)
	}
	replica := g.connect(t, replicaName)
	soon := func() context.Context { // what is denied is not answered
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	_, err = OpenUsage(soon(), replica, UsageConfig{})
	if err == nil || !strings.Contains(err.Error(), "tollgate nats setup") || !strings.Contains(err.Error(), "STREAM.CREATE.TOLLGATE_USAGE") {
		t.Errorf("a replica makes the stream: %v", err)
	}
	_, err = OpenObjects(soon(), replica, 0)
	if err == nil || !strings.Contains(err.Error(), "tollgate nats setup") {
		t.Errorf("a replica makes the bucket of objects: %v", err)
	}
	if _, err = SetUp(soon(), replica, 0, true); err == nil || !strings.Contains(err.Error(), "--nats-admin-nkey") {
		t.Errorf("a replica sets up: %v", err)
	}
}

// Users that an older version made have no right to what is new since.
func TestSetUpOfAnOlderVersion(t *testing.T) {
	g := &ground{dir: setUpFiles(t)}
	older := strings.ReplaceAll(g.file(t, usersFile), objectsBucket, "TOLLGATE_NOTHING")
	g.cluster = natstest.StartCluster(t, natstest.Options{Servers: 1, Config: older})
	for _, role := range []string{replicaName, adminName} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := OpenObjects(ctx, g.connect(t, role), 0)
		if err == nil || !strings.Contains(err.Error(), "tollgate nats setup --dir") {
			t.Errorf("as %s: %v", role, err)
		}
	}
}

// In a cluster there are three copies of everything, and what is there stays.
func TestSetUpCopies(t *testing.T) {
	g := setUpGround(t, 3)
	js, err := jetstream.New(g.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range setUpStreams {
		stream, err := js.Stream(t.Context(), s.name)
		if err != nil {
			t.Fatal(err)
		}
		if cfg := stream.CachedInfo().Config; cfg.Replicas != 3 || cfg.AllowRollup {
			t.Errorf("%s: %d copies, rollup %t", s.name, cfg.Replicas, cfg.AllowRollup)
		}
	}
	done, err := SetUp(t.Context(), g.admin, 1, false)
	if err != nil || states(done) != "there there there there there there" || !strings.Contains(done[0].Detail, "3 copies, not 1") {
		t.Errorf("with 1 asked for: %v, %v", done, err)
	}
}

func TestUsersKeepTheirSeeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if done, err := (Users{Dir: dir, Dry: true}).Write(); err != nil || states(done) != "missing missing missing" {
		t.Errorf("a dry run: %v, %v", done, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a dry run made the directory: %v", err)
	}
	done, err := (Users{Dir: dir}).Write()
	if err != nil || states(done) != "made made written" {
		t.Fatalf("%v, %v", done, err)
	}
	replica, admin, conf := read("replica.nk"), read("admin.nk"), read(usersFile)
	if replica == admin || strings.Contains(conf, strings.TrimSpace(replica)) || strings.Contains(conf, strings.TrimSpace(admin)) {
		t.Error("the configuration has a secret, or two users have one")
	}
	for _, name := range []string{"replica.nk", "admin.nk"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		for _, d := range done {
			if strings.Contains(d.Detail, strings.TrimSpace(read(name))) {
				t.Errorf("the report tells the secret of %s", name)
			}
		}
	}
	if done, err = (Users{Dir: dir}).Write(); err != nil || states(done) != "kept kept written" {
		t.Errorf("again: %v, %v", done, err)
	}
	if replica != read("replica.nk") || admin != read("admin.nk") || conf != read(usersFile) {
		t.Error("the second time wrote something else")
	}
	if err := os.WriteFile(filepath.Join(dir, "replica.nk"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Users{Dir: dir}).Write(); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a broken seed: %v", err)
	}
}

// operatorFiles are what servers need to let users in by JWT.
type operatorFiles struct {
	config      string
	account     string // its public key
	accountSeed string // files
	signingSeed string
}

func makeOperator(t *testing.T) *operatorFiles {
	t.Helper()
	o := &operatorFiles{}
	pair := func(create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
		t.Helper()
		p, err := create()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	save := func(p nkeys.KeyPair, name string) string {
		t.Helper()
		seed, err := p.Seed()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, seed, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encode := func(claims interface {
		Encode(nkeys.KeyPair) (string, error)
	}, by nkeys.KeyPair) string {
		t.Helper()
		text, err := claims.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	operator, system, account, signing := pair(nkeys.CreateOperator), pair(nkeys.CreateAccount), pair(nkeys.CreateAccount), pair(nkeys.CreateAccount)
	o.account, o.accountSeed, o.signingSeed = publicKey(account), save(account, "account.nk"), save(signing, "signing.nk")
	oc := jwt.NewOperatorClaims(publicKey(operator))
	oc.SystemAccount = publicKey(system)
	ac := jwt.NewAccountClaims(o.account)
	ac.SigningKeys.Add(publicKey(signing))
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	o.config = fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload {\n  %s: %s\n  %s: %s\n}\n",
		encode(oc, operator), publicKey(system),
		publicKey(system), encode(jwt.NewAccountClaims(publicKey(system)), operator), o.account, encode(ac, operator))
	return o
}

func TestCredentialsByAccountSeed(t *testing.T) {
	o := makeOperator(t)
	c := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: o.config})
	for what, users := range map[string]Users{
		"account seed": {Dir: t.TempDir(), AccountSeedFile: o.accountSeed},
		"signing key":  {Dir: t.TempDir(), AccountSeedFile: o.signingSeed, Account: o.account},
	} {
		done, err := users.Write()
		if err != nil || states(done) != "made made" {
			t.Fatalf("%s: %v, %v", what, done, err)
		}
		if done, err = users.Write(); err != nil || states(done) != "kept kept" {
			t.Errorf("%s again: %v, %v", what, done, err)
		}
		for _, role := range []string{replicaName, adminName} {
			text, err := os.ReadFile(filepath.Join(users.Dir, role+".creds"))
			if err != nil {
				t.Fatal(err)
			}
			// The servers take 4096 bytes with what else there is to say.
			if token, err := nkeys.ParseDecoratedJWT(text); err != nil || len(token) > 3500 {
				t.Errorf("%s of the %s: a JWT of %d bytes, %v", role, what, len(token), err)
			}
		}
		connect := func(role string) *nats.Conn {
			t.Helper()
			nc, err := connectAs(t, ConnectConfig{URL: c.URL(), CredsFile: filepath.Join(users.Dir, role+".creds")})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			return nc
		}
		admin := connect(adminName)
		if _, err := SetUp(t.Context(), admin, 0, false); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		replica := connect(replicaName)
		usage, err := OpenUsage(t.Context(), replica, UsageConfig{})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, usage, outgoing(0, 3))
		if items, _, err := usage.Read(t.Context(), 0, time.Time{}, MaxRead, 0); err != nil || len(items) != 3 {
			t.Errorf("%s: %d events, %v", what, len(items), err)
		}
		denied := violations(replica)
		for _, subject := range []string{"$KV.TOLLGATE_KEYS.k.demo.x", "$JS.API.STREAM.DELETE.TOLLGATE_USAGE", "$JS.API.DIRECT.GET.KV_TOLLGATE_KEYS"} {
			if err := replica.PublishRequest(subject, replica.NewInbox(), nil); err != nil {
				t.Fatal(err)
			}
			expectDenied(t, denied, subject)
		}
	}
	for says, users := range map[string]Users{
		"begins with SA":         {Dir: t.TempDir(), AccountSeedFile: filepath.Join(setUpFiles(t), "replica.nk")},
		"which begins with A":    {Dir: t.TempDir(), AccountSeedFile: o.signingSeed, Account: "nonsense"},
		"the account's seed: op": {Dir: t.TempDir(), AccountSeedFile: "/nonexistent/seed"},
	} {
		_, err := users.Write()
		expectRefusal(t, err, says)
	}
}

// setUpFiles are users' files.
func setUpFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := (Users{Dir: dir}).Write(); err != nil {
		t.Fatal(err)
	}
	return dir
}
