package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz/key"
	"tollgate/events/natsd"
)

// deployment is a store with something of everything in it.
type deployment struct {
	t       *testing.T
	nc      *nats.Conn
	keys    *Keys
	config  *Config
	usage   *Usage
	objects *Objects
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	_, nc := embedded(t, natsd.Config{})
	return openDeployment(t, nc)
}

func openDeployment(t *testing.T, nc *nats.Conn) *deployment {
	t.Helper()
	d := &deployment{t: t, nc: nc, keys: openKeys(t, nc)}
	var err error
	if d.config, err = OpenConfig(t.Context(), nc, 1); err != nil {
		t.Fatal(err)
	}
	if d.usage, err = OpenUsage(t.Context(), nc, UsageConfig{}); err != nil {
		t.Fatal(err)
	}
	d.objects = openObjects(t, nc)
	return d
}

// fill puts ten keys, one of them revoked, two documents, a heartbeat and some
// events there.
func (d *deployment) fill(events int) {
	d.t.Helper()
	for i := range 10 {
		put(d.t, d.keys, record(fmt.Sprint("id", i)), 0)
	}
	d.revoke("id3")
	d.write(d.keys.bucket, "d.catalog", `{"v":1}`)
	d.write(d.keys.bucket, "x.abc", `{"v":1}`)
	d.write(d.keys.bucket, "h.replica", `{}`)
	d.write(d.config.bucket, "sealing-keys", `{"v":1,"current":1}`)
	d.write(d.config.bucket, learnedName, `{"v":1}`)
	d.fillObjects()
	for i := range events {
		d.event(fmt.Sprint("e", i))
	}
}

func (d *deployment) write(b *bucket, name, value string) {
	d.t.Helper()
	if _, err := b.put(d.t.Context(), name, []byte(value), 0); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) revoke(id string) {
	d.t.Helper()
	rec, err := d.keys.Get(d.t.Context(), "demo", id)
	if err != nil {
		d.t.Fatal(err)
	}
	at := time.Unix(2, 0).UTC()
	rec = rec.Clone()
	rec.Status, rec.RevokedAt = key.Revoked, &at
	put(d.t, d.keys, rec, rec.Revision)
}

// event stores a usage event with a header of its own, as Tollgate's have.
func (d *deployment) event(id string) {
	d.t.Helper()
	js, err := jetstream.New(d.nc)
	if err != nil {
		d.t.Fatal(err)
	}
	m := nats.NewMsg(Subject("demo", "id1", "m"))
	m.Data = fmt.Appendf(nil, `{"id":%q}`, id)
	m.Header.Set("Content-Type", ContentType)
	m.Header.Set("Tollgate-Position", id)
	if _, err := js.PublishMsg(d.t.Context(), m, jetstream.WithMsgID(MsgID(Source("local"), id)), jetstream.WithExpectStream(UsageStream)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) backup(events bool) []byte {
	d.t.Helper()
	var file bytes.Buffer
	if _, err := WriteBackup(d.t.Context(), d.keys, d.config, &file, "local", time.Unix(3, 0), events); err != nil {
		d.t.Fatal(err)
	}
	return file.Bytes()
}

func (d *deployment) restore(file []byte, cfg RestoreConfig) Restored {
	d.t.Helper()
	cfg.Logger = quiet
	done, err := Restore(d.t.Context(), d.nc, bytes.NewReader(file), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	return done
}

// content is what a store holds but for revisions and times, by name.
func (d *deployment) content() map[string]string {
	d.t.Helper()
	js, err := jetstream.New(d.nc)
	if err != nil {
		d.t.Fatal(err)
	}
	all := map[string]string{}
	for _, stream := range []string{d.keys.bucket.stream(), d.config.bucket.stream(), objectsStream, UsageStream} {
		err := scanStream(d.t.Context(), js, stream, 0, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
			name := m.Subject()
			if stream == UsageStream {
				name = fmt.Sprint(name, meta.NumPending) // its place, from the end
			}
			text := string(m.Data())
			for _, h := range []string{"Content-Type", "Tollgate-Position", jetstream.MsgIDHeader} {
				text += "|" + m.Headers().Get(h)
			}
			all[name] = text
			return nil
		})
		if err != nil {
			d.t.Fatal(err)
		}
	}
	return all
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s is %q, want %q", name, got[name], text)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there and was not", name)
		}
	}
}

