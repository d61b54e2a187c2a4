package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/events/journal"
)

// openLedger opens a ledger on a directory; the journal is closed by the caller
// or at the end of the test.
func openLedger(t *testing.T, dir string) (*Ledger, *journal.Journal) {
	t.Helper()
	j, open, err := journal.Open(dir, journal.Config{SegmentBytes: 256 << 10, MaxBytes: 8 << 20, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return OpenLedger(j, open, Source("test"), quiet), j
}

func admission(id, request string) *authz.Admission {
	return &authz.Admission{ID: id, ProxyRequestID: request, Workspace: "demo", Key: "k", Model: "m", Dialect: "openai",
		Start: time.UnixMicro(1764000000000000).UTC(), Deadline: time.UnixMicro(1764003720000000).UTC()}
}

func admit(t *testing.T, l *Ledger, a *authz.Admission) {
	t.Helper()
	if err := l.Admit(a, a.AppendBinary(nil)); err != nil {
		t.Fatal(err)
	}
}

func closed(t *testing.T, l *Ledger, a *authz.Admission, o authz.Outcome, m authz.Measurement) *authz.Usage {
	t.Helper()
	u := &authz.Usage{Admission: a, Outcome: o, Measurement: m}
	ok, err := l.Close(u)
	if err != nil || !ok {
		t.Fatalf("closing %s: %v, %v", a.ID, ok, err)
	}
	return u
}

// published drains a ledger and returns what went out, by message id.
func published(t *testing.T, l *Ledger, j *journal.Journal) map[string]journal.Outgoing {
	t.Helper()
	out := map[string]journal.Outgoing{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.journal.Run(ctx, func(_ context.Context, batch []journal.Outgoing) []error {
			for _, e := range batch {
				e.Payload = bytes.Clone(e.Payload)
				out[e.MsgID] = e
			}
			return make([]error, len(batch))
		})
	}()
	if err := j.Flush(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
	return out
}

func TestSiblingsAreSuperseded(t *testing.T) {
	l, _ := openLedger(t, t.TempDir())
	first, second, other, alone := admission("1", "r"), admission("2", "r"), admission("3", "q"), admission("4", "")
	for _, a := range []*authz.Admission{first, second, other, alone} {
		admit(t, l, a)
	}
	if u := closed(t, l, second, authz.Completed, authz.Reported); u.Superseded {
		t.Error("what was settled is superseded")
	}
	if open := l.Open(time.Time{}); len(open) != 3 {
		t.Errorf("%d are open, want 3", len(open))
	}
	if open := l.Open(first.Deadline); len(open) != 0 {
		t.Errorf("%d are open beyond their deadline", len(open))
	}
	for a, want := range map[*authz.Admission]bool{first: true, other: false, alone: false} {
		if u := closed(t, l, a, authz.Unknown, authz.None); u.Superseded != want {
			t.Errorf("%s superseded: %v", a.ID, u.Superseded)
		}
	}
	for _, a := range []*authz.Admission{first, second, other, alone} {
		if ok, err := l.Close(&authz.Usage{Admission: a}); ok || err != nil {
			t.Errorf("closing %s again: %v, %v", a.ID, ok, err)
		}
	}
}

// A proxy may let its callers choose the request's id. Their admissions are
// closed like any others, and looking for siblings stays cheap.
func TestManyAdmissionsOfOneRequest(t *testing.T) {
	l, _ := openLedger(t, t.TempDir())
	var all []*authz.Admission
	for n := range 3 * maxSiblings {
		all = append(all, admission(fmt.Sprint(n), "same"))
		admit(t, l, all[n])
	}
	for n, a := range all {
		if n%2 == 0 {
			closed(t, l, a, authz.Completed, authz.Reported)
		}
	}
	if open := l.Open(time.Time{}); len(open) != len(all)/2 {
		t.Errorf("%d of %d are open", len(open), len(all))
	}
	for n, a := range all {
		if n%2 == 1 {
			closed(t, l, a, authz.Unknown, authz.None)
		}
	}
	for i := range l.shards {
		if n := len(l.shards[i].open); n != 0 {
			t.Errorf("%d are left in a shard", n)
		}
	}
}

func TestAdjustmentIsPublished(t *testing.T) {
	l, j := openLedger(t, t.TempDir())
	a := admission("1", "r")
	admit(t, l, a)
	closed(t, l, a, authz.Unknown, authz.None)
	truth := &authz.Usage{Admission: a, Outcome: authz.Completed, Measurement: authz.Reported, Tokens: authz.Tokens{Input: 7, Output: 3}}
	if err := l.Adjust(truth); err != nil {
		t.Fatal(err)
	}
	out := published(t, l, j)
	if len(out) != 2 {
		t.Fatalf("published %d events, want 2", len(out))
	}
	late := out[MsgID(l.source, "1"+lateSuffix)]
	var e Event
	if err := json.Unmarshal(late.Payload, &e); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(e, Adjustment(l.source, truth)) || late.Subject != "tollgate.usage.adjusted.v1.demo.k.m" {
		t.Errorf("%s: %+v", late.Subject, e)
	}
	if open := j.Stats().Open; open != 0 {
		t.Errorf("%d open in the journal", open)
	}
}

// A process that is killed between the two steps of an adjustment leaves it to
// the next one.
func TestAdjustmentSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	_, j := openLedger(t, dir)
	e := Adjustment(Source("test"), fullUsage())
	want := journal.Event{Subject: AdjustedSubject("demo", "k", "m"), MsgID: MsgID(e.Source, e.ID), Payload: e.AppendJSON(nil)}
	if _, err := j.Admit(encodeLate(want)); err != nil { // and no Settle
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	l, j := openLedger(t, dir)
	if open := l.Open(time.Time{}); len(open) != 0 {
		t.Errorf("it is taken for an admission: %+v", open)
	}
	out := published(t, l, j)
	if got := out[want.MsgID]; len(out) != 1 || got.Subject != want.Subject || !bytes.Equal(got.Payload, want.Payload) {
		t.Errorf("published %+v", out)
	}
}

// The stored form is frozen; see docs/design/formats.md.
func TestFrozenLateEvent(t *testing.T) {
	want := journal.Event{Subject: "tollgate.usage.adjusted.v1.demo.k.m", MsgID: "//test/tollgate1.late", Payload: []byte(`{"specversion":"1.0"}`)}
	const path = "testdata/late-event.v1.bin"
	if *update {
		if err := os.WriteFile(path, encodeLate(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeLate(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("version 1 reads as %+v, %v", got, err)
	}
	if !bytes.Equal(encodeLate(want), data) {
		t.Error("version 1 is written differently now")
	}
}

func FuzzDecodeLate(f *testing.F) {
	f.Add(encodeLate(journal.Event{Subject: "s", MsgID: "m", Payload: []byte("p")}))
	f.Add([]byte{0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeLate(data)
		if err != nil {
			return
		}
		if again, err := decodeLate(encodeLate(e)); err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%+v was read as %+v, %v", e, again, err)
		}
	})
}
