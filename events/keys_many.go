package events

import (
	"context"
	"slices"

	"tollgate/authz/key"
)

// manyAtOnce is how many records one question is about: the server holds the stream
// while it answers, so not all that it would take (1024).
const manyAtOnce = 256

// GetMany reads the records of many keys of a workspace, by few questions. Of what
// isn't there, or can't be read, there is none, and the order is not that of ids.
//
// It is no replacement of Get: any server that has a copy answers, so a record may be
// older than what was acknowledged, and one may be missing. Whoever asks goes by what
// it knows of each key's revision. It takes the rights of who makes changes. Beside
// an error, which wraps key.ErrUnavailable, are the records that came.
func (k *Keys) GetMany(ctx context.Context, workspace string, ids []string) (records []*key.Record, err error) {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		if name, err := keyName(workspace, id); err == nil { // else no such key can have been put
			names = append(names, name)
		}
	}
	for some := range slices.Chunk(names, manyAtOnce) {
		found, err := k.getSome(ctx, workspace, some)
		if records = append(records, found...); err != nil {
			return records, err
		}
	}
	return records, nil
}

func (k *Keys) getSome(ctx context.Context, workspace string, names []string) (records []*key.Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	found, _, err := k.bucket.newest(ctx, names...)
	for name, e := range found {
		_, id, _ := splitKeyName(name)
		if e.deleted {
			continue
		}
		if rec, err := decodeRecord(e.value, workspace, id); err == nil {
			rec.Revision = e.revision
			records = append(records, rec)
		}
	}
	return records, err
}
