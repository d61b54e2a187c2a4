package events

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
)

// A backup is a file of JSON lines: a header, one line per entry, and a trailer
// that counts them and has the SHA-256 of it all, so that a file that is torn or
// was changed is refused whole. The entries are in five sections, each
// named by where they come from: keys, config, objects, usage, audit; the last two
// are empty unless events were asked for.
//
// It holds what seals admission tokens, so it is a secret. The digest finds
// damage, not malice: who can write the file can put keys into the store that it
// is restored to.

// BackupVersion is the version of the form that this code writes. Version 1 had no
// objects; it is read as well.
const BackupVersion = 2

// ErrBackup is what the errors of reading a backup wrap: the file is not one, is
// damaged or not whole, or was written by a newer Tollgate.
var ErrBackup = errors.New("the backup can't be used")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBackup, fmt.Sprintf(format, args...))
}

// BackupHeader is the first line of a backup.
type BackupHeader struct {
	Version    int       `json:"v"`
	Time       time.Time `json:"time"`       // when it was begun
	Deployment string    `json:"deployment"` // its name, which is in the source of its events
	// Revision of the keys when it was begun: everything up to it is in the
	// backup. What changed later is, up to the trailer's revision.
	Revision uint64 `json:"revision"`
	Events   bool   `json:"events"` // whether events are part of it
}

// BackupCounts are how many entries a backup has in each section. Something that
// changed while the backup was made may be there twice, and the later one counts.
type BackupCounts struct {
	Keys   int `json:"keys"`   // keys, and the documents that are stored among them
	Config int `json:"config"` // other documents
	// Objects are bindings of objects to workspaces, and counts of resources.
	Objects int `json:"objects,omitzero"`
	Usage   int `json:"usage"` // usage events
	Audit   int `json:"audit"` // audit events
	// Skipped is what was left out because this Tollgate can't read it; its log
	// says what.
	Skipped int `json:"skipped,omitzero"`
}

// of is the count of a section, nil of one that there is not.
func (c *BackupCounts) of(section string) *int {
	switch section {
	case sectionKeys:
		return &c.Keys
	case sectionConfig:
		return &c.Config
	case sectionObjects:
		return &c.Objects
	case sectionUsage:
		return &c.Usage
	case sectionAudit:
		return &c.Audit
	}
	return nil
}

// The sections, in their order.
const (
	sectionKeys    = "keys"
	sectionConfig  = "config"
	sectionObjects = "objects"
	sectionUsage   = "usage"
	sectionAudit   = "audit"
)

var sections = []string{sectionKeys, sectionConfig, sectionObjects, sectionUsage, sectionAudit}

// backupEntry is a line between header and trailer.
type backupEntry struct {
	In   string `json:"in"`   // the section
	Name string `json:"name"` // in the bucket; of an event its subject
	// At is the revision, or an event's place in the stream. Within a section it
	// rises, but for config, which is in the order of names.
	At uint64 `json:"at"`
	// Deleted: somebody deleted it by hand while the backup was made.
	Deleted bool `json:"deleted,omitzero"`
	// Time and Headers are an event's: when it was stored, and with what.
	Time    time.Time   `json:"time,omitzero"`
	Headers nats.Header `json:"headers,omitempty"`
	Value   []byte      `json:"value"` // base64
}

// backupTrailer is the last line.
type backupTrailer struct {
	End      BackupCounts `json:"end"`
	Revision uint64       `json:"revision"` // of the newest key that was read
	// SHA256 is that of all lines before this one, and of this one as it is with
	// an empty string here; hexadecimal.
	SHA256 string `json:"sha256"`
}

// sign makes the last line out of the sum of all lines before it, to which it
// adds.
func (t backupTrailer) sign(sum hash.Hash) ([]byte, error) {
	t.SHA256 = ""
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	sum.Write(append(text, '\n'))
	t.SHA256 = hex.EncodeToString(sum.Sum(nil))
	text, err = json.Marshal(t)
	return append(text, '\n'), err
}

// maxBackupLine bounds a line, and maxEvent what is in it: NATS takes 1 MiB in one
// message by default, headers included, and base64 makes a third more of it.
const (
	maxBackupLine = 4 << 20
	maxEvent      = 2 << 20
)

// What names in a bucket and subjects may be: as much as NATS allows.
var (
	nameBytes    = regexp.MustCompile(`^[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*$`)
	subjectBytes = regexp.MustCompile(`^[^\s*>.\x00-\x1f]+(\.[^\s*>.\x00-\x1f]+)*$`)
)

// passing reports whether a name among the keys is of no use to anybody later:
// replicas' heartbeats, and a catalog that was being prepared.
func passing(name string) bool { return strings.HasPrefix(name, "h.") || name == "d.catalog-next" }

// check says why an entry of a backup can't be one of Tollgate's, or is one that
// this version doesn't know how to read.
func (e *backupEntry) check() error {
	event := e.In == sectionUsage || e.In == sectionAudit
	switch {
	case event && e.Deleted, !event && (!e.Time.IsZero() || e.Headers != nil):
		return errors.New("it has a field that belongs to another section")
	case event:
		if !strings.HasPrefix(e.Name, subjectsOf[e.In]) || !subjectBytes.MatchString(e.Name) {
			return fmt.Errorf("%q is not the subject of an event in %s", e.Name, e.In)
		}
		if len(e.Value) > maxEvent {
			return fmt.Errorf("an event of %d bytes is larger than Tollgate's are", len(e.Value))
		}
		return nil
	case e.At == 0 || !nameBytes.MatchString(e.Name):
		return fmt.Errorf("%q at revision %d is not the name of a record", e.Name, e.At)
	case len(e.Value) > MaxDocument:
		return fmt.Errorf("%s has %d bytes, more than the %d of a document", e.Name, len(e.Value), MaxDocument)
	case e.In == sectionConfig:
		return checkID("document", e.Name)
	case e.In == sectionObjects:
		return e.checkObject()
	case passing(e.Name):
		return fmt.Errorf("%s does not belong into a backup", e.Name)
	case !e.Deleted && strings.HasPrefix(e.Name, "k."):
		workspace, id, ok := splitKeyName(e.Name)
		if !ok {
			return fmt.Errorf("%q is not the name of a key", e.Name)
		}
		_, err := decodeRecord(e.Value, workspace, id)
		return err
	}
	return nil
}

// subjectsOf are what subjects begin with in the sections of events.
var subjectsOf = map[string]string{sectionUsage: "tollgate.usage.", sectionAudit: "tollgate.audit."}

// streamsOf are where the sections of events are stored.
var streamsOf = map[string]string{sectionUsage: UsageStream, sectionAudit: auditStream}
