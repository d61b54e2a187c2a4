package key

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func secretOf(text string) Secret { return Secret{Digest: DigestOf(text)} }

func TestRotate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := &Record{Status: Active, Secrets: []Secret{secretOf("one")}} // stored before there was rotation
	valid := func(at time.Time, want ...string) {
		t.Helper()
		for _, text := range []string{"one", "two", "three", "four"} {
			open := false
			for _, w := range want {
				open = open || w == text
			}
			if r.Valid(DigestOf(text), at) != open {
				t.Errorf("at %v secret %s opens: %t", at.Sub(now), text, !open)
			}
		}
	}
	r.Rotate(secretOf("two"), 2*time.Second, now)
	valid(now, "one", "two")
	valid(now.Add(2*time.Second-1), "one", "two")
	valid(now.Add(2*time.Second), "two") // and nothing was written
	if r.Secrets[0].Number != 2 || r.Secrets[1].Number != 1 {
		t.Errorf("numbers %d and %d", r.Secrets[0].Number, r.Secrets[1].Number)
	}

	r.Rotate(secretOf("three"), time.Hour, now.Add(time.Second)) // a rotating key: the oldest dies at once
	valid(now.Add(time.Second), "two", "three")
	if err := r.RevokeSecret(3, now.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	valid(now.Add(2*time.Second), "two")
	if err := r.RevokeSecret(2, now.Add(2*time.Second)); !errors.Is(err, ErrLastSecret) {
		t.Errorf("the last one: %v", err)
	}
	for _, number := range []int{3, 1, 0, 4, -1} {
		if err := r.RevokeSecret(number, now.Add(2*time.Second)); !errors.Is(err, ErrNoSecret) {
			t.Errorf("secret %d: %v", number, err)
		}
	}
	// The revoked one is newer, but the one that callers use is what lives on,
	// and not for longer than it was promised.
	r.Rotate(secretOf("four"), 48*time.Hour, now.Add(2*time.Second))
	valid(now.Add(3*time.Second), "two", "four")
	valid(now.Add(time.Hour+time.Second), "four")
	if r.Secrets[0].Number != 4 {
		t.Errorf("number %d", r.Secrets[0].Number)
	}
}

// TestRotateWithoutGrace: the old secret is dead by itself, whatever a clock says.
func TestRotateWithoutGrace(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := &Record{Status: Active, Secrets: []Secret{secretOf("one")}}
	r.Rotate(secretOf("two"), 0, now)
	if at := now.Add(-time.Hour); r.Valid(DigestOf("one"), at) || !r.Valid(DigestOf("two"), at) {
		t.Error("a slow clock brings the old secret back")
	}
}

// TestSecretsNeverComeBack: whatever is done in whatever order, a secret that was
// refused once is refused for ever, there are two at most, numbers only rise, and
// something opens the key as long as no grace period ends.
func TestSecretsNeverComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		r := &Record{Status: Active, Secrets: []Secret{secretOf("0")}}
		dead, last := map[Digest]bool{}, 1
		all := []Secret{r.Secrets[0]}
		for step := range rapid.IntRange(1, 30).Draw(t, "steps") {
			r = r.Clone()
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				s := secretOf(string(rune('a' + step)))
				all = append(all, s)
				r.Rotate(s, time.Duration(rapid.IntRange(0, 5).Draw(t, "grace"))*time.Second, now)
				if r.Secrets[0].Number <= last || !r.Valid(s.Digest, now) {
					t.Fatalf("number %d after %d", r.Secrets[0].Number, last)
				}
				last = r.Secrets[0].Number
			case 1:
				number := rapid.IntRange(1, last).Draw(t, "number")
				if err := r.RevokeSecret(number, now); err == nil && !anyOpens(r, all, now) {
					t.Fatal("revoking one left none")
				}
			case 2:
				now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second)
			}
			if len(r.Secrets) > 2 {
				t.Fatalf("%d secrets", len(r.Secrets))
			}
			for _, s := range all {
				switch open := r.Valid(s.Digest, now); {
				case open && dead[s.Digest]:
					t.Fatal("a dead secret opens again")
				case !open:
					dead[s.Digest] = true
				}
			}
		}
	})
}

func anyOpens(r *Record, all []Secret, now time.Time) bool {
	for _, s := range all {
		if r.Valid(s.Digest, now) {
			return true
		}
	}
	return false
}

// TestStoredForms reads what earlier programs stored, and writes today's form as
// it was frozen.
func TestStoredForms(t *testing.T) {
	for _, name := range []string{"record-v1-before-rotation.json", "record-v1.json", "record-v1-raised.json"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var r Record
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		now := time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)
		if r.Version != RecordVersion || !r.Valid(DigestOf("secret"), now) || r.Models == nil || r.Opens("x") {
			t.Errorf("%s: read as %+v", name, r)
		}
		if name == "record-v1-before-rotation.json" {
			continue
		}
		if r.Valid(DigestOf("secret"), now.Add(time.Hour)) || !r.Valid(DigestOf("newer"), now.Add(time.Hour)) {
			t.Errorf("%s: the grace period is lost: %+v", name, r)
		}
		again, err := json.Marshal(&r)
		if err != nil || string(again)+"\n" != string(text) {
			t.Errorf("%s is written as\n%s (%v)", name, again, err)
		}
	}
}
