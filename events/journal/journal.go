// Package journal keeps on disk what was admitted until the event that tells
// of its use is in the stream. An admission is in the journal before its
// request goes on, and whatever instruction the process is killed at, the next
// one finds it there, either still open or with its event. Both are written to
// memory-mapped, preallocated files, so that an admission costs neither a
// system call nor a lock. docs/design/journal.md has the format and the
// arguments.
package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What the journal refuses with.
var (
	// ErrFull: there is no room that could be kept for the record and, for an
	// admission, for its event too. Room comes back as events are acknowledged.
	ErrFull = errors.New("the journal is full")
	// ErrTooLarge: the record is above MaxPayload or MaxEvent. Final.
	ErrTooLarge = errors.New("too large for the journal")
	// ErrSettled: the admission was settled, or is being settled by another
	// call. Final, unless that other call fails.
	ErrSettled = errors.New("the admission is settled already")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("the journal is closed")
	// ErrLocked: another process has the journal open.
	ErrLocked = errors.New("the journal is in use by another process")
	// ErrNewerVersion: the directory has segments that a newer program wrote.
	ErrNewerVersion = errors.New("the journal was written by a newer version")
	// ErrDisk: with Config.Sync, an earlier flush to disk failed; what the kernel
	// has dropped since can't be known. Only opening the journal anew helps.
	ErrDisk = errors.New("the journal's disk failed")
)

const (
	// MaxPayload is the largest admission, in bytes.
	MaxPayload = maxRecord - recordHeader
	// MaxEvent is the largest sum of subject, message id and payload, in bytes.
	MaxEvent = maxRecord - recordHeader - eventHeader

	// waitForRoom bounds how long Admit and Settle wait for a segment that is
	// being prepared.
	waitForRoom = 20 * time.Millisecond
)

// Config is how a journal is kept. The zero value is fit for use.
type Config struct {
	// SegmentBytes is the size of a segment: a multiple of 64 KiB from 256 KiB
	// to 1 GiB. 0: 16 MiB.
	SegmentBytes int64
	// MaxBytes bounds the disk that the journal takes, at least 8 segments. A
	// stream that is away for long fills it up; then Admit returns ErrFull.
	// 0: 1 GiB.
	MaxBytes int64
	// EventRoom is how many bytes (subject, message id and payload) are kept
	// for the event of each open admission, on disk and from the start: events
	// up to it never meet ErrFull, larger ones may. 64 to MaxEvent; 0: 2 KiB.
	EventRoom int
	// Sync makes Admit and Settle wait until the record is on disk, together
	// with all others that wait at the time: it then survives a power loss too.
	// False: it survives the death of the process, not of the machine.
	Sync bool
	// Log gets what a person should look into. nil: slog.Default().
	Log *slog.Logger

	// preallocate replaces the function of the same name in tests of full disks.
	preallocate func(*os.File, int64) error
}

func (c Config) withDefaults() (Config, error) {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 16 << 20
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1 << 30
	}
	if c.EventRoom == 0 {
		c.EventRoom = 2 << 10
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.preallocate == nil {
		c.preallocate = preallocate
	}
	switch {
	case c.SegmentBytes < minSegment || c.SegmentBytes > maxSegment || c.SegmentBytes%sizeUnit != 0:
		return c, fmt.Errorf("journal: segments of %d bytes: must be a multiple of %d from %d to %d", c.SegmentBytes, sizeUnit, minSegment, maxSegment)
	case c.MaxBytes < 8*c.SegmentBytes:
		return c, fmt.Errorf("journal: at most %d bytes: must be at least eight segments (%d)", c.MaxBytes, 8*c.SegmentBytes)
	case c.EventRoom < 64 || c.EventRoom > MaxEvent:
		return c, fmt.Errorf("journal: %d bytes of room for an event: must be 64 to %d", c.EventRoom, MaxEvent)
	}
	return c, nil
}

// Event is a message for the stream. The stream drops a second one with the
// same MsgID.
type Event struct {
	Subject string
	MsgID   string
	Payload []byte
}

// Ref is where an admission is; good until the journal is closed. The zero Ref
// is none.
type Ref struct {
	seg *segment
	off uint32
}

// Entry is an admission that was open when the journal was opened.
type Entry struct {
	Ref     Ref
	Payload []byte
}

