package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/manage"
	"tollgate/events"
)

// catalogStore holds the catalog in force. It implements manage.Catalog.
type catalogStore struct {
	config  *events.Config
	proxies proxies
	log     *slog.Logger
	tables  atomic.Pointer[catalog.Tables]

	mu    sync.Mutex   // held for as long as a change takes
	files fingerprints // of what the catalog in force read; guarded by mu
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
func openCatalog(ctx context.Context, config *events.Config, p proxies, file string, log *slog.Logger) (*catalogStore, error) {
	s := &catalogStore{config: config, proxies: p, log: log}
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
		return s, err
	}
	if given != nil && !same(given, stored) {
		log.Warn("the catalog file differs from the stored catalog, which is in force; tollgate apply brings the file into force", "file", file)
	}
	tables, files, err := compileNoting(stored)
	if err != nil {
		return nil, fmt.Errorf("the stored catalog: %w", err)
	}
	s.install(tables, files, revision)
	return s, p.Finish(tables)
}

func same(a, b *catalog.Catalog) bool {
	x, errX := catalog.Encode(a)
	y, errY := catalog.Encode(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
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

// install puts tables in force. s.mu is held, or nobody else knows s yet.
func (s *catalogStore) install(t *catalog.Tables, files fingerprints, revision uint64) {
	t.Version = revision
	s.files = files
	s.tables.Store(t)
}

// Tables returns what is in force now.
func (s *catalogStore) Tables() *catalog.Tables { return s.tables.Load() }

// IsTag reports whether a request header goes into events.
func (s *catalogStore) IsTag(header string) bool {
	return slices.Contains(s.Tables().Settings.TagHeaders, header)
}

// Load implements manage.Catalog.
func (s *catalogStore) Load(ctx context.Context) (*catalog.Catalog, uint64, error) {
	text, revision, err := s.config.Get(ctx, catalogDocument)
	if errors.Is(err, events.ErrNotFound) {
		return &catalog.Catalog{}, 0, nil
	}
	if err != nil {
		return nil, 0, asKeyError(err)
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
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := storedForm(c)
	if err != nil {
		return 0, err
	}
	tables, files, err := compileNoting(c)
	if err != nil {
		return 0, err
	}
	old := s.Tables()
	if old != nil && old.Version != expect {
		return 0, key.ErrConflict // no Envoy needs to hear of it
	}
	if err := s.prepare(ctx, old, tables); err != nil {
		return 0, err
	}
	revision, err := s.config.Put(ctx, catalogDocument, text, expect)
	if err != nil {
		if old != nil {
			err = errors.Join(err, s.proxies.Finish(old))
		}
		return 0, asKeyError(err)
	}
	s.install(tables, files, revision)
	return revision, s.proxies.Finish(tables)
}

// Refresh implements manage.Catalog.
func (s *catalogStore) Refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, revision, err := s.Load(ctx)
	if err != nil {
		return err
	}
	tables, files, err := compileNoting(c)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, s.Tables(), tables); err != nil {
		return err
	}
	s.install(tables, files, revision)
	return s.proxies.Finish(tables)
}

// prepare is the first phase of a change, if there was anything before. s.mu is
// held.
func (s *catalogStore) prepare(ctx context.Context, old, next *catalog.Tables) error {
	if old == nil {
		return nil
	}
	if err := s.proxies.Prepare(ctx, old, next); err != nil {
		return refused(http.StatusUnprocessableEntity, "Nothing was changed: %v", err)
	}
	return nil
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
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !s.outdated() {
			continue
		}
		err := s.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			s.log.Warn("a file that the catalog names has changed and can't be used; what it held before stays in force", "error", err)
		}
	}
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
