package totals

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// history is what one series used, by minute. Most of it is packed: the sum of
// it, then entries sorted by time, each as the distance in minutes from the one
// before and its counts, some ten to twenty bytes in all. What changes now is beside it;
// a minute may be in both, and in the second twice after a restart: they add up.
//
// packed is never changed, only replaced, so that a reader may keep it.
type history struct {
	packed []byte
	hot    []entry
	// fine is the first packed minute that doesn't begin an hour.
	fine uint32
}

// entry is what was used in a minute, which is told by its number since 1970.
// From hours on it is the first minute of an hour and means all of it.
type entry struct {
	minute uint32
	Counts
}

const (
	perHour = 60
	perDay  = 24 * perHour
	// maxHot bounds the entries of a series that are not packed.
	maxHot = 16
	noFine = math.MaxUint32
)

func hourOf(minute uint32) uint32 { return minute - minute%perHour }

// add counts c. Minutes before floor are kept by the hour.
func (h *history) add(minute, floor uint32, c *Counts) {
	if minute < floor {
		minute = hourOf(minute)
	}
	for i := len(h.hot) - 1; i >= 0; i-- {
		if h.hot[i].minute == minute {
			h.hot[i].add(c)
			return
		}
	}
	if len(h.hot) >= maxHot {
		h.pack(floor)
	}
	h.hot = append(h.hot, entry{minute, *c})
}

// stale reports whether packing makes the history smaller: nothing was added for
// minutes after quiet, or many entries are finer than they should be by now.
func (h *history) stale(quiet, floor uint32) bool {
	if h.fine < floor && floor-h.fine > 6*perHour { // not each hour anew
		return true
	}
	for i := range h.hot {
		if h.hot[i].minute > quiet {
			return false
		}
	}
	return len(h.hot) > 0
}

// pack takes everything into the packed form.
func (h *history) pack(floor uint32) {
	all := make([]entry, 0, len(h.packed)/8+len(h.hot))
	unpack(h.packed, func(e *entry) { all = append(all, *e) })
	all = append(all, h.hot...)
	var sum Counts
	for i := range all {
		if all[i].minute < floor {
			all[i].minute = hourOf(all[i].minute)
		}
		sum.add(&all[i].Counts)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.minute, b.minute) })

	b := sum.append(make([]byte, 0, len(h.packed)+10*len(h.hot)+16))
	h.fine = noFine
	var before uint32
	for len(all) > 0 {
		e := all[0]
		n := 1
		for ; n < len(all) && all[n].minute == e.minute; n++ {
			e.add(&all[n].Counts)
		}
		all = all[n:]
		if e.equal(&Counts{}) {
			continue
		}
		b = e.append(binary.AppendUvarint(b, uint64(e.minute-before)))
		before = e.minute
		if e.minute%perHour != 0 {
			h.fine = min(h.fine, e.minute)
		}
	}
	h.packed, h.hot = slices.Clip(slices.Clone(b)), nil
}

// sum is all that was ever used.
func (h *history) sum() (total Counts) {
	if len(h.packed) > 0 {
		total.parse(h.packed)
	}
	for i := range h.hot {
		total.add(&h.hot[i].Counts)
	}
	return total
}

// unpack calls yield for each packed entry, in order of time. It returns false
// where b is not what pack makes.
func unpack(b []byte, yield func(*entry)) bool {
	if len(b) == 0 {
		return true
	}
	var e entry
	b, ok := e.parse(b) // the sum
	for ok && len(b) > 0 {
		step, n := binary.Uvarint(b)
		if n <= 0 || step > math.MaxUint32-uint64(e.minute) {
			return false
		}
		e.minute += uint32(step)
		if b, ok = e.parse(b[n:]); ok {
			yield(&e)
		}
	}
	return ok
}

// restore takes a packed form that was read from a file; false: it is none.
func (h *history) restore(packed []byte) bool {
	h.packed, h.fine = slices.Clone(packed), noFine
	var stated, sum Counts
	if len(packed) > 0 {
		stated.parse(packed)
	}
	ok := unpack(packed, func(e *entry) {
		sum.add(&e.Counts)
		if e.minute%perHour != 0 {
			h.fine = min(h.fine, e.minute)
		}
	})
	return ok && sum.equal(&stated)
}
