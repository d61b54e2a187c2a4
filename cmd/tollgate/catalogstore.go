package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/manage"
	"tollgate/events"
)

// catalogStore holds the catalog in force. It implements manage.Catalog for the
// changes that are made here, and takes in those that are made elsewhere from the
// feed (Document).
type catalogStore struct {
	documents documents
	proxies   proxies
	peers     peers
	log       *slog.Logger
	tables    atomic.Pointer[catalog.Tables]

	changing  sync.Mutex // held for as long as a change takes that is made here
	preparing sync.Mutex // held while Envoys prepare, for a change here or elsewhere; taken after changing

	mu          sync.Mutex   // held to put tables in force; taken last
	files       fingerprints // of what the catalog in force read; guarded by mu
	unproven    bool         // the store was replaced: whatever comes next is newer; guarded by mu
	preparation int          // counts preparations; guarded by mu
}

// documents is where the catalog is stored, beside the keys and so under the same
// lease. Errors are those of package key.
type documents interface {
	GetDocument(ctx context.Context, name string) ([]byte, uint64, error)
	PutDocument(ctx context.Context, name string, value []byte, expect uint64) (uint64, error)
}

// peers are the other replicas.
type peers interface {
	// Prepare returns once all that live are prepared for a catalog, in the form
	// in which it is stored. The error says which one is not, and why.
	Prepare(ctx context.Context, text []byte) error
}

// fingerprints are the SHA-256 of files by path.
type fingerprints map[string][sha256.Size]byte

// proxies are the Envoys that a catalog has to reach, in two phases: what is new
// must be routable before a check can send a request there, and what goes must be
// unreachable by checks before it is no longer routable.
type proxies interface {
	// Prepare makes everything of both routable, and returns once it is in force in
	// every connected Envoy. The error says what keeps one from it; Envoys then
	// have what they had before.
	Prepare(ctx context.Context, old, next *catalog.Tables) error
	// Finish leaves only what is in next. It does not wait.
	Finish(next *catalog.Tables) error
}

const catalogDocument = "catalog"

// openCatalog puts the stored catalog in force. The file counts only where none
// is stored: what came later, by commands, must not be undone by a restart.
func openCatalog(ctx context.Context, d documents, p proxies, others peers, file string, log *slog.Logger) (*catalogStore, error) {
	s := &catalogStore{documents: d, proxies: p, peers: others, log: log}
	var given *catalog.Catalog
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the catalog: %w", err)
		}
		if given, err = catalog.Parse(file, text); err != nil {
			return nil, err
		}
	}
	stored, revision, err := s.Load(ctx)
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		if given == nil {
			given = &catalog.Catalog{}
		}
		_, err := s.Store(ctx, given, 0)
		if !errors.Is(err, key.ErrConflict) {
			return s, err
		}
		// Another replica was first.
		if stored, revision, err = s.Load(ctx); err != nil {
			return nil, err
		}
	}
	if given != nil && manage.ApplyChanges(stored, given) {
		log.Warn("the catalog file differs from the stored catalog, which is in force; tollgate apply brings the file into force", "file", file)
	}
	tables, files, err := compileNoting(stored)
	if err != nil {
		return nil, fmt.Errorf("the stored catalog: %w", err)
	}
	s.install(tables, files, revision, false)
	return s, p.Finish(s.Tables())
}

func compile(c *catalog.Catalog) (*catalog.Tables, error) {
	tables, _, err := compileNoting(c)
	return tables, err
}

// compileNoting is compile that also says what was read.
func compileNoting(c *catalog.Catalog) (*catalog.Tables, fingerprints, error) {
	files := fingerprints{}
	tables, err := catalog.Compile(c, catalog.Source{Env: os.LookupEnv, File: func(path string) ([]byte, error) {
		text, err := os.ReadFile(path)
		if err == nil {
			files[path] = sha256.Sum256(text)
		}
		return text, err
	}})
	return tables, files, err
}

