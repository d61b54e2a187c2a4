// Package managetest is what the management API works on, in memory, for tests
// of whatever speaks to the API. The store fails a test that would store
// something that must not be.
package managetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"tollgate/authz"
	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// OperatorKey is the operator's key of a Store's Config.
const OperatorKey = "operator_test_key_0123456789abcdef"

// Store is all of manage.Config's storage. It is safe for concurrent use.
type Store struct {
	t testing.TB

	// Before, if set before use, is asked before each read and write of keys; an
	// error of its makes the operation fail. op is "put", "get", "page" or "records".
	Before func(op string) error

	mu        sync.Mutex // guards what follows
	keys      map[string]*key.Record
	revision  uint64
	applied   map[string]uint64 // by key id: the newest revision that was applied
	doc       *catalog.Catalog
	docAt     uint64
	tables    *catalog.Tables
	events    [][]byte
	more      chan struct{} // closed when an event comes
	consumers map[string]manage.Consumer
	claims    map[key.Digest]manage.KeyRef
	made      map[string]manage.Made
	uses      map[use]time.Time
	trail     []manage.AuditEntry
	usage     []Usage
	pending   int64

	gate *authz.Authorizer
}

// use is of a key by a secret; 0: by any.
type use struct {
	id     string
	secret int
}

// NewStore makes a store with a catalog, given as YAML.
func NewStore(t testing.TB, yaml string) *Store {
	t.Helper()
	s := &Store{
		t: t, keys: map[string]*key.Record{}, applied: map[string]uint64{},
		more: make(chan struct{}), consumers: map[string]manage.Consumer{},
		claims: map[key.Digest]manage.KeyRef{}, made: map[string]manage.Made{}, uses: map[use]time.Time{},
	}
	doc, err := catalog.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	if s.tables, err = catalog.Compile(doc, catalog.Source{}); err != nil {
		t.Fatal(err)
	}
	s.doc, s.docAt, s.tables.Version = doc, 1, 1
	s.gate = s.newGate()
	return s
}

// Config is a manage.Config on this store.
func (s *Store) Config() manage.Config {
	return manage.Config{
		Keys: (*keys)(s), Index: (*index)(s), Applied: s.apply, Wait: s.wait, Tables: s.Tables, Identify: s.identify,
		Events: (*events)(s), Consumers: (*consumers)(s), Catalog: (*document)(s),
		Totals: (*totals)(s), Audit: (*audit)(s), Explain: s.gate.Explain,
		OperatorKey: key.DigestOf(OperatorKey),
		Used:        s.used, LastUsed: s.lastUsed,
		Digests: (*digests)(s), Idempotency: (*idempotency)(s),
	}
}

func (s *Store) used(id string, secret int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[use{id, 0}], s.uses[use{id, secret}] = now, now
}

func (s *Store) lastUsed(_, id string, secret int) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.uses[use{id, secret}]
	return at, ok
}

// Key returns the stored record of a key, whatever its workspace, or nil.
func (s *Store) Key(id string) *key.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[id]
}

// Tables returns the tables in force.
func (s *Store) Tables() *catalog.Tables {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tables
}

// AddEvent stores a usage event.
func (s *Store) AddEvent(json string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, []byte(json))
	close(s.more)
	s.more = make(chan struct{})
}

func (s *Store) before(op string) error {
	if s.Before == nil {
		return nil
	}
	return s.Before(op)
}

