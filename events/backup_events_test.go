package events

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz/key"
	"tollgate/events/natsd"
)

// ids are the message ids in a store's stream, in their order.
func (d *deployment) ids() []string {
	d.t.Helper()
	js, err := jetstream.New(d.nc)
	if err != nil {
		d.t.Fatal(err)
	}
	var ids []string
	err = scanStream(d.t.Context(), js, UsageStream, 0, true, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		ids = append(ids, m.Headers().Get(jetstream.MsgIDHeader))
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return ids
}

// Events that are copied once more, or that somebody else publishes meanwhile, are
// there once.
func TestCopyEvents(t *testing.T) {
	from, to := newDeployment(t), newDeployment(t)
	var want []string
	for i := range 600 {
		from.event(fmt.Sprint("e", i))
		want = append(want, MsgID(Source("local"), fmt.Sprint("e", i)))
	}
	to.event("e7")
	to.event("of its own")
	done, err := CopyEvents(t.Context(), from.nc, to.nc)
	if err != nil || done != (CopiedEvents{Added: 599, There: 1}) {
		t.Fatalf("copied %+v, %v", done, err)
	}
	again, err := CopyEvents(t.Context(), from.nc, to.nc)
	if err != nil || again != (CopiedEvents{There: 600}) {
		t.Errorf("copied again %+v, %v", again, err)
	}
	got := to.ids()
	if slices.Sort(got); len(got) != 601 || len(slices.Compact(got)) != 601 {
		t.Errorf("there are %d events, %d different ones", len(got), len(slices.Compact(got)))
	}
	for _, id := range want {
		if !slices.Contains(got, id) {
			t.Errorf("%s is missing", id)
		}
	}
}

// What others published is found by looking, also when the stream no longer knows
// its id by itself; and it is looked again before that can be.
func TestCopierLooksAgain(t *testing.T) {
	_, nc := embedded(t, natsd.Config{})
	d := &deployment{t: t, nc: nc}
	js, err := copyingJetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: UsageStream, Subjects: []string{"tollgate.usage.>"}, Duplicates: 100 * time.Millisecond,
	}); err != nil {
		t.Fatal(err)
	}
	d.event("before")
	c, err := newEventCopier(t.Context(), js, UsageStream)
	if err != nil {
		t.Fatal(err)
	}
	now := c.looked
	c.now = func() time.Time { return now }
	d.event("meanwhile")
	now = now.Add(100 * time.Millisecond)
	eventually(t, "the stream forgot an id", func() bool {
		d.event("probe")
		return len(d.ids()) > 3
	})
	for _, id := range []string{"before", "meanwhile", "new"} {
		headers := map[string][]string{jetstream.MsgIDHeader: {MsgID(Source("local"), id)}}
		if err := c.add(t.Context(), Subject("demo", "k", "m"), headers, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.done != (CopiedEvents{Added: 1, There: 2}) {
		t.Errorf("copied %+v", c.done)
	}
}

// A source without usage events is a mistake, and is not taken for an empty one.
func TestCopyEventsWantsASource(t *testing.T) {
	_, nothing := embedded(t, natsd.Config{})
	to := newDeployment(t)
	if _, err := CopyEvents(t.Context(), nothing, to.nc); err == nil {
		t.Error("copied from a store that has no stream")
	}
	if _, err := CopyEvents(t.Context(), to.nc, nothing); err == nil {
		t.Error("copied into a store that has no stream")
	}
}

// A replica that runs on a store which is wiped and restored forgets what it knew
// and reads it anew.
func TestFeedNoticesARestore(t *testing.T) {
	d := newDeployment(t)
	d.fill(0)
	file := d.backup(false)
	put(t, d.keys, record("later"), 0) // is not in the backup
	var sink table
	run(t, d.keys, &sink)
	eventually(t, "ready", func() bool { _, ok := sink.get("later"); return ok && sink.isReady() })

	js, err := jetstream.New(d.nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{d.keys.bucket.stream(), d.config.bucket.stream()} {
		if err := js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Restore(t.Context(), d.nc, bytes.NewReader(file), RestoreConfig{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the restored keys", func() bool {
		revoked, ok := sink.get("id3")
		_, later := sink.get("later")
		_, last := sink.get("id9")
		return sink.isReady() && ok && revoked.Record.Status == key.Revoked && last && !later
	})
	if sink.resets == 0 {
		t.Error("the feed did not start over")
	}
}

// Backing up, restoring and copying take no more rights than making changes does.
func TestBackupNeedsNoMoreThanAnAdmin(t *testing.T) {
	from, to := setUpGround(t, 1), setUpGround(t, 1)
	denied := []<-chan error{violations(from.admin), violations(to.admin)}
	source := openDeployment(t, from.admin)
	source.fill(5)
	target := &deployment{t: t, nc: to.admin}
	if done := target.restore(source.backup(true), RestoreConfig{}); done.Added != 16 || done.Events.Added != 5 {
		t.Errorf("restored %+v", done)
	}
	source.event("late")
	if done, err := CopyEvents(t.Context(), from.admin, to.admin); err != nil || done != (CopiedEvents{Added: 1, There: 5}) {
		t.Errorf("copied %+v, %v", done, err)
	}
	for _, d := range denied {
		select {
		case err := <-d:
			t.Error(err)
		default:
		}
	}
}
