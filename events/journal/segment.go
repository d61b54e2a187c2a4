package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A segment's header, little-endian: magic, version (32 bits), seed (32 bits),
// number, epoch, size (64 bits each), zeros, and at 60 the CRC-32C of the rest.
// Magic and version keep their places in every version to come.
const (
	headerSize    = 64
	formatVersion = 1
	magic         = "TGJOURNL"

	suffix     = ".seg"
	tmpSuffix  = ".tmp"     // being made; holds no record
	asideSuf   = ".corrupt" // moved aside by recovery, kept for a person to look at
	sizeUnit   = 64 << 10   // segments are multiples of the largest page in use
	minSegment = 256 << 10
	maxSegment = 1 << 30
)

var errForeign = errors.New("not a journal segment, or its header is damaged")

type header struct {
	seed      uint32
	id, epoch uint64
	size      uint64
}

func (h header) put(b []byte) {
	clear(b[:headerSize])
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], h.seed)
	binary.LittleEndian.PutUint64(b[16:], h.id)
	binary.LittleEndian.PutUint64(b[24:], h.epoch)
	binary.LittleEndian.PutUint64(b[32:], h.size)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
}

// parseHeader returns ErrNewerVersion or errForeign for what it can't read.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return header{}, errForeign
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > formatVersion {
		return header{}, fmt.Errorf("%w: format %d, this program reads up to %d", ErrNewerVersion, v, formatVersion)
	}
	h := header{
		seed:  binary.LittleEndian.Uint32(b[12:]),
		id:    binary.LittleEndian.Uint64(b[16:]),
		epoch: binary.LittleEndian.Uint64(b[24:]),
		size:  binary.LittleEndian.Uint64(b[32:]),
	}
	if binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) ||
		h.size < minSegment || h.size > maxSegment || h.size%sizeUnit != 0 {
		return header{}, errForeign
	}
	return h, nil
}

// segment is one mapped file. Writers reserve by adding to tail. It may be
// unmapped when it is quiet: full, every reservation in it committed, and
// nothing in it open.
type segment struct {
	header
	path string
	file *os.File

	// mem is the mapping, nil once it is gone. A writer between its reservation
	// and its commit reads it freely, because the segment isn't quiet then; all
	// others hold life.
	mem  []byte
	life sync.RWMutex

	tail      atomic.Uint64 // next free offset; beyond size once it is full
	committed atomic.Uint64 // bytes of header and committed records
	end       atomic.Uint64 // what committed comes to; MaxUint64 until it is full
	live      atomic.Int64  // open admissions and events nobody acknowledged

	// linked says that admissions were moved into it or out of it, or perhaps
	// were, before a restart. The keeper's.
	linked bool

	// dirty says that something was stored that a later deletion or a waiting
	// caller needs on disk. It is set after the store it tells of.
	dirty   atomic.Bool
	syncing sync.Mutex // whoever sees dirty unset under it knows that the flush is over

	damaged atomic.Int64 // records that didn't verify
	moves   moves
}

func segmentPath(dir string, id uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", id, suffix))
}