// install puts tables in force, unless newer ones are; again also replaces those
// of the same revision.
func (s *catalogStore) install(t *catalog.Tables, files fingerprints, revision uint64, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.Tables(); now != nil && !s.unproven && (now.Version > revision || now.Version == revision && !again) {
		return
	}
	t.Version = revision
	s.files, s.unproven = files, false
	s.tables.Store(t)
}

// Document takes in a change that was made anywhere: what the feed of keys brings.
// An error keeps the feed, and so the lease, from going on: a catalog that can't
// be used here must not be ignored, because it may forbid something.
func (s *catalogStore) Document(name string, text []byte, revision uint64) error {
	if name != catalogDocument {
		return nil // of a newer version of this program
	}
	s.mu.Lock()
	known := s.Tables() != nil && s.Tables().Version >= revision && !s.unproven
	s.mu.Unlock()
	if known {
		return nil
	}
	c, err := catalog.Parse("the stored catalog", text)
	if err != nil {
		return err
	}
	tables, files, err := compileNoting(c)
	if err != nil {
		return fmt.Errorf("the catalog that was stored can't be used here: %w", err)
	}
	s.install(tables, files, revision, false)
	go func() { // the feed must not wait for a preparation that is under way
		if err := s.proxies.Finish(s.Tables()); err != nil {
			s.log.Error("Envoys could not be told of the new catalog", "error", err)
		}
	}()
	return nil
}

// Reset says that the store is not the one it was: revisions begin anew. What is
// in force stays so until the store has a catalog.
func (s *catalogStore) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unproven = true
}

// Tables returns what is in force now.
func (s *catalogStore) Tables() *catalog.Tables { return s.tables.Load() }

// IsTag reports whether a request header goes into events.
func (s *catalogStore) IsTag(header string) bool {
	return slices.Contains(s.Tables().Settings.TagHeaders, header)
}

// Load implements manage.Catalog.
func (s *catalogStore) Load(ctx context.Context) (*catalog.Catalog, uint64, error) {
	text, revision, err := s.documents.GetDocument(ctx, catalogDocument)
	if errors.Is(err, key.ErrNotFound) {
		return &catalog.Catalog{}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	c, err := catalog.Parse("the stored catalog", text)
	return c, revision, err
}

// Check implements manage.Catalog.
func (s *catalogStore) Check(c *catalog.Catalog) error {
	if _, err := compile(c); err != nil {
		return err
	}
	_, err := storedForm(c)
	return err
}

// storedForm is how a catalog is stored, if it can be.
func storedForm(c *catalog.Catalog) ([]byte, error) {
	text, err := catalog.Encode(c)
	if err != nil {
		return nil, err
	}
	if len(text) > events.MaxDocument {
		return nil, refused(http.StatusRequestEntityTooLarge,
			"The catalog has %d bytes in the form in which it is stored, and NATS takes %d in one message: leave out users (a key needs none), labels or models that nobody uses",
			len(text), events.MaxDocument)
	}
	return text, nil
}

// Store implements manage.Catalog.
func (s *catalogStore) Store(ctx context.Context, c *catalog.Catalog, expect uint64) (uint64, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	text, err := storedForm(c)
	if err != nil {
		return 0, err
	}
	tables, files, err := compileNoting(c)
	if err != nil {
		return 0, err
	}
	old := s.Tables()
	if old != nil && old.Version != expect && s.proven() {
		return 0, key.ErrConflict // no Envoy needs to hear of it
	}
	if err := s.prepare(ctx, old, tables, text); err != nil {
		return 0, err
	}
	revision, err := s.documents.PutDocument(ctx, catalogDocument, text, expect)
	if err != nil {
		if old != nil {
			err = errors.Join(err, s.proxies.Finish(old))
		}
		return 0, err
	}
	s.install(tables, files, revision, false)
	if err := s.proxies.Finish(s.Tables()); err != nil {
		return 0, err
	}
	return revision, nil
}

// prepare is the first phase of a change, if there was anything before: here and
// at all other replicas. s.changing is held.
func (s *catalogStore) prepare(ctx context.Context, old, next *catalog.Tables, text []byte) error {
	if old == nil {
		return nil
	}
	if sameRouting(old, next) && reflect.DeepEqual(old.Models, next.Models) {
		return s.here(ctx, old, next) // nobody has to do anything for it
	}
	var others sync.WaitGroup
	var elsewhere error
	others.Go(func() { elsewhere = s.peers.Prepare(ctx, text) })
	err := s.here(ctx, old, next)
	others.Wait()
	if err == nil && elsewhere == nil {
		return nil
	}
	err = errors.Join(err, elsewhere, s.proxies.Finish(old))
	return refused(http.StatusUnprocessableEntity, "Nothing was changed: %v", err)
}

// here prepares our Envoys. Preparing for a change that is made elsewhere must not
// wait for one that is made here: that one waits for the other replica.
func (s *catalogStore) here(ctx context.Context, old, next *catalog.Tables) error {
	s.preparing.Lock()
	defer s.preparing.Unlock()
	s.mu.Lock()
	s.preparation++
	s.mu.Unlock()
	return s.proxies.Prepare(ctx, old, next)
}

// proven reports whether what is in force is of the store that there is.
func (s *catalogStore) proven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.unproven
}

