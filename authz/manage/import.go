package manage

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"tollgate/authz/key"
)

// Bounds of one import.
const (
	maxImport     = 1000    // keys
	maxImportBody = 4 << 20 // bytes
)

// Digests sees to it that no two keys of the deployment have a secret in common:
// or whoever imports somebody else's would take over that key's requests. Both
// methods may block on I/O until their context ends. Errors wrap the sentinels of
// package key.
type Digests interface {
	// Owner returns which key has a secret with this digest, alive or dead, or
	// key.ErrNotFound.
	Owner(ctx context.Context, d key.Digest) (KeyRef, error)
	// Claim notes that a key, which is stored next, has the digest. It returns
	// that key, or the one which claimed it before; of claims at the same time
	// all return the same one. That one may not be stored yet, or never come to
	// be: whoever is of the same workspace may store it in its place, under its
	// id. key.ErrConflict: it is being claimed just now for a key of another
	// workspace that isn't there.
	Claim(ctx context.Context, d key.Digest, by KeyRef) (KeyRef, error)
}

// KeyRef names a key.
type KeyRef struct{ Workspace, ID string }

// ImportRequest is the body of an import: each key as in a creation, with its
// SHA-256.
type ImportRequest struct {
	Keys []KeyRequest `json:"keys"`
}

// ImportReport is the answer to an import.
type ImportReport struct {
	DryRun   bool        `json:"dryRun"`
	Imported int         `json:"imported" doc:"Keys that are there now and weren't before; of a dry run, that would be"`
	Refused  int         `json:"refused" doc:"Rows that keep the whole from being imported"`
	Rows     []ImportRow `json:"rows" doc:"One for each key of the request, in its order"`
}

// ImportRow is what became of one key of an import.
type ImportRow struct {
	Status  string  `json:"status" enum:"new,imported,unchanged,invalid,conflict,failed" doc:"new: would be imported; unchanged: it was before; failed: the store broke off, so import the same again"`
	ID      *string `json:"id"`
	Message *string `json:"message" doc:"What is wrong, and what to do"`
}

func (r *ImportRow) refused() bool {
	return r.Status == "invalid" || r.Status == "conflict" || r.Status == "failed"
}

// imported takes the digest of a request into a new record.
func (a *api) imported(rec *key.Record, who *caller, req *KeyRequest) error {
	var prefix string
	if req.Prefix != nil {
		prefix = *req.Prefix
	}
	switch {
	case req.SHA256 == nil && req.Prefix != nil:
		return invalid("prefix", "is of an imported key; send its sha256 too, or leave this out")
	case req.SHA256 == nil:
		return nil
	case a.Digests == nil:
		return invalid("sha256", "this Tollgate can't import keys")
	case who.member:
		// Nobody knows how hard to guess an imported secret is.
		return refuse(http.StatusForbidden, "sha256: members don't import keys; ask an admin of the workspace")
	case len(prefix) > maxPrefix || prefix != "" && !isWord(prefix):
		return invalid("prefix", "must be the first %d characters of the key at most, of ASCII", maxPrefix)
	}
	rec.Secrets = []key.Secret{{Number: 1, Digest: *req.SHA256, Prefix: prefix, CreatedAt: rec.CreatedAt}}
	return nil
}

// claimOne is what comes before a single imported key is stored.
func (a *api) claimOne(ctx context.Context, who *caller, rec *key.Record) error {
	row := a.examine(ctx, who, rec)
	if row.Status == "new" {
		row = a.claim(ctx, who, rec)
	}
	switch {
	case row.Status == "new":
		return nil
	case row.ID != nil:
		return madeAlready(keysPath, *row.ID, "sha256: this key was imported before, under the id that is told here")
	}
	return refuse(http.StatusConflict, "%s", *row.Message)
}

func (a *api) importKeys(ctx context.Context, c *call, req ImportRequest) (ImportReport, error) {
	if n := len(req.Keys); n == 0 || n > maxImport {
		return ImportReport{}, invalid("keys", "has %d entries; send 1 to %d at once", n, maxImport)
	}
	dryRun, err := c.flag("dryRun")
	if err != nil {
		return ImportReport{}, err
	}
	report := ImportReport{DryRun: dryRun, Rows: make([]ImportRow, len(req.Keys))}
	records := make([]*key.Record, len(req.Keys))
	first := make(map[key.Digest]int, len(req.Keys))
	for i := range req.Keys {
		records[i], report.Rows[i] = a.draftRow(ctx, c, &req.Keys[i])
		if records[i] == nil {
			continue
		}
		d := records[i].Secrets[0].Digest
		if before, twice := first[d]; twice {
			report.Rows[i] = rowOf("conflict", "", "sha256: is that of keys["+strconv.Itoa(before)+"] too; import it once")
			continue
		}
		first[d] = i
	}
	c.note.silent = dryRun
	if report.count(); report.Refused > 0 || dryRun {
		return report, nil
	}
	a.storeRows(ctx, c, records, report.Rows)
	report.count()
	return report, nil
}