// What is restored into an empty store is what the first one has, but for
// heartbeats.
func TestBackupAndRestore(t *testing.T) {
	from := newDeployment(t)
	from.fill(700)
	file := from.backup(true)
	header, counts, err := VerifyBackup(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if counts != (BackupCounts{Keys: 12, Config: 2, Objects: 2, Usage: 700}) || header.Deployment != "local" || !header.Events {
		t.Errorf("the backup has %+v, its header is %+v", counts, header)
	}
	_, nc := embedded(t, natsd.Config{})
	told := 0
	done, err := Restore(t.Context(), nc, bytes.NewReader(file), RestoreConfig{Logger: quiet, Progress: func(Restored) { told++ }})
	if err != nil || done != (Restored{Added: 16, Events: CopiedEvents{Added: 700}}) || told < 700 {
		t.Errorf("restored %+v, told %d times; %v", done, told, err)
	}
	want := from.content()
	delete(want, "$KV.TOLLGATE_KEYS.h.replica")
	to := openDeployment(t, nc)
	same(t, to.content(), want)
	if rec, err := to.keys.Get(t.Context(), "demo", "id3"); err != nil || rec.Status != key.Revoked {
		t.Errorf("the revoked key is %+v, %v", rec, err)
	}

	if got := bytes.Count(from.backup(false), []byte("\n")); got != 1+16+1 {
		t.Errorf("without events a backup has %d lines", got)
	}
}

// A store in which there is something is refused, and not touched.
func TestRestoreWantsAnEmptyStore(t *testing.T) {
	from := newDeployment(t)
	from.fill(1)
	file := from.backup(true)
	for what, prepare := range map[string]func(*deployment){
		"a key":       func(d *deployment) { put(t, d.keys, record("other"), 0) },
		"a catalog":   func(d *deployment) { d.write(d.keys.bucket, "d.catalog", "{}") },
		"a document":  func(d *deployment) { d.write(d.config.bucket, "sealing-keys", "{}") },
		"a revoked 1": func(d *deployment) { put(t, d.keys, record("id1"), 0); d.revoke("id1") },
	} {
		to := newDeployment(t)
		prepare(to)
		before := to.content()
		_, err := Restore(t.Context(), to.nc, bytes.NewReader(file), RestoreConfig{Logger: quiet})
		if !errors.Is(err, ErrNotEmpty) {
			t.Errorf("with %s: %v", what, err)
		}
		same(t, to.content(), before)
	}
	// What running replicas write by themselves is in nobody's way, and stays.
	to := newDeployment(t)
	to.write(to.keys.bucket, "h.other", "{}")
	to.write(to.config.bucket, learnedName, `{"newer":1}`)
	to.event("new")
	if done := to.restore(file, RestoreConfig{}); done.Added != 15 || done.Kept != 1 || done.Events.Added != 1 {
		t.Errorf("restored %+v", done)
	}
	if got, _, err := to.config.Get(t.Context(), learnedName); string(got) != `{"newer":1}` {
		t.Errorf("%s, %v", got, err)
	}
}

// A damaged file, or a part of one, is refused before anything is written.
func TestRestoreRefusesWhatIsNotWhole(t *testing.T) {
	from := newDeployment(t)
	from.fill(3)
	file := from.backup(true)
	lines := bytes.SplitAfter(file, []byte("\n"))
	to := newDeployment(t)
	refused := func(what string, bad []byte) {
		t.Helper()
		if _, err := Restore(t.Context(), to.nc, bytes.NewReader(bad), RestoreConfig{Logger: quiet}); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, n := range []int{0, 1, len(file) / 2, len(file) - 1} {
		refused(fmt.Sprintf("%d of %d bytes", n, len(file)), file[:n])
	}
	for i := range lines[:len(lines)-1] {
		without := bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil)
		refused(fmt.Sprintf("without line %d", i+1), without)
	}
	for i := 0; i < len(file); i += 37 {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		refused(fmt.Sprintf("with another byte %d", i), bad)
	}
	refused("twice", append(bytes.Clone(file), file...))
	refused("with more", append(bytes.Clone(file), "x"...))
	// Right in itself, and yet not what the trailer counts.
	counted := around(lines[0], bytes.Join(lines[1:len(lines)-3], nil))
	if _, _, err := VerifyBackup(bytes.NewReader(counted)); err != nil {
		t.Errorf("a file without its last event: %v", err)
	}
	refused("with a count too many", signed(lines[0], bytes.Join(lines[1:len(lines)-3], nil), BackupCounts{Keys: 12, Config: 2, Objects: 2, Usage: 3}))
	newer := bytes.Replace(file, []byte(`{"v":2,`), []byte(`{"v":3,"more":true,`), 1)
	if _, _, err := VerifyBackup(bytes.NewReader(newer)); err == nil || !strings.Contains(err.Error(), "newer Tollgate") {
		t.Errorf("a newer version: %v", err)
	}
	if got := to.content(); len(got) != 0 {
		t.Errorf("something was restored: %v", got)
	}
}

// A file that is another one when it is read for the second time is told of.
func TestRestoreNoticesAnotherFile(t *testing.T) {
	from := newDeployment(t)
	from.fill(1)
	first := from.backup(true)
	from.event("more")
	swapped := &swappedFile{bytes.NewReader(first), bytes.NewReader(from.backup(true))}
	to := newDeployment(t)
	if _, err := Restore(t.Context(), to.nc, swapped, RestoreConfig{Logger: quiet}); !errors.Is(err, ErrBackup) {
		t.Errorf("%v", err)
	}
}

// swappedFile is another one from the first Seek on.
type swappedFile struct{ first, then *bytes.Reader }

func (s *swappedFile) Read(p []byte) (int, error) { return s.first.Read(p) }

func (s *swappedFile) Seek(int64, int) (int64, error) {
	s.first = s.then
	return 0, nil
}

// Merging adds what is missing and changes nothing but what is revoked: neither
// side's revocations are undone.
func TestRestoreMerges(t *testing.T) {
	from := newDeployment(t)
	from.fill(2) // id3 is revoked
	file := from.backup(true)

	to := newDeployment(t)
	put(t, to.keys, record("id3"), 0) // not revoked here
	put(t, to.keys, record("id4"), 0)
	to.revoke("id4") // not revoked in the backup
	narrowed := record("id5")
	narrowed.Models = []string{"one"}
	put(t, to.keys, narrowed, 0)
	twin := record("twin") // has the secret of id6, and is revoked
	twin.Secrets = record("id6").Secrets
	put(t, to.keys, twin, 0)
	to.revoke("twin")
	to.write(to.config.bucket, "sealing-keys", `{"mine":1}`)
	to.event("e1")

	// id3 is revoked, id4 and id5 stay, id6 is refused, the sealing keys stay.
	want := Restored{Added: 6 + 2 + 1 + 2, Kept: 2 + 1, Revoked: 1, Refused: 1, Events: CopiedEvents{Added: 1, There: 1}}
	if done := to.restore(file, RestoreConfig{Merge: true}); done != want {
		t.Errorf("merged %+v, want %+v", done, want)
	}
	get := func(id string) *key.Record {
		t.Helper()
		rec, err := to.keys.Get(t.Context(), "demo", id)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		return rec
	}
	for _, id := range []string{"id3", "id4", "twin"} {
		if rec := get(id); rec.Status != key.Revoked || rec.RevokedAt == nil {
			t.Errorf("%s is %s", id, rec.Status)
		}
	}
	if rec := get("id5"); len(rec.Models) != 1 {
		t.Errorf("id5 opens %v again", rec.Models)
	}
	if get("id7").Status != key.Active {
		t.Error("id7 is not active")
	}
	if _, err := to.keys.Get(t.Context(), "demo", "id6"); !errors.Is(err, key.ErrNotFound) {
		t.Errorf("a revoked secret came back with another key: %v", err)
	}
	// Once more changes nothing.
	before := to.content()
	want = Restored{Kept: 9 + 2 + 2 + 2, Refused: 1, Events: CopiedEvents{There: 2}}
	if done := to.restore(file, RestoreConfig{Merge: true}); done != want {
		t.Errorf("merged again: %+v, want %+v", done, want)
	}
	same(t, to.content(), before)
}

// A backup that is made while keys change has every key, in a state that it had
// after the backup began. A key that is changed before it is read moves to the
// stream's end, behind what was there when the backup began.
func TestBackupWhileKeysChange(t *testing.T) {
	d := openDeployment(t, newRemote(t).connect()) // which doesn't sync each write: there are many
	const n = 2000                                 // more than a client fetches in advance
	js, err := jetstream.New(d.nc)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		value, err := json.Marshal(record(fmt.Sprint("id", i)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishAsync(d.keys.bucket.subject(fmt.Sprint("k.demo.id", i)), value); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	var file bytes.Buffer
	left := n
	changing := writerFunc(func(p []byte) (int, error) {
		for range 30 {
			if left > n/2 {
				left--
				d.revoke(fmt.Sprint("id", left))
			}
		}
		return file.Write(p)
	})
	counts, err := WriteBackup(t.Context(), d.keys, d.config, changing, "local", time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	if left == n || counts.Keys < n {
		t.Fatalf("%d keys were changed meanwhile, the backup has %d", n-left, counts.Keys)
	}
	to := openDeployment(t, newRemote(t).connect())
	to.restore(file.Bytes(), RestoreConfig{})
	if records := listed(t, to.keys, "demo"); len(records) != n {
		t.Errorf("%d of %d keys were restored", len(records), n)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A record that this Tollgate can't read is left out and counted, and does not
// keep the rest from being saved.
func TestBackupLeavesOutWhatItCantRead(t *testing.T) {
	d := newDeployment(t)
	put(t, d.keys, record("good"), 0)
	d.write(d.keys.bucket, "k.demo.bad", `{"v":99}`)
	var file bytes.Buffer
	counts, err := WriteBackup(t.Context(), d.keys, d.config, &file, "local", time.Now(), false)
	if err != nil || counts != (BackupCounts{Keys: 1, Skipped: 1}) {
		t.Errorf("%+v, %v", counts, err)
	}
	if _, got, err := VerifyBackup(&file); err != nil || got != counts {
		t.Errorf("verified: %+v, %v", got, err)
	}
}

// A reader that goes away ends the backup.
func TestBackupEndsWithItsReader(t *testing.T) {
	d := newDeployment(t)
	d.fill(0)
	gone := errors.New("gone")
	if _, err := WriteBackup(t.Context(), d.keys, d.config, writerFunc(func([]byte) (int, error) { return 0, gone }), "local", time.Now(), true); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := WriteBackup(ctx, d.keys, d.config, &bytes.Buffer{}, "local", time.Now(), true); err == nil {
		t.Error("a backup whose context is over was made")
	}
}

// TestFrozenBackup: a file that an earlier version wrote can be read for ever.
func TestFrozenBackup(t *testing.T) {
	for name, objects := range map[string]int{"testdata/backup-v1.jsonl": 0, "testdata/backup-v2.jsonl": 2} {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		header, counts, err := VerifyBackup(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if header.Revision != 4 || counts != (BackupCounts{Keys: 3, Config: 1, Objects: objects, Usage: 1, Audit: 1}) {
			t.Errorf("%s: %+v, %+v", name, header, counts)
		}
		_, nc := embedded(t, natsd.Config{})
		to := openDeployment(t, nc)
		if done := to.restore(file, RestoreConfig{}); done != (Restored{Added: 4 + objects, Events: CopiedEvents{Added: 2}}) {
			t.Errorf("%s: restored %+v", name, done)
		}
		if rec, err := to.keys.Get(t.Context(), "demo", "gone"); err != nil || rec.Status != key.Revoked {
			t.Errorf("%s: %+v, %v", name, rec, err)
		}
	}
}
