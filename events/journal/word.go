package journal

import (
	"sync/atomic"
	"unsafe"
)

// This file is the package's only use of unsafe: atomic access to words inside
// a mapped segment. The slice expression checks the bounds. Alignment holds
// because mappings begin on a page and every offset that is passed here is a
// multiple of the word's size. The words are in the machine's byte order,
// everything else in a segment is little-endian; segments don't move between
// machines of different byte order.

func load64(mem []byte, off uint32) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&mem[off : off+8][0]))) //nolint:gosec // see above
}

func store64(mem []byte, off uint32, v uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&mem[off : off+8][0])), v) //nolint:gosec // see above
}

func load32(mem []byte, off uint32) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&mem[off : off+4][0]))) //nolint:gosec // see above
}

func store32(mem []byte, off uint32, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&mem[off : off+4][0])), v) //nolint:gosec // see above
}

func cas32(mem []byte, off uint32, from, to uint32) bool {
	return atomic.CompareAndSwapUint32((*uint32)(unsafe.Pointer(&mem[off : off+4][0])), from, to) //nolint:gosec // see above
}
