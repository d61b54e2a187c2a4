package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"tollgate/authz/key"
)

// ErrNotEmpty says that the store which a backup was to be restored into has something
// already, and merging was not asked for.
var ErrNotEmpty = errors.New("the store is not empty")

// RestoreConfig is how a backup is restored.
type RestoreConfig struct {
	// Merge allows a store that has keys or documents: what is missing is added,
	// what is there stays as it is, and what is revoked there or in the backup is
	// revoked in the end.
	Merge bool
	// Replicas is how many servers of a cluster hold what has to be made. Zero: 3, or
	// 1 on a server that is in no cluster.
	Replicas int
	// Logger. Nil: slog.Default().
	Logger *slog.Logger
	// Progress is called with what was done so far, often, by one goroutine at a
	// time. Nil: nobody is told.
	Progress func(Restored)
}

// Restored is what a restore did.
type Restored struct {
	Added   int `json:"added"`   // keys, documents and objects that were missing
	Kept    int `json:"kept"`    // were there already, and stay as they are
	Revoked int `json:"revoked"` // keys that were there and are revoked now, as in the backup
	// Refused are keys that were not added, because one of their secrets is now
	// another key's. The log names them.
	Refused int          `json:"refused"`
	Events  CopiedEvents `json:"events"`
}

// Restore puts what is in a backup into a store, and makes the store's streams
// where they are missing. Before anything is written the whole file is verified
// and the store is looked at; then each entry is written by compare-and-set, so
// that replicas may run on the store. They notice that it is another one and read
// it anew.
//
// The error wraps ErrBackup, ErrNotEmpty or ErrUnavailable. After one that comes
// later than those, a part may have been written: the same call with Merge goes
// on. It keeps the names of all keys and objects in memory, and 16 bytes per event that the
// store has.
func Restore(ctx context.Context, nc *nats.Conn, file io.ReadSeeker, cfg RestoreConfig) (Restored, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Restored) {}
	}
	newest := map[string]uint64{} // of what is in the backup twice
	_, trailer, err := readBackup(file, func(e *backupEntry) error {
		if e.In == sectionKeys || e.In == sectionObjects { // whose names differ
			newest[e.Name] = e.At
		}
		return nil
	})
	if err != nil {
		return Restored{}, err
	}
	r := &restore{RestoreConfig: cfg, newest: newest}
	if err := r.open(ctx, nc, trailer.End); err != nil {
		return Restored{}, err
	}
	if err := r.lookAround(ctx); err != nil {
		return Restored{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Restored{}, fmt.Errorf("reading the backup again: %w", err)
	}
	if err := r.writeAll(ctx, file, &trailer); err != nil {
		return r.done, fmt.Errorf("%w (%d keys and documents and %d events were written; restore again with merging to go on)", err, r.done.Added, r.done.Events.Added)
	}
	return r.done, nil
}

// restore is one restore.
type restore struct {
	RestoreConfig
	newest  map[string]uint64
	keys    *Keys
	config  *Config
	objects *Objects
	copies  map[string]*eventCopier // by section; of those that the backup has
	// What was there at the beginning. Both are only read once entries are written.
	digests digests
	there   map[string]bool // by section and name: whether it can be read

	mu   sync.Mutex
	done Restored // guarded by mu
}

// open opens what is restored into, and makes it where it is missing.
func (r *restore) open(ctx context.Context, nc *nats.Conn, has BackupCounts) (err error) {
	if r.keys, err = OpenKeys(ctx, nc, KeysConfig{Replicas: r.Replicas, Logger: r.Logger}); err != nil {
		return err
	}
	if r.config, err = OpenConfig(ctx, nc, r.Replicas); err != nil {
		return err
	}
	if r.objects, err = OpenObjects(ctx, nc, r.Replicas); err != nil {
		return err
	}
	if _, err = OpenUsage(ctx, nc, UsageConfig{Replicas: r.Replicas}); err != nil {
		return err
	}
	if _, err = OpenAudit(ctx, nc, AuditConfig{Replicas: r.Replicas}); err != nil {
		return err
	}
	js, err := copyingJetStream(nc)
	if err != nil {
		return err
	}
	r.copies = map[string]*eventCopier{}
	for _, section := range []string{sectionUsage, sectionAudit} {
		if *has.of(section) == 0 {
			continue
		}
		if r.copies[section], err = newEventCopier(ctx, js, streamsOf[section]); err != nil {
			return err
		}
	}
	return nil
}