// Journal is an open journal. All methods are safe for concurrent use.
type Journal struct {
	dir   string
	cfg   Config
	epoch uint64
	lock  *os.File // held for flock

	// eventRoom is what one event of Config.EventRoom takes, segmentRoom what a
	// segment has for events at the least: one record may not have fitted at its
	// end, and some admissions that were under way when it came into use stand
	// in it too.
	eventRoom, segmentRoom int64

	cur  atomic.Pointer[segment] // where records go; nil: nowhere
	open atomic.Int64            // admissions not settled
	// limit is how many may be open with room for all their events (announce),
	// lowWater the number at which the keeper should prepare more.
	limit, lowWater atomic.Int64
	seq             atomic.Uint64 // of the last event
	full            atomic.Int64  // ErrFull returned
	closed          atomic.Bool

	mu        sync.Mutex
	segs      []*segment    // in use, by number
	spares    []*segment    // prepared, by number
	bytes     int64         // of all files
	lastID    uint64        // highest segment number given out; written by the keeper only
	exhausted bool          // the keeper can't prepare more for now
	changed   chan struct{} // closed and replaced when spares or exhausted change

	aside   int          // files set aside; written by recovery only
	damaged atomic.Int64 // records that didn't verify
	// unused are files that prepare uses instead of new disk. The keeper's.
	unused []string
	// attic is where the keeper moves admissions, and nobody else writes; nil at
	// first.
	attic *segment

	queue  queue
	group  group
	keeper struct {
		wake chan struct{}
		stop chan struct{}
		done chan struct{}
	}
}

// Open opens the journal in dir, which it makes if need be, and returns the
// admissions that were open, oldest first; each must be settled sometime.
// Events that were not acknowledged are queued for Run.
//
// Damaged segments don't stop it: what verifies is used, the file is kept (see
// Stats), and Config.Log is told. ErrNewerVersion and ErrLocked do stop it,
// before anything is changed.
func Open(dir string, cfg Config) (*Journal, []Entry, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	j := &Journal{
		dir: dir, cfg: cfg, lock: lock,
		eventRoom:   int64(recordSize(eventHeader + cfg.EventRoom)),
		segmentRoom: cfg.SegmentBytes - headerSize - 2*maxRecord,
		changed:     make(chan struct{}),
	}
	j.queue.init()
	j.group.init()
	j.keeper.wake = make(chan struct{}, 1)
	j.keeper.stop = make(chan struct{})
	j.keeper.done = make(chan struct{})

	entries, err := j.restore()
	if err == nil {
		err = j.start()
	}
	if err != nil {
		j.release()
		return nil, nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	go j.keep()
	go j.group.run(j)
	return j, entries, nil
}

// start prepares the first segments. Not being able to is an error, unless
// recovery found something that must be drained first.
func (j *Journal) start() error {
	err := j.prepare()
	err = errors.Join(err, j.dropUnused())
	if len(j.spares) == 0 && len(j.segs) == 0 {
		return err
	}
	if err != nil {
		j.cfg.Log.Error("the journal can't prepare segments; it only drains", "dir", j.dir, "error", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.spares) > 0 {
		j.advance()
	}
	return nil
}

// lockDir makes dir and locks it against other processes.
func lockDir(dir string) (*os.File, error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := syncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, err
	}
	return f, nil
}

// Epoch tells the sequences of one opening of the journal from those of
// another: it only ever grows.
func (j *Journal) Epoch() uint64 { return j.epoch }

// Stats are figures for metrics, each right at some moment of the call.
type Stats struct {
	Open      int64 // admissions not settled
	Waiting   int64 // events not acknowledged
	Segments  int   // files, those prepared ahead included
	Bytes     int64 // their size
	Full      int64 // ErrFull returned since Open
	Published int64 // events acknowledged since Open
	Failed    int64 // tries to publish an event that failed, since Open
	SetAside  int   // *.corrupt files in the directory at Open
	Damaged   int64 // records that did not verify, at Open or when they were read again
}

// Stats returns the current figures.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	s := Stats{
		Segments: len(j.segs) + len(j.spares), Bytes: j.bytes,
		SetAside: j.aside, Damaged: j.damaged.Load(),
	}
	j.mu.Unlock()
	s.Open, s.Full = j.open.Load(), j.full.Load()
	s.Waiting, s.Published, s.Failed = j.queue.figures()
	return s
}

// Close lets calls of Admit and Settle that are under way end, flushes, and
// lets go of the directory. Open admissions and waiting events stay in it. Run
// and Flush return ErrClosed. A second call returns ErrClosed.
func (j *Journal) Close() error {
	if j.closed.Swap(true) {
		return ErrClosed
	}
	j.queue.close()
	close(j.keeper.stop)
	<-j.keeper.done // nobody but us changes segs and spares from here on

	j.mu.Lock()
	for _, s := range j.segs {
		s.seal()
	}
	j.announce()
	segs := slices.Clone(j.segs)
	j.mu.Unlock()

	for _, s := range segs {
		for !s.complete() { // a copy of some kilobytes away
			time.Sleep(10 * time.Microsecond)
		}
	}
	j.group.close()
	var err error
	for _, s := range segs {
		s.dirty.Store(true)
		err = errors.Join(err, s.flushDirty())
	}
	j.release()
	return err
}

// release unmaps everything and gives up the lock.
func (j *Journal) release() {
	for _, s := range slices.Concat(j.segs, j.spares) {
		s.unmap()
	}
	j.lock.Close()
}
