package totals

import "math/bits"

// numbers are the sequence numbers of one epoch that were counted. Numbers come
// about in their order, so nearly all blocks of 512 are full; only those that are
// not have a bitmap.
type numbers struct {
	// Blocks before base were all counted, unless they are in blocks; blocks
	// from base on were not, unless they are.
	base   uint64
	blocks map[uint64]*block
	top    uint64 // the first block behind all that have a number
}

type block struct {
	words [blockWords]uint64
	count int
}

const (
	blockWords = 8
	blockBits  = 64 * blockWords
	// window is how many blocks (2 million numbers: more events than a journal
	// of 1 GiB holds) may be open at once, and holes how many before them may
	// have numbers that are missing. Beyond that numbers are given up, which is
	// to take them for counted.
	window, holes = 4096, 4096
)

// add notes a number, from 1 on, and reports whether it is new.
func (n *numbers) add(number uint64) bool {
	at := (number - 1) / blockBits
	b := n.blocks[at]
	if b == nil {
		if at < n.base {
			return false
		}
		b = &block{}
		n.put(at, b)
	}
	if !b.set((number - 1) % blockBits) {
		return false
	}
	if b.count == blockBits {
		n.full(at)
	}
	return true
}

func (b *block) set(bit uint64) bool {
	word, mask := &b.words[bit/64], uint64(1)<<(bit%64)
	if *word&mask != 0 {
		return false
	}
	*word |= mask
	b.count++
	return true
}

// put adds a block at or behind base, and moves base on where it is too far.
func (n *numbers) put(at uint64, b *block) {
	if n.blocks == nil {
		n.blocks = map[uint64]*block{}
	}
	n.blocks[at] = b
	n.top = max(n.top, at+1)
	if n.top-n.base <= window {
		return
	}
	end := n.top - window
	if end-n.base > holes { // a leap: what it leaves out is given up
		n.base = end - holes
	}
	for ; n.base < end; n.base++ {
		switch b := n.blocks[n.base]; {
		case b == nil:
			n.blocks[n.base] = &block{} // none of it was counted
		case b.count == blockBits:
			delete(n.blocks, n.base)
		}
	}
	for at, b := range n.blocks {
		if len(n.blocks) <= window+holes {
			break
		}
		// Which ones hardly matters: this many holes are none of a journal.
		if at < n.base && b.count < blockBits {
			delete(n.blocks, at)
		}
	}
}

// full lets go of a block that has all its numbers.
func (n *numbers) full(at uint64) {
	if at < n.base {
		delete(n.blocks, at)
		return
	}
	for b := n.blocks[n.base]; b != nil && b.count == blockBits; b = n.blocks[n.base] {
		delete(n.blocks, n.base)
		n.base++
	}
}

// restore adds a block as it was; false: it is not one that numbers keeps.
func (n *numbers) restore(at uint64, words [blockWords]uint64) bool {
	const most = (1<<64 - 1) / blockBits
	if at > most || n.blocks[at] != nil {
		return false
	}
	b := &block{words: words}
	for _, w := range words {
		b.count += bits.OnesCount64(w)
	}
	if n.blocks == nil {
		n.blocks = map[uint64]*block{}
	}
	n.blocks[at] = b
	n.top = max(n.top, at+1)
	return true
}