// lookAround learns what is there, and refuses what must not be restored into.
func (r *restore) lookAround(ctx context.Context) error {
	r.digests, r.there = digests{}, map[string]bool{}
	records := 0
	err := scanStream(ctx, r.keys.bucket.js, r.keys.bucket.stream(), 0, false, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		name := strings.TrimPrefix(m.Subject(), r.keys.bucket.subject(""))
		if passing(name) || deletion(m.Headers()) {
			return nil
		}
		records++
		workspace, id, ok := splitKeyName(name)
		if !ok {
			r.there[sectionKeys+name] = true
			return nil
		}
		rec, err := decodeRecord(m.Data(), workspace, id)
		if err == nil {
			r.digests.add(name, rec)
		}
		r.there[sectionKeys+name] = err == nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	names, err := r.config.bucket.names(ctx)
	if err != nil {
		return err
	}
	documents := 0
	for _, name := range names {
		r.there[sectionConfig+name] = true
		if name != learnedName { // a replica that runs writes it every minute
			documents++
		}
	}
	if !r.Merge && records+documents > 0 {
		return fmt.Errorf("%w: it has %d keys and catalogs and %d other documents", ErrNotEmpty, records, documents)
	}
	return nil
}

// writers is how many records are written at once: each waits for its own
// acknowledgement.
const writers = 32

func (r *restore) writeAll(ctx context.Context, file io.Reader, verified *backupTrailer) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	_, trailer, err := readBackup(file, func(e *backupEntry) error {
		if gctx.Err() != nil {
			return context.Cause(gctx)
		}
		switch e.In {
		case sectionKeys:
			if !e.Deleted && r.newest[e.Name] == e.At {
				group.Go(func() error { return r.putKey(gctx, e) })
			}
		case sectionConfig:
			group.Go(func() error { return r.putDocument(gctx, e) })
		case sectionObjects:
			if !e.Deleted && r.newest[e.Name] == e.At {
				group.Go(func() error { return r.putObject(gctx, e) })
			}
		default:
			return r.putEvent(gctx, e)
		}
		return nil
	})
	for _, c := range r.copies {
		if err == nil {
			err = c.flush(gctx)
		}
	}
	if failed := group.Wait(); failed != nil {
		return failed
	}
	r.countEvents()
	if err == nil && trailer != *verified {
		err = damaged("it was changed while it was restored")
	}
	return err
}

func (r *restore) putEvent(ctx context.Context, e *backupEntry) error {
	defer r.countEvents()
	return r.copies[e.In].add(ctx, e.Name, e.Headers, e.Value)
}

func (r *restore) countEvents() {
	var sum CopiedEvents
	for _, c := range r.copies {
		sum.Added, sum.There = sum.Added+c.done.Added, sum.There+c.done.There
	}
	r.count(func(d *Restored) { d.Events = sum })
}

func (r *restore) count(what func(*Restored)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what(&r.done)
	r.Progress(r.done)
}

// write writes what is not there, and reports false for what is.
func (r *restore) write(ctx context.Context, b *bucket, e *backupEntry) (bool, error) {
	if _, ok := r.there[e.In+e.Name]; ok {
		return false, nil
	}
	_, err := b.put(ctx, e.Name, e.Value, 0)
	switch {
	case err == nil:
		r.count(func(d *Restored) { d.Added++ })
		return true, nil
	case !errors.Is(err, b.errors.conflict):
		return false, fmt.Errorf("%s in %s: %w", e.Name, b.name, err)
	case !r.Merge && e.Name != learnedName:
		return false, fmt.Errorf("%w: %s in %s was written meanwhile", ErrNotEmpty, e.Name, b.name)
	}
	return false, nil
}

func (r *restore) putDocument(ctx context.Context, e *backupEntry) error {
	written, err := r.write(ctx, r.config.bucket, e)
	if err == nil && !written {
		r.count(func(d *Restored) { d.Kept++ })
	}
	return err
}

// putKey writes a record of the keys' bucket, or what it adds to the one there.
func (r *restore) putKey(ctx context.Context, e *backupEntry) error {
	workspace, id, isKey := splitKeyName(e.Name)
	var saved *key.Record
	if isKey {
		var err error
		if saved, err = decodeRecord(e.Value, workspace, id); err != nil {
			return damaged("%v", err) // it was verified
		}
		if r.digests.taken(e.Name, saved) {
			r.Logger.Error("a key of the backup has a secret that is another key's now, and is not restored", "workspace", workspace, "key", id)
			r.count(func(d *Restored) { d.Refused++ })
			return nil
		}
	}
	written, err := r.write(ctx, r.keys.bucket, e)
	if written || err != nil {
		return err
	}
	if readable, known := r.there[sectionKeys+e.Name]; !isKey || known && !readable {
		r.count(func(d *Restored) { d.Kept++ })
		return nil
	}
	return r.revoke(ctx, saved)
}

// revoke brings the revocations of a saved record into the one that is there.
func (r *restore) revoke(ctx context.Context, saved *key.Record) error {
	for {
		there, err := r.keys.Get(ctx, saved.Workspace, saved.ID)
		if err != nil {
			return fmt.Errorf("key %s of workspace %s: %w", saved.ID, saved.Workspace, err)
		}
		merged, changed := withRevocations(there, saved)
		if !changed {
			r.count(func(d *Restored) { d.Kept++ })
			return nil
		}
		merged.Version = key.RecordVersion
		_, err = r.keys.Put(ctx, merged, there.Revision)
		switch {
		case err == nil:
			r.count(func(d *Restored) { d.Revoked++ })
			return nil
		case !errors.Is(err, key.ErrConflict):
			return fmt.Errorf("key %s of workspace %s: %w", saved.ID, saved.Workspace, err)
		}
	}
}
