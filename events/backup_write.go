package events

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
)

// WriteBackup writes a backup of everything that a deployment keeps in NATS: its
// keys, documents and objects and, with events, its usage and audit events. deployment is
// its name, now the header's time.
//
// Others may go on writing: the keys are those of one moment, which is not before
// the call, and so is each stream of events. It asks with the rights of the
// connections that keys and config were opened on, and blocks as long as w does;
// a w that blocks for more than a minute makes it fail. After an error what w has
// is not a backup and will not be taken for one.
func WriteBackup(ctx context.Context, keys *Keys, config *Config, w io.Writer, deployment string, now time.Time, events bool) (BackupCounts, error) {
	_, last, err := keys.bucket.identity(ctx)
	if err != nil {
		return BackupCounts{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	b := backupWriter{out: bufio.NewWriterSize(w, 64<<10), sum: sha256.New(), log: keys.log}
	err = b.line(BackupHeader{BackupVersion, now.UTC().Truncate(time.Millisecond), deployment, last, events})
	if err == nil {
		err = b.keys(ctx, keys)
	}
	if err == nil {
		err = b.documents(ctx, config)
	}
	if err == nil {
		err = b.objects(ctx, keys.bucket.js)
	}
	for _, section := range []string{sectionUsage, sectionAudit} {
		if err == nil && events {
			err = b.events(ctx, keys.bucket.js, section)
		}
	}
	if err == nil {
		err = b.end(max(last, b.revision))
	}
	if err == nil {
		err = b.out.Flush()
	}
	if err != nil {
		return BackupCounts{}, fmt.Errorf("the backup: %w", err)
	}
	return b.counts, nil
}

// backupWriter writes the lines of one backup.
type backupWriter struct {
	out      *bufio.Writer
	sum      hash.Hash
	log      *slog.Logger
	counts   BackupCounts
	revision uint64 // of the newest key
}

func (b *backupWriter) line(v any) error {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return err
	}
	if len(text) >= maxBackupLine {
		return fmt.Errorf("a line of %d bytes is more than a backup may have", len(text))
	}
	text = append(text, '\n')
	b.sum.Write(text)
	_, err = b.out.Write(text)
	return err
}

func (b *backupWriter) end(revision uint64) error {
	text, err := backupTrailer{End: b.counts, Revision: revision}.sign(b.sum)
	if err == nil {
		_, err = b.out.Write(text)
	}
	return err
}

// entry writes an entry, unless the file could not be read with it.
func (b *backupWriter) entry(e *backupEntry) error {
	if err := e.check(); err != nil {
		b.counts.Skipped++
		b.log.Error("left out of the backup", "in", e.In, "name", e.Name, "at", e.At, "reason", err)
		return nil
	}
	*b.counts.of(e.In)++
	return b.line(e)
}

func (b *backupWriter) keys(ctx context.Context, k *Keys) error {
	return scanStream(ctx, k.bucket.js, k.bucket.stream(), 0, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		b.revision = meta.Sequence.Stream
		name := strings.TrimPrefix(m.Subject(), k.bucket.subject(""))
		if passing(name) {
			return nil
		}
		e := backupEntry{In: sectionKeys, Name: name, At: meta.Sequence.Stream, Deleted: deletion(m.Headers())}
		if !e.Deleted {
			e.Value = m.Data()
		}
		return b.entry(&e)
	})
}

// documents reads one after the other from the leader, which takes fewer rights
// than to read the stream: they are few.
func (b *backupWriter) documents(ctx context.Context, c *Config) error {
	names, err := c.bucket.names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		e, err := c.bucket.get(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue // it was deleted
		}
		if err != nil {
			return fmt.Errorf("document %s: %w", name, err)
		}
		if err := b.entry(&backupEntry{In: sectionConfig, Name: name, At: e.revision, Value: e.value}); err != nil {
			return err
		}
	}
	return nil
}

// names are those that a bucket holds, sorted; also such as only a deletion is
// stored of.
func (b *bucket) names(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := b.js.Stream(ctx, b.stream())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", b.errors.unavailable, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(b.subject(">")))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", b.errors.unavailable, err)
	}
	names := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		names = append(names, strings.TrimPrefix(subject, b.subject("")))
	}
	slices.Sort(names)
	return names, nil
}

func (b *backupWriter) events(ctx context.Context, js jetstream.JetStream, section string) error {
	err := scanStream(ctx, js, streamsOf[section], 0, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		return b.entry(&backupEntry{
			In: section, Name: m.Subject(), At: meta.Sequence.Stream,
			Time: meta.Timestamp.UTC(), Headers: m.Headers(), Value: m.Data(),
		})
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // it is made with the first thing that is worth an event
	}
	return err
}
