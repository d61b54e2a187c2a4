package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// objects writes down whose objects are and what is counted.
func (b *backupWriter) objects(ctx context.Context, js jetstream.JetStream) error {
	in := bucket{name: objectsBucket}
	err := scanStream(ctx, js, objectsStream, 0, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		e := backupEntry{In: sectionObjects, Name: strings.TrimPrefix(m.Subject(), in.subject("")), At: meta.Sequence.Stream, Deleted: deletion(m.Headers())}
		if !e.Deleted {
			e.Value = m.Data()
		}
		return b.entry(&e)
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // of a Tollgate that knew of none
	}
	return err
}

// checkObject says why an entry of the section can't be one of Tollgate's.
func (e *backupEntry) checkObject() (err error) {
	switch {
	case e.Deleted:
	case strings.HasPrefix(e.Name, objectPrefix):
		_, err = decodeObject(e.Name, e.Value)
	case strings.HasPrefix(e.Name, resourcePrefix):
		_, err = decodeTally(e.Name, e.Value)
	default:
		err = fmt.Errorf("%q is not the name of an object or of a resource", e.Name)
	}
	return err
}

// putObject writes what is missing. What is there stays: of an object it is whoever
// was first, and a count has gone on since.
func (r *restore) putObject(ctx context.Context, e *backupEntry) error {
	switch _, err := r.objects.bucket.get(ctx, e.Name); {
	case err == nil:
		r.count(func(d *Restored) { d.Kept++ })
		return nil
	case !errors.Is(err, ErrNotFound):
		return fmt.Errorf("%s in %s: %w", e.Name, r.objects.bucket.name, err)
	}
	var how []jetstream.PublishOpt
	if strings.HasPrefix(e.Name, objectPrefix) {
		b, err := decodeObject(e.Name, e.Value)
		if err != nil {
			return damaged("%v", err) // it was verified
		}
		how = append(how, jetstream.WithMsgTTL(keptFor(time.Now(), b.Until)))
	}
	_, err := r.objects.bucket.put(ctx, e.Name, e.Value, 0, how...)
	switch {
	case err == nil:
		r.count(func(d *Restored) { d.Added++ })
	case errors.Is(err, ErrConflict):
		r.count(func(d *Restored) { d.Kept++ })
	default:
		return fmt.Errorf("%s in %s: %w", e.Name, r.objects.bucket.name, err)
	}
	return nil
}
