package journal

import (
	"errors"
	"slices"
	"testing"
)

// TestEachWaiting: after a restart everything is told that was settled and not
// acknowledged, and nothing else.
func TestEachWaiting(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, small())
	ids := settleMany(t, j, 0, 5)
	mustAdmit(t, j, "open")
	j.Close()

	j, _ = mustOpen(t, dir, small())
	var told []string
	if err := j.EachWaiting(func(e Event) { told = append(told, e.MsgID) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, ids) {
		t.Errorf("told of %v, want %v", told, ids)
	}
	if n := j.Stats().Waiting; n != 5 {
		t.Errorf("%d wait after it, want all 5", n)
	}
	j.Close()
	if err := j.EachWaiting(func(Event) { t.Error("told of an event of a closed journal") }); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed journal: %v", err)
	}
}
