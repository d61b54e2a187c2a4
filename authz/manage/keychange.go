package manage

import (
	"context"
	"errors"
	"strconv"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
)

// tries is how often a change of a key starts anew because somebody else
// changed the key at the same time.
const tries = 8

// writeTimeout bounds a write that goes on when its client has gone.
const writeTimeout = 20 * time.Second

// maxGrace is the longest that a rotated key's old secret may live on: 90 days.
const maxGrace = 90 * 24 * time.Hour

// Rotation is the body of a rotation.
type Rotation struct {
	GracePeriod *string `json:"gracePeriod,omitzero" doc:"For how long the secret before lives on: a duration such as 2s, 24h or 7d, 90d at most; without it, not at all"`
}

func (r *Rotation) grace() (time.Duration, error) {
	if r.GracePeriod == nil {
		return 0, nil
	}
	d, err := ParseDuration(*r.GracePeriod)
	if err != nil || d < 0 || d > maxGrace {
		return 0, invalid("gracePeriod", "must be a duration from 0s to 90d, such as 2s, 24h or 7d")
	}
	return d, nil
}

func (a *api) updateKey(ctx context.Context, c *call, fields KeyFields) (Key, error) {
	rec, err := a.change(ctx, c, func(rec *key.Record, now time.Time) error {
		if err := fields.apply(rec, now, a.planLimits(rec.Workspace)); err != nil {
			return err
		}
		return a.mayGive(c, rec)
	})
	if err != nil {
		return Key{}, err
	}
	return a.view(rec), nil
}

func (a *api) revokeKey(ctx context.Context, c *call, _ none) (none, error) {
	_, err := a.change(ctx, c, func(rec *key.Record, now time.Time) error {
		rec.Status, rec.RevokedAt = key.Revoked, &now
		return nil
	})
	return none{}, err
}

func (a *api) rotateKey(ctx context.Context, c *call, req Rotation) (CreatedKey, error) {
	grace, err := req.grace()
	if err != nil {
		return CreatedKey{}, err
	}
	var secret string
	rec, err := a.change(ctx, c, func(rec *key.Record, now time.Time) error {
		// The answer shows a secret: who gets it has all that the key has.
		if err := a.mayGive(c, rec); err != nil {
			return err
		}
		text, s, err := a.generate(rec.Workspace, now)
		if err != nil {
			return err
		}
		if err := a.retire(ctx, rec); err != nil {
			return err
		}
		secret = text
		rec.Rotate(s, grace, now)
		return nil
	})
	if err != nil {
		return CreatedKey{}, err
	}
	return CreatedKey{a.view(rec), secret}, nil
}

// retire claims the secrets that a rotation makes the record forget, so that nobody
// imports one: it was given up for a reason.
func (a *api) retire(ctx context.Context, rec *key.Record) error {
	if a.Digests == nil || len(rec.Secrets) < 2 {
		return nil
	}
	for _, s := range rec.Secrets[1:] {
		if _, err := a.Digests.Claim(ctx, s.Digest, KeyRef{rec.Workspace, rec.ID}); err != nil {
			return err
		}
	}
	return nil
}

func (a *api) revokeSecret(ctx context.Context, c *call, _ none) (none, error) {
	number, err := strconv.ParseUint(c.r.PathValue("number"), 10, 31)
	_, err = a.change(ctx, c, func(rec *key.Record, now time.Time) error {
		if err != nil {
			return errNoSecret // told only of a key that the caller sees
		}
		return rec.RevokeSecret(int(number), now)
	})
	return none{}, err
}

// mayGive refuses to let a caller have or hand out what rec may do, where it may
// not do as much itself.
func (a *api) mayGive(c *call, rec *key.Record) error {
	if c.who.operator() {
		return nil
	}
	return exceeds(rec, c.who.bounds, a.planLimits(rec.Workspace))
}

// find returns the key that the path names, if the caller sees it.
func (a *api) find(ctx context.Context, c *call) (*key.Record, error) {
	id := c.r.PathValue("id")
	ws, err := a.workspaceOfKey(c.who, id, c.query.Get("workspace"))
	if err != nil {
		return nil, err
	}
	if !isID(id) {
		return nil, errNoKey
	}
	rec, err := a.Keys.Get(ctx, ws.ID, id)
	if err != nil {
		return nil, err
	}
	if !a.owned(rec) || !c.who.sees(rec) {
		return nil, errNoKey
	}
	return rec, nil
}

// workspaceOfKey is the one in which a key is looked for: for the operator the key's
// own, where none is named, so that an id is enough however many workspaces there are.
func (a *api) workspaceOfKey(who *caller, id, named string) (*catalog.Workspace, error) {
	if named == "" && who.operator() {
		tables := a.Tables()
		o, ok := a.Index.Owner(id)
		switch {
		case ok && tables.Workspaces[o.Workspace] != nil:
			named = o.Workspace
		case len(tables.Workspaces) > 1: // naming one would not make it be there
			return nil, errNoKey
		}
	}
	return a.workspace(who, named)
}

// change reads, edits and stores the key that the path names, anew whenever
// somebody else was faster.
func (a *api) change(ctx context.Context, c *call, edit func(*key.Record, time.Time) error) (*key.Record, error) {
	for try := 1; ; try++ {
		old, err := a.find(ctx, c)
		if err != nil {
			return nil, err
		}
		if err := c.mustMatch(old.Revision); err != nil {
			return nil, err
		}
		c.was("key", old.ID, old.Workspace, a.view(old))
		rec := old.Clone()
		rec.Version = key.RecordVersion
		if err := edit(rec, a.Now().UTC().Truncate(time.Millisecond)); err != nil {
			return nil, err
		}
		err = a.put(ctx, c, rec, old.Revision)
		if err == nil || try == tries || !isConflict(err) {
			return rec, err
		}
	}
}

// put stores a record and waits until no replica goes by the old one. It goes
// on when the client hangs up: a revocation that was begun is finished.
func (a *api) put(ctx context.Context, c *call, rec *key.Record, expect uint64) error {
	if err := a.store(ctx, c, rec, expect); err != nil {
		return err
	}
	a.reach(ctx, c, rec.Revision)
	c.header.Set("ETag", etag(rec.Revision))
	return nil
}

// reach waits for the other replicas, for as long as the caller does, and tells how
// far a change has come.
func (a *api) reach(ctx context.Context, c *call, revision uint64) {
	waiting, stop := c.waiting(ctx)
	defer stop()
	reached := a.Wait(waiting, revision)
	reached.tell(c.header)
}

// store is put without the waiting for others.
func (a *api) store(ctx context.Context, c *call, rec *key.Record, expect uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	revision, err := a.Keys.Put(ctx, rec, expect)
	if err != nil {
		return err
	}
	rec.Revision = revision
	a.Applied(rec)
	c.is("key", rec.ID, rec.Workspace, a.view(rec))
	a.Logger.Info("key stored", "workspace", rec.Workspace, "key", rec.ID, "status", string(rec.Status),
		"revision", revision, "by", c.who.name())
	return nil
}

func isConflict(err error) bool { return errors.Is(err, key.ErrConflict) }
func isNotFound(err error) bool { return errors.Is(err, key.ErrNotFound) }
