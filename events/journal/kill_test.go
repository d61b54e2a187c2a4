package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// child is the process that TestKill kills: it admits and settles as fast as it
// can and says on stdout what it was told, one line each: "admitted ID",
// "settled ID EVENT", "released ID", "published ID EVENT" (before it acknowledges). Every event
// has a word of its own, so that two for one admission can be told apart.
func child(dir string) {
	cfg := small()
	cfg.MaxBytes = 32 * minSegment // crowded soon, so that admissions are moved
	j, entries, err := Open(dir, cfg)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) } // one write a line
	var n atomic.Int64
	settle := func(id string, ref Ref) {
		word := fmt.Sprintf("%d.%d", os.Getpid(), n.Add(1))
		if err := j.Settle(ref, Event{Subject: "s", MsgID: id, Payload: []byte(word)}); err != nil {
			say("failed settle %s: %v", id, err)
			return
		}
		say("settled %s %s", id, word)
	}
	go j.Run(context.Background(), func(_ context.Context, batch []Outgoing) []error {
		errs := make([]error, len(batch))
		for i, out := range batch {
			if rand.N(10) == 0 {
				errs[i] = errAway
				continue
			}
			say("published %s %s", out.MsgID, out.Payload)
		}
		return errs
	})
	go func() {
		for _, e := range entries {
			id, _, _ := strings.Cut(string(e.Payload), " ")
			settle(id, e.Ref)
		}
	}()
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
				ref, err := j.Admit([]byte(id + " " + strings.Repeat("p", rand.N(2000))))
				if errors.Is(err, ErrFull) {
					continue
				}
				if err != nil {
					say("failed admit %s: %v", id, err)
					continue
				}
				say("admitted %s", id)
				if i%50 == 0 {
					continue // left open
				}
				if i%20 == 1 {
					if err := j.Release(ref); err != nil {
						say("failed release %s: %v", id, err)
						continue
					}
					say("released %s", id)
					continue
				}
				settle(id, ref)
			}
		}()
	}
	select {}
}

// What a process killed at any instruction was told holds for the next one:
// what was admitted is open or has its one event, never both.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	admitted := make(map[string]bool)
	released := make(map[string]bool)
	event := make(map[string]string) // id → the word of its event
	see := func(id, word string) {
		if w, ok := event[id]; ok && w != word {
			t.Errorf("two events for %s: %s, %s", id, w, word)
		}
		event[id] = word
	}
	for round := range 6 {
		lines := 200 + rand.N(6000)
		for _, line := range runAndKill(t, dir, lines) {
			f := strings.Fields(line)
			switch {
			case f[0] == "admitted" && len(f) == 2:
				admitted[f[1]] = true
			case f[0] == "released" && len(f) == 2:
				released[f[1]] = true
			case (f[0] == "settled" || f[0] == "published") && len(f) == 3:
				see(f[1], f[2])
			default:
				t.Fatalf("round %d: the child said %q", round, line)
			}
		}
		// Look, as the next process would, but leave it to it.
		open, waiting := look(t, dir)
		for id, word := range waiting {
			see(id, word)
		}
		for id := range open {
			if w, ok := event[id]; ok {
				t.Errorf("round %d: %s is open, and has the event %s", round, id, w)
			}
		}
		for id := range released {
			if open[id] || event[id] != "" {
				t.Errorf("round %d: %s is back after it was released", round, id)
			}
		}
		for id := range admitted {
			if event[id] == "" && !open[id] && !released[id] && !releasing(id) {
				t.Errorf("round %d: %s is lost", round, id)
			}
		}
		t.Logf("round %d: %d admitted, %d open, %d events wait", round, len(admitted), len(open), len(waiting))
	}
}

// runAndKill starts the child, lets it say so many lines, kills it, and returns
// all complete lines.
func runAndKill(t *testing.T, dir string, lines int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "JOURNAL_TEST_CHILD="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	var said []string
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break // the end, perhaps in the middle of a line
		}
		said = append(said, strings.TrimSuffix(line, "\n"))
		if len(said) == lines {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if len(said) < lines {
		t.Fatalf("the child said only %d lines: %q", len(said), said[max(0, len(said)-3):])
	}
	return said
}

// look opens the journal, tells what is in it, and changes nothing.
func look(t *testing.T, dir string) (open map[string]bool, waiting map[string]string) {
	t.Helper()
	j, entries := mustOpen(t, dir, small())
	defer j.Close()
	if s := j.Stats(); s.Damaged != 0 || s.SetAside != 0 {
		t.Errorf("stats: %+v", s)
	}
	open, waiting = make(map[string]bool), make(map[string]string)
	for _, e := range entries {
		id, _, _ := strings.Cut(string(e.Payload), " ")
		if open[id] {
			t.Errorf("%s is open twice", id)
		}
		open[id] = true
	}
	refs := j.queue.pop()
	for ; len(refs) > 0; refs = j.queue.pop() {
		for _, ref := range refs {
			out, err := ref.outgoing()
			if err != nil || waiting[out.MsgID] != "" {
				t.Errorf("event of %q: %v", out.MsgID, err)
			}
			waiting[out.MsgID] = string(out.Payload)
		}
	}
	return open, waiting
}

// releasing says whether the child was about to release an admission, and may
// have been killed before it could say so.
func releasing(id string) bool {
	parts := strings.Split(id, "-")
	n, err := strconv.Atoi(parts[len(parts)-1])
	return err == nil && n%20 == 1
}
