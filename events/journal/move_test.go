package journal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A few requests that take long don't hold a journal's worth of segments: more
// passes through than fits in, old refs go on to work, and a restart finds each
// admission once.
func TestLongRequestsDontFillTheJournal(t *testing.T) {
	dir := t.TempDir()
	cfg := small()
	j, _ := mustOpen(t, dir, cfg)
	long := make(map[string]Ref)
	for sent := int64(0); sent < 4*cfg.MaxBytes; {
		id, size := fmt.Sprint("long ", len(long)), 4000
		more := len(long) == 0 || sent/minSegment > int64(len(long)) // one a segment
		if more {
			size = 0
		}
		ref, err := j.Admit(append([]byte(id), make([]byte, size)...))
		if errors.Is(err, ErrFull) {
			eventually(t, "room", func() bool { j.mu.Lock(); defer j.mu.Unlock(); return len(j.spares) > 0 })
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if more {
			long[id] = ref
			continue
		}
		mustSettle(t, j, ref, event("short"))
		drain(t, j)
		sent += 4000
	}
	first := long["long 0"]
	if _, err := os.Stat(first.seg.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first segment is still there: %v", err)
	}
	if s := j.Stats(); s.Open != int64(len(long)) || s.Bytes > cfg.MaxBytes {
		t.Errorf("%d long requests, stats %+v", len(long), s)
	}
	mustSettle(t, j, first, event("0"))
	if err := j.Settle(first, event("0")); !errors.Is(err, ErrSettled) {
		t.Errorf("settled twice: %v", err)
	}
	if got := drain(t, j); len(got) != 1 || got[0].MsgID != "msg-0" {
		t.Errorf("events: %v", got)
	}
	j.Close()

	j, entries := mustOpen(t, dir, cfg)
	if len(entries) != len(long)-1 {
		t.Errorf("%d open, want %d", len(entries), len(long)-1)
	}
	for _, e := range entries {
		if _, ok := long[string(e.Payload)]; !ok || !strings.HasPrefix(string(e.Payload), "long ") {
			t.Errorf("open: %q", e.Payload)
		}
		delete(long, string(e.Payload))
		mustSettle(t, j, e.Ref, event("x"))
	}
}