// stale is after how long a preparation is undone that no catalog came of.
const stale = 30 * time.Second

// Prepare is the first phase of a change that is made at another replica.
func (s *catalogStore) Prepare(ctx context.Context, text []byte) error {
	c, err := catalog.Parse("the catalog to prepare for", text)
	if err != nil {
		return err
	}
	next, err := compile(c)
	if err != nil {
		return err
	}
	old := s.Tables()
	if err := s.here(ctx, old, next); err != nil {
		return err
	}
	s.mu.Lock()
	mine := s.preparation
	s.mu.Unlock()
	time.AfterFunc(stale, func() {
		s.mu.Lock()
		undo := s.Tables() == old && s.preparation == mine
		s.mu.Unlock()
		if undo {
			_ = s.proxies.Finish(old) // it was published before
		}
	})
	return nil
}

// Refresh implements manage.Catalog.
func (s *catalogStore) Refresh(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	c, revision, err := s.Load(ctx)
	if err != nil {
		return err
	}
	tables, files, err := compileNoting(c)
	if err != nil {
		return err
	}
	if err := s.here(ctx, s.Tables(), tables); err != nil {
		return refused(http.StatusUnprocessableEntity, "Nothing was changed: %v", err)
	}
	s.install(tables, files, revision, true)
	return s.proxies.Finish(s.Tables())
}

// refused is an answer of the management API that says why.
func refused(status int, format string, args ...any) *manage.Error {
	return &manage.Error{Status: status, StatusMessage: http.StatusText(status), Message: fmt.Sprintf(format, args...)}
}

// watchEvery is how often the files that the catalog names are looked at.
const watchEvery = 2 * time.Second

// watch puts the catalog in force again whenever a file that it names has changed:
// a credential, or the certificates of upstreams. What can't be used is tried
// again until it can. It returns when ctx ends.
func (s *catalogStore) watch(ctx context.Context) error {
	told := ""
	every(ctx, watchEvery, func(time.Time) {
		if !s.outdated() {
			return
		}
		err := s.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			s.log.Warn("a file that the catalog names has changed and can't be used; what it held before stays in force", "error", err)
		}
	})
	return nil
}

// outdated reports whether a file differs from what is in force.
func (s *catalogStore) outdated() bool {
	s.mu.Lock()
	files := s.files
	s.mu.Unlock()
	for path, was := range files {
		if text, err := os.ReadFile(path); err != nil || sha256.Sum256(text) != was {
			return true
		}
	}
	return false
}

// asKeyError gives an error of package events the words that package manage
// knows.
func asKeyError(err error) error {
	for _, e := range [...]struct{ from, to error }{
		{events.ErrNotFound, key.ErrNotFound},
		{events.ErrConflict, key.ErrConflict},
		{events.ErrUnavailable, key.ErrUnavailable},
	} {
		if errors.Is(err, e.from) {
			return fmt.Errorf("%w: %w", e.to, err)
		}
	}
	return err
}
