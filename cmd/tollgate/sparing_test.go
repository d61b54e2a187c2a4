package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written is what a log has written.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// lines are the messages that were written since the last call, with their counts.
func (w *written) lines(t *testing.T) (said []string, times int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	d := json.NewDecoder(&w.text)
	for d.More() {
		var line struct {
			Msg   string `json:"msg"`
			Times int    `json:"times"`
		}
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		said = append(said, line.Msg)
		times += max(1, line.Times)
	}
	w.text.Reset()
	return said, times
}

func TestSparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out written
		spared := newSparing(logTo(&out, slog.LevelInfo).Handler())
		log := slog.New(spared)
		expect := func(what string, lines, times int) {
			t.Helper()
			synctest.Wait()
			if said, n := out.lines(t); len(said) != lines || n != times {
				t.Errorf("%s: %d lines for %d times, want %d for %d: %v", what, len(said), n, lines, times, said)
			}
		}
		log.Warn("lost", "id", 1)
		expect("the first, at once", 1, 1)
		other := log.With("part", "other")
		for i := range 1000 {
			log.Warn("lost", "id", i)
		}
		other.Warn("lost")
		log.Warn("another")
		expect("others, at once", 2, 2)
		time.Sleep(sparingTime + time.Second/2)
		expect("what went on, in one line", 1, 1000)
		for range 25 { // a second each
			log.Warn("lost")
			time.Sleep(time.Second)
		}
		expect("what goes on, every ten seconds", 2, 20)
		spared.flush()
		expect("the rest, before the end", 1, 5)

		for range firstErrors + 7 {
			log.Error("broken")
		}
		expect("errors, the first ones at once", firstErrors, firstErrors)
		for range 100 {
			log.Info("told")
			log.Error("an entry", onlyRecord, "all there is")
		}
		expect("what nobody wants to miss", 200, 200)
		time.Sleep(sparingTime + time.Second)
		expect("errors, the rest", 1, 7)

		time.Sleep(2 * sparingTime)
		expect("nothing more", 0, 0)
		if n := len(spared.said.lines); n != 0 {
			t.Errorf("%d messages are still known", n)
		}
		log.Warn("lost")
		expect("the first after a rest, at once", 1, 1)
		spared.flush()
	})
}
