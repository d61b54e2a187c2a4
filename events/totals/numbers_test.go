package totals

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the order and the repetitions, each number is new once. Most of the
// numbers are near each other, as a journal's are.
func TestNumbersOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var n numbers
		want := map[uint64]bool{}
		next := rapid.Uint64Range(0, 3*blockBits).Draw(t, "start")
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			var from, to uint64
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0: // a run in order
				from, to = next+1, next+1+rapid.Uint64Range(0, 2*blockBits).Draw(t, "run")
				next = to
			case 1: // a gap
				next += rapid.Uint64Range(1, 3*blockBits).Draw(t, "gap")
				continue
			default: // something before
				from = rapid.Uint64Range(1, next+1).Draw(t, "again")
				to = from
				next = max(next, to)
			}
			for number := from; number <= to; number++ {
				if got := n.add(number); got == want[number] {
					t.Fatalf("number %d: new is %v", number, got)
				}
				want[number] = true
			}
		}
		open := map[uint64]bool{} // blocks that lack a number
		for at := range n.top {
			for number := at*blockBits + 1; number <= (at+1)*blockBits; number++ {
				if !want[number] {
					open[at] = true
				}
			}
		}
		// Nothing is kept of full blocks behind which none is open.
		for at := range n.blocks {
			if at < n.base && !open[at] {
				t.Fatalf("block %d is full and kept", at)
			}
		}
	})
}

// A number that is stuck for ever costs a block, not the numbers behind it; and
// it is still new when it comes.
func TestNumbersStuck(t *testing.T) {
	var n numbers
	for number := uint64(1); number < 5_000_000; number++ {
		if number != 77 && !n.add(number) {
			t.Fatalf("%d is not new", number)
		}
	}
	if len(n.blocks) > window+1 {
		t.Errorf("%d blocks are kept", len(n.blocks))
	}
	for number := uint64(1); number < 5_000_000; number++ {
		if n.add(number) != (number == 77) {
			t.Fatalf("%d is new again", number)
		}
	}
}

// Every second number is missing, then comes.
func TestNumbersAlternate(t *testing.T) {
	var n numbers
	const end = 1_500_000 // more than a journal holds
	for _, odd := range []uint64{1, 0} {
		for number := uint64(1); number < end; number++ {
			if number%2 == odd && !n.add(number) {
				t.Fatalf("%d is not new", number)
			}
		}
	}
	if len(n.blocks) > 1 {
		t.Errorf("%d blocks are kept", len(n.blocks))
	}
}

// A leap leaves out whole blocks, whose numbers are still new when they come. What
// is full needs no room.
func TestNumbersLeap(t *testing.T) {
	var n numbers
	run := func(from, to uint64) {
		t.Helper()
		for number := from*blockBits + 1; number <= to*blockBits; number++ {
			if !n.add(number) {
				t.Fatalf("%d is not new", number)
			}
		}
	}
	n.add(1)
	run(1, 50)
	if !n.add((window+100)*blockBits + 1) {
		t.Error("the leap is not new")
	}
	// Block 0, those from 50 on that the window has left behind, and the leap.
	if got, want := len(n.blocks), 1+51+1; got != want {
		t.Errorf("%d blocks are kept, want %d", got, want)
	}
	run(50, window+100)
	if len(n.blocks) != 2 {
		t.Errorf("%d blocks are kept, want 2", len(n.blocks))
	}
	if n.add(77*blockBits) || n.add(50*blockBits) || n.add(1) {
		t.Error("a number is new twice")
	}
}

// However wild the numbers are, memory is bounded, and none counts twice.
func TestNumbersBounded(t *testing.T) {
	var n numbers
	number := uint64(1)
	for i := range uint64(30_000) {
		if !n.add(number) {
			t.Fatalf("%d is not new", number)
		}
		if n.add(number) {
			t.Fatalf("%d is new twice", number)
		}
		number += blockBits + i%7*blockBits
	}
	for _, number := range []uint64{math.MaxUint64, math.MaxUint64 - 1, 1 << 40} {
		n.add(number)
		if n.add(number) {
			t.Fatalf("%d is new twice", number)
		}
	}
	if len(n.blocks) > window+holes+1 {
		t.Errorf("%d blocks are kept", len(n.blocks))
	}
}
