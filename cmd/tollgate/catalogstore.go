package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/events"
)

// catalogStore holds the catalog in force. It implements manage.Catalog.
type catalogStore struct {
	config  *events.Config
	proxies proxies
	tables  atomic.Pointer[catalog.Tables]
	mu      sync.Mutex // serialises Store
}

// proxies are the Envoys that a catalog has to reach, in two phases: what is new
// must be routable before a check can send a request there, and what goes must be
// unreachable by checks before it is no longer routable.
type proxies interface {
	// Prepare makes everything of both routable, and returns once every
	// connected Envoy has it. The error says what keeps one from it.
	Prepare(ctx context.Context, old, next *catalog.Tables) error
	// Finish leaves only what is in next. It does not wait.
	Finish(next *catalog.Tables) error
}

const catalogDocument = "catalog"

// openCatalog puts the stored catalog in force. The file counts only where none
// is stored: what came later, by commands, must not be undone by a restart.
func openCatalog(ctx context.Context, config *events.Config, p proxies, file string, log *slog.Logger) (*catalogStore, error) {
	s := &catalogStore{config: config, proxies: p}
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
	tables, err := compile(stored)
	if err != nil {
		return nil, fmt.Errorf("the stored catalog: %w", err)
	}
	s.install(tables, revision)
	return s, p.Finish(tables)
}

func same(a, b *catalog.Catalog) bool {
	x, errX := catalog.Encode(a)
	y, errY := catalog.Encode(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func compile(c *catalog.Catalog) (*catalog.Tables, error) {
	return catalog.Compile(c, catalog.Source{Env: os.LookupEnv, File: os.ReadFile})
}

func (s *catalogStore) install(t *catalog.Tables, revision uint64) {
	t.Version = revision
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
	_, err := compile(c)
	return err
}

// Store implements manage.Catalog.
func (s *catalogStore) Store(ctx context.Context, c *catalog.Catalog, expect uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables, err := compile(c)
	if err != nil {
		return 0, err
	}
	text, err := catalog.Encode(c)
	if err != nil {
		return 0, err
	}
	old := s.Tables()
	if old != nil {
		if err := s.proxies.Prepare(ctx, old, tables); err != nil {
			return 0, errors.Join(err, s.proxies.Finish(old))
		}
	}
	revision, err := s.config.Put(ctx, catalogDocument, text, expect)
	if err != nil {
		if old != nil {
			err = errors.Join(err, s.proxies.Finish(old))
		}
		return 0, asKeyError(err)
	}
	s.install(tables, revision)
	return revision, s.proxies.Finish(tables)
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