// createSegment makes segment id, ready for admissions: preallocated, mapped,
// durable under its name. from, if not "", is a segment file that nobody needs,
// used instead of new disk: so room that was promised is never given back to a
// full disk in between.
func createSegment(dir string, h header, from string, alloc func(*os.File, int64) error) (*segment, error) {
	var seed [4]byte
	rand.Read(seed[:]) // crypto/rand.Read never returns an error
	h.seed = binary.LittleEndian.Uint32(seed[:])

	path := segmentPath(dir, h.id)
	tmp := path + tmpSuffix
	flags := os.O_RDWR | os.O_CREATE | os.O_TRUNC
	if from != "" {
		// When its contents go, its old name must be gone for good.
		if err := errors.Join(os.Rename(from, tmp), syncDir(dir)); err != nil {
			return nil, err
		}
		flags = os.O_RDWR
		alloc = func(f *os.File, size int64) error {
			return errors.Join(writeZeros(f, 0, size), f.Truncate(size))
		}
	}
	f, err := os.OpenFile(tmp, flags, 0o600)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*segment, error) {
		f.Close()
		_ = os.Remove(tmp) // the next start clears it away
		return nil, fmt.Errorf("preparing journal segment %s: %w", path, err)
	}
	if err := alloc(f, int64(h.size)); err != nil {
		return fail(err)
	}
	var b [headerSize]byte
	h.put(b[:])
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return fail(err)
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	s, err := mapSegment(f, path, h)
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(populate(s.mem), os.Rename(tmp, path), syncDir(dir)); err != nil {
		s.unmap()
		_ = os.Remove(path)
		_ = os.Remove(tmp) // the next start clears it away
		return nil, fmt.Errorf("preparing journal segment %s: %w", path, err)
	}
	s.tail.Store(headerSize)
	s.committed.Store(headerSize)
	s.end.Store(math.MaxUint64)
	return s, nil
}

// mapSegment maps f, which has the header's size. On success the segment owns f.
func mapSegment(f *os.File, path string, h header) (*segment, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, int(h.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	return &segment{header: h, path: path, file: f, mem: mem}, nil
}

// reserve takes n bytes; false if the segment is full.
func (s *segment) reserve(n uint32) (uint32, bool) {
	next := s.tail.Add(uint64(n))
	off := next - uint64(n)
	if next <= s.size {
		return uint32(off), true
	}
	if off <= s.size { // the first that doesn't fit, and the only one to come here
		s.end.Store(off)
	}
	return 0, false
}

// free is how many bytes can still be reserved.
func (s *segment) free() int64 {
	return int64(s.size) - int64(min(s.tail.Load(), s.size))
}

// seal makes a segment full.
func (s *segment) seal() {
	n := s.size + 1
	if off := s.tail.Add(n) - n; off <= s.size {
		s.end.Store(off)
	}
}

// written tells of a committed record of n bytes.
func (s *segment) written(n uint32) {
	s.live.Add(1) // before committed: quiet reads them in the other order
	s.committed.Add(uint64(n))
}

// complete says that the segment is full and no writer is or will be between reservation and commit.
func (s *segment) complete() bool { return s.committed.Load() == s.end.Load() }

// quiet says that nobody needs the segment any more.
func (s *segment) quiet() bool { return s.complete() && s.live.Load() == 0 }

// setState stores a record's state unless the segment is gone.
func (s *segment) setState(off, state uint32) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.mem == nil {
		return
	}
	store32(s.mem, off+atState, state)
	s.dirty.Store(true)
}

// changeState does so if the segment is there and the record's state is from.
func (s *segment) changeState(off, from, to uint32) bool {
	s.life.RLock()
	defer s.life.RUnlock()
	return s.mem != nil && cas32(s.mem, off+atState, from, to)
}

// flushDirty returns when everything stored before dirty was set is on disk.
func (s *segment) flushDirty() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if !s.dirty.Swap(false) {
		return nil
	}
	s.life.RLock()
	defer s.life.RUnlock()
	if s.mem == nil {
		return nil
	}
	if err := flush(s.file, s.mem); err != nil {
		s.dirty.Store(true)
		return fmt.Errorf("flushing journal segment %s: %w", s.path, err)
	}
	return nil
}

// unmap lets go of mapping and file. No writer may be in the segment.
func (s *segment) unmap() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.mem == nil {
		return
	}
	_ = unix.Munmap(s.mem) // it fails only for what was never mapped
	s.file.Close()
	s.mem = nil
}

// writeZeros writes zeros, which take up disk, from one offset to another.
func writeZeros(f *os.File, from, to int64) error {
	zeros := make([]byte, 256<<10)
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// syncDir makes creations, renames and deletions in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
