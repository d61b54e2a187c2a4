package money_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"tollgate/authz/money"
)

func TestPacked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, _ := anAmount(t, "a")
		b, _ := anAmount(t, "b")
		packed := b.AppendPacked(a.AppendPacked([]byte("x")))
		first, rest, ok := money.ParsePacked(packed[1:])
		if !ok || first.Cmp(a) != 0 {
			t.Fatalf("%s is read as %s, %v", a, first, ok)
		}
		if second, rest, ok := money.ParsePacked(rest); !ok || second.Cmp(b) != 0 || len(rest) != 0 {
			t.Fatalf("%s is read as %s, %v, and %x is left", b, second, ok, rest)
		}
		if _, rest, ok := money.ParsePacked(a.AppendPacked(nil)[:len(a.AppendPacked(nil))-1]); ok && len(rest) == 0 {
			t.Fatalf("%s is read though it is cut short", a)
		}
	})
	if got := money.New(15, 2).AppendPacked(nil); !bytes.Equal(got, []byte{4, 30}) {
		t.Errorf("0.15 is % x", got)
	}
}

func FuzzParsePacked(f *testing.F) {
	f.Add([]byte{4, 30})
	f.Add([]byte{5, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{4, 40})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, _, ok := money.ParsePacked(b)
		if !ok {
			return
		}
		packed := a.AppendPacked(nil)
		again, none, ok := money.ParsePacked(packed)
		if !ok || len(none) > 0 || again.Cmp(a) != 0 {
			t.Fatalf("%s is read from % x, written as % x and read as %s, %v", a, b, packed, again, ok)
		}
	})
}
