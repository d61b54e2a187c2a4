package events

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"tollgate/authz"
)

// storedUsage are admissions 0…n-1, of three models: of each one thing is stored.
func storedUsage(t *testing.T, u *Usage, n int) []*authz.Admission {
	t.Helper()
	var batch []Outgoing
	put := func(e Event, subject string) {
		batch = append(batch, Outgoing{Subject: subject, MsgID: MsgID(e.Source, e.ID), Payload: e.AppendJSON(nil)})
	}
	var all []*authz.Admission
	for i := range n {
		a := admission(fmt.Sprint("a", i), "")
		a.Start, a.Model = time.Now(), fmt.Sprint("m", i%3)
		all = append(all, a)
		source := Source("test")
		if i%4 == 0 {
			continue // nothing of it
		}
		e := FromUsage(source, told(a))
		if i%4 > 1 {
			e = FromUsage(source, unknown(a))
		}
		put(e, Subject(a.Workspace, a.Key, a.Model))
		if i%4 == 3 {
			e := Adjustment(source, told(a))
			put(e, AdjustedSubject(a.Workspace, a.Key, a.Model))
		}
	}
	publish(t, u, batch)
	return all
}

func soughtAll(all []*authz.Admission) []Sought {
	var sought []Sought
	for _, a := range all {
		sought = append(sought, Sought{MsgID: MsgID(Source("test"), a.ID), Subject: Subject(a.Workspace, a.Key, a.Model), Start: a.Start})
	}
	return sought
}

// A look finds exactly what is stored, whether it reads everything or only some
// subjects.
func TestLook(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u, err := OpenUsage(t.Context(), nc, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	empty, _, err := NewSharedUsage(u).Look(t.Context(), soughtAll([]*authz.Admission{admission("1", "")}), time.Time{})
	if err != nil || empty[0] != (Found{}) {
		t.Errorf("in an empty stream: %+v, %v", empty, err)
	}
	all := storedUsage(t, u, 2400)
	for name, most := range map[string]uint64{"all": lookAll, "some": 100} {
		t.Run(name, func(t *testing.T) {
			s := NewSharedUsage(u)
			s.all = most
			sought := soughtAll(all[:1600])
			begin := time.Now()
			found, at, err := s.Look(t.Context(), sought, begin)
			if err != nil {
				t.Fatal(err)
			}
			if at.Before(begin) || at.After(time.Now()) {
				t.Errorf("as it was at %v", at)
			}
			for i, f := range found {
				usage := f.Of(all[i])
				want := [...]authz.Measurement{"", authz.Reported, authz.None, authz.None}[i%4]
				if (usage != nil) != (i%4 > 0) || usage != nil && usage.Measurement != want || f.Adjusted != (i%4 == 3) {
					t.Fatalf("admission %d: %+v, adjusted %v", i, usage, f.Adjusted)
				}
			}
		})
	}
}

// What was seen answers later looks, but none that asks for what came after.
func TestLookRemembers(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u, err := OpenUsage(t.Context(), nc, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	all := storedUsage(t, u, 8)
	s := NewSharedUsage(u)
	s.all = 4 // of some subjects
	look := func(a *authz.Admission, after time.Time) (Found, time.Time) {
		t.Helper()
		found, at, err := s.Look(t.Context(), soughtAll([]*authz.Admission{a}), after)
		if err != nil {
			t.Fatal(err)
		}
		return found[0], at
	}
	_, first := look(all[0], time.Time{})
	if _, at := look(all[3], time.Time{}); !at.Equal(first) {
		t.Error("the same subject was read again")
	}
	if f, at := look(all[1], time.Time{}); at.Equal(first) || f.Usage == nil {
		t.Error("another subject was not read")
	}
	earlier := *all[1]
	earlier.Start = earlier.Start.Add(-time.Minute)
	_, before := look(all[1], time.Time{})
	if _, at := look(&earlier, time.Time{}); at.Equal(before) {
		t.Error("what came earlier was not read")
	}
	f, _ := look(all[4], time.Time{})
	if f.Usage != nil {
		t.Fatalf("%+v", f)
	}
	e := FromUsage(Source("test"), told(all[4]))
	publish(t, u, []Outgoing{{Subject: Subject("demo", "k", all[4].Model), MsgID: MsgID(e.Source, e.ID), Payload: e.AppendJSON(nil)}})
	if f, _ = look(all[4], time.Time{}); f.Usage != nil {
		t.Error("it was read again though that was not asked for")
	}
	if f, _ = look(all[4], time.Now()); f.Usage == nil {
		t.Error("what came since was not seen")
	}
}

// A look that could not read everything is an error, never an answer.
func TestLookWithoutNATS(t *testing.T) {
	r := newRemote(t)
	u, err := OpenUsage(t.Context(), r.connect(), UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	all := storedUsage(t, u, 40)
	s := NewSharedUsage(u)
	r.proxy.swallow(false, true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := s.Look(ctx, soughtAll(all), time.Time{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without an answer: %v", err)
	}
	r.proxy.heal()
	eventually(t, "a look works again", func() bool {
		found, _, err := s.Look(t.Context(), soughtAll(all), time.Now())
		return err == nil && found[1].Usage != nil
	})
	// Somebody removes the newest message by hand: there is no end to read up to.
	info, err := u.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := u.stream.DeleteMsg(t.Context(), info.State.LastSeq); err != nil {
		t.Fatal(err)
	}
	for _, most := range []uint64{lookAll, 4} {
		s.all = most
		if found, _, err := s.Look(t.Context(), soughtAll(all), time.Now()); err != nil || found[1].Usage == nil {
			t.Errorf("without the newest message: %v", err)
		}
	}
}
