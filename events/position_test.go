package events

import (
	"math"
	"strings"
	"testing"
)

func TestPosition(t *testing.T) {
	p := Position{"0198f3c2-6c1e-7b7a-9d3e-0123456789ab", 1795258899383284, 17}
	const text = "v1/0198f3c2-6c1e-7b7a-9d3e-0123456789ab/1795258899383284/17" // in streams: never changed
	if p.String() != text {
		t.Errorf("written as %s", p)
	}
	if got, ok := ParsePosition(text); !ok || got != p {
		t.Errorf("read as %v, %v", got, ok)
	}
	for _, bad := range []string{
		"", "v1", "v1/a", "v1/a/1", "v1//1/1", "v1/a/0/1", "v1/a/1/0", "v1/a/1/-1", "v1/a/1/1/1", "v2/a/1/1", "v1/a/1/18446744073709551616",
		"v1/a b/1/1", "v1/a.b/1/1", "v1/é/1/1", "v1/" + strings.Repeat("a", 64) + "/1/1",
	} {
		if p, ok := ParsePosition(bad); ok {
			t.Errorf("%q is read as %v", bad, p)
		}
	}
	if (Position{}).Known() {
		t.Error("nothing is a position")
	}
}

// What is read is a position, and is read again from its written form.
func FuzzParsePosition(f *testing.F) {
	f.Add("v1/a/1/2")
	f.Add(Position{"r", math.MaxUint64, math.MaxUint64}.String())
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := ParsePosition(s)
		if ok != p.Known() {
			t.Fatalf("%q: %v, %v", s, p, ok)
		}
		if again, _ := ParsePosition(p.String()); ok && again != p {
			t.Fatalf("%q: %v, then %v", s, p, again)
		}
	})
}
