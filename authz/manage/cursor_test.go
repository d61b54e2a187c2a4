package manage

import (
	"testing"
	"testing/quick"
	"time"
)

// TestBetweenIDs: whatever two ids there are, the place between them is not before the
// first and before the second.
func TestBetweenIDs(t *testing.T) {
	check := func(apart uint16) bool {
		at := time.Now()
		x, y := newID(at), newID(at.Add(time.Duration(apart%5)*time.Millisecond))
		x, y = min(x, y), max(x, y)
		place := between(x, y)
		return x <= place && place < y && isID(place)
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
	if got := between("01940000-0000-7000-8000-000000000001", "01940000-0000-7000-8000-0000000000a2"); got != "01940000-0000-7000-8000-00000000000f" {
		t.Errorf("between them is %s", got)
	}
}