// draftRow says of one key of an import what would become of it by itself.
func (a *api) draftRow(ctx context.Context, c *call, req *KeyRequest) (*key.Record, ImportRow) {
	if req.SHA256 == nil {
		return nil, rowOf("invalid", "", "sha256: is missing")
	}
	rec, err := a.draft(c, req)
	if err != nil {
		return nil, rowOf("invalid", "", errorFor(err).hiding(c.secret).Message)
	}
	return rec, a.examine(ctx, c.who, rec)
}

// examine says whether a key can be imported: it is new, or it is unchanged, or
// why not.
func (a *api) examine(ctx context.Context, who *caller, rec *key.Record) ImportRow {
	d := rec.Secrets[0].Digest
	if d == a.OperatorKey {
		return taken
	}
	owner, err := a.Digests.Owner(ctx, d)
	if isNotFound(err) {
		return ImportRow{Status: "new"}
	}
	if err != nil {
		return failed(err)
	}
	return a.compare(ctx, who, rec, owner)
}

// compare says what it means for an import that a key has its digest. Of a key that
// the caller doesn't see it tells no more than that there is one.
func (a *api) compare(ctx context.Context, who *caller, rec *key.Record, owner KeyRef) ImportRow {
	if owner.Workspace != rec.Workspace {
		return taken // nothing is told of whose it is
	}
	is, err := a.Keys.Get(ctx, owner.Workspace, owner.ID)
	switch {
	case err != nil:
		return failed(err)
	case !a.mayKnow(who, is):
		return taken
	case is.Status != key.Active:
		return rowOf("conflict", owner.ID, "sha256: this key was revoked, which is for good; give its caller another one")
	case !sameAsImported(is, rec):
		return rowOf("conflict", owner.ID, "sha256: this key is there already, and differs from what is to be imported; change it by its id, or take it out of the import")
	}
	return ImportRow{Status: "unchanged", ID: &owner.ID}
}

var taken = rowOf("conflict", "", "sha256: this key belongs to somebody else already; give its caller another one")

// sameAsImported reports whether a stored key is what an import of rec made.
func sameAsImported(is, rec *key.Record) bool {
	x, y := is.Clone(), rec.Clone()
	for _, r := range []*key.Record{x, y} {
		// What an import doesn't say, or says anew each time.
		r.ID, r.CreatedBy, r.Revision, r.Version, r.CreatedAt = "", "", 0, 0, rec.CreatedAt
		r.Secrets = nil
		if len(r.Labels) == 0 {
			r.Labels = nil
		}
	}
	if !sameTime(x.ExpiresAt, y.ExpiresAt) {
		return false
	}
	x.ExpiresAt, y.ExpiresAt = nil, nil
	return reflect.DeepEqual(x, y)
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}

// claim makes the record's digest its own. Where a key of the same workspace has
// claimed it and never came to be, the record becomes that key.
func (a *api) claim(ctx context.Context, who *caller, rec *key.Record) ImportRow {
	owner, err := a.Digests.Claim(ctx, rec.Secrets[0].Digest, KeyRef{rec.Workspace, rec.ID})
	switch {
	case isConflict(err):
		return rowOf("conflict", "", "sha256: somebody else imports this key at the same time; try again in two minutes")
	case err != nil:
		return failed(err)
	case owner.Workspace != rec.Workspace:
		return taken
	case owner.ID == rec.ID:
		return ImportRow{Status: "new"}
	}
	if _, err := a.Keys.Get(ctx, owner.Workspace, owner.ID); isNotFound(err) {
		rec.ID = owner.ID
		return ImportRow{Status: "new"}
	}
	return a.compare(ctx, who, rec, owner)
}

// storeRows claims all keys that are new and, where that goes well, stores them.
func (a *api) storeRows(ctx context.Context, c *call, records []*key.Record, rows []ImportRow) {
	for i, rec := range records {
		if rows[i].Status != "new" {
			continue
		}
		if rows[i] = a.claim(ctx, c.who, rec); rows[i].refused() {
			return
		}
	}
	var last *key.Record
	for i, rec := range records {
		if rows[i].Status != "new" {
			continue
		}
		switch err := a.store(ctx, c, rec, 0); {
		case isConflict(err): // the same import, by somebody else at the same time
			rows[i] = a.compare(ctx, c.who, rec, KeyRef{rec.Workspace, rec.ID})
		case err != nil:
			rows[i] = failed(err)
			return
		default:
			rows[i], last = ImportRow{Status: "imported", ID: &rec.ID}, rec
		}
	}
	if last != nil {
		a.reach(ctx, c, last.Revision)
	}
}

// count sums the rows up.
func (r *ImportReport) count() {
	r.Imported, r.Refused = 0, 0
	for i := range r.Rows {
		switch row := &r.Rows[i]; {
		case row.refused():
			r.Refused++
		case row.Status == "imported", row.Status == "new" && r.DryRun:
			r.Imported++
		}
	}
}

func rowOf(status, id, message string) ImportRow {
	return ImportRow{Status: status, ID: orNull(id), Message: orNull(message)}
}

func failed(err error) ImportRow { return rowOf("failed", "", errorFor(err).Message) }