// identify is the gate's look-up: only what was applied counts.
func (s *Store) identify(_ context.Context, secret string) (*key.Record, error) {
	digest := key.DigestOf(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rec := range s.keys {
		if rec.Secret(digest) >= 0 && s.applied[rec.ID] == rec.Revision {
			return rec, nil
		}
	}
	return nil, key.ErrNotFound
}

func (s *Store) apply(rec *key.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored := s.keys[rec.ID]; stored == nil || stored.Revision < rec.Revision || rec.Revision == 0 {
		s.t.Errorf("key %s was applied with revision %d and is not stored so", rec.ID, rec.Revision)
	}
	s.applied[rec.ID] = max(s.applied[rec.ID], rec.Revision)
}

func (s *Store) wait(_ context.Context, revision uint64) manage.Propagation {
	return manage.Propagation{Revision: revision, Replicas: []string{"r1"}}
}

type keys Store

func (k *keys) Put(ctx context.Context, rec *key.Record, expect uint64) (uint64, error) {
	s := (*Store)(k)
	if err := s.before("put"); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.keys[rec.ID]
	var is uint64
	if old != nil {
		is = old.Revision
	}
	if is != expect {
		return 0, fmt.Errorf("%w: revision %d, not %d", key.ErrConflict, is, expect)
	}
	for _, other := range s.keys {
		for i := range rec.Secrets {
			if other.ID != rec.ID && other.Secret(rec.Secrets[i].Digest) >= 0 {
				s.t.Errorf("keys %s and %s have a secret in common", rec.ID, other.ID)
			}
		}
	}
	if wrong := invariant(old, rec); wrong != "" {
		s.t.Errorf("a record was stored that must not be: %s: %+v", wrong, rec)
	}
	s.revision++
	stored := rec.Clone()
	stored.Revision = s.revision
	s.keys[rec.ID] = stored
	return s.revision, nil
}

// invariant says what is wrong with storing rec over old (nil: nothing).
func invariant(old, rec *key.Record) string {
	switch {
	case rec.Version != key.RecordVersion:
		return "its version"
	case len(rec.ID) != 36 || rec.Workspace == "":
		return "its id or workspace"
	case len(rec.Secrets) == 0 || len(rec.Secrets) > 2 || rec.Secrets[0].Digest == key.Digest{}:
		return "its secrets"
	case len(rec.Secrets) == 2 && rec.Secrets[0].Number <= rec.Secrets[1].Number:
		return "the numbers of its secrets"
	case len(rec.Actions) == 0:
		return "it has no action"
	case rec.Models != nil && len(rec.Models) == 0:
		return "it opens no model"
	case utf8.RuneCountInString(rec.Name) > 100 || rec.Name != strings.TrimSpace(rec.Name):
		return "its name"
	case (rec.Kind == key.Personal) != (rec.User != "") || rec.Kind != key.Personal && rec.Kind != key.Workspace:
		return "its kind or user"
	case (rec.Status == key.Revoked) != (rec.RevokedAt != nil):
		return "its status"
	case old == nil:
		return ""
	case old.Status == key.Revoked:
		return "it was revoked"
	case old.Workspace != rec.Workspace || old.Kind != rec.Kind || old.User != rec.User || !old.CreatedAt.Equal(rec.CreatedAt):
		return "what never changes"
	}
	return ""
}

func (k *keys) Get(ctx context.Context, workspace, id string) (*key.Record, error) {
	s := (*Store)(k)
	if err := s.before("get"); err != nil {
		return nil, err
	}
	if strings.ContainsAny(id, ".*> ") {
		s.t.Errorf("%q was looked up: it would be part of a NATS subject", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.keys[id]; rec != nil && rec.Workspace == workspace {
		return rec, nil
	}
	return nil, key.ErrNotFound
}

type events Store

// Read does not know when an event was stored: since is ignored.
func (e *events) Read(ctx context.Context, after uint64, _ time.Time, limit int, wait time.Duration) ([][]byte, uint64, error) {
	s := (*Store)(e)
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		stored, more := s.events, s.more
		s.mu.Unlock()
		n := uint64(len(stored))
		if after > n {
			return nil, after, manage.ErrCursor
		}
		if after < n || wait == 0 {
			end := min(n, after+uint64(limit))
			return stored[after:end], end, nil
		}
		select {
		case <-more:
		case <-deadline.C:
			return nil, after, nil
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
}

type consumers Store

func (c *consumers) Create(_ context.Context, name, workspace string) (*manage.Credential, error) {
	s := (*Store)(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.consumers[name]; ok {
		return nil, manage.ErrConsumerExists
	}
	made := manage.Consumer{Name: name, CreatedAt: manage.Time(time.Now())}
	if workspace != "" {
		made.Workspace = &workspace
	}
	s.consumers[name] = made
	return &manage.Credential{
		Name: name, URL: "nats://127.0.0.1:4222", User: name, Password: "pw-" + name,
		Stream: "TOLLGATE_USAGE", Durable: name, Subjects: []string{"tollgate.usage.v1.>"},
	}, nil
}

func (c *consumers) List(context.Context) ([]manage.Consumer, error) {
	s := (*Store)(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]manage.Consumer, 0, len(s.consumers))
	for _, v := range s.consumers {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b manage.Consumer) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (c *consumers) Delete(_ context.Context, name string) error {
	s := (*Store)(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.consumers[name]; !ok {
		return manage.ErrNoConsumer
	}
	delete(s.consumers, name)
	return nil
}

type document Store

func (d *document) Load(context.Context) (*catalog.Catalog, uint64, error) {
	s := (*Store)(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := catalog.Encode(s.doc)
	if err != nil {
		return nil, 0, err
	}
	copied, err := catalog.Parse("stored", text)
	return copied, s.docAt, err
}

func (d *document) Check(c *catalog.Catalog) error {
	_, err := catalog.Compile(c, catalog.Source{})
	return err
}

func (d *document) Refresh(context.Context) error { return nil }

func (d *document) Store(_ context.Context, c *catalog.Catalog, expect uint64) (uint64, error) {
	s := (*Store)(d)
	tables, err := catalog.Compile(c, catalog.Source{})
	if err != nil {
		s.t.Errorf("a catalog was stored that can't be in force: %v", err)
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docAt != expect {
		return 0, key.ErrConflict
	}
	s.docAt++
	tables.Version = s.docAt
	s.doc, s.tables = c, tables
	return s.docAt, nil
}
