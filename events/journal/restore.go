package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// restore reads what earlier processes left: it fills segs, unused and the
// queue, and returns the open admissions.
func (j *Journal) restore() ([]Entry, error) {
	ids, err := j.list()
	if err != nil {
		return nil, err
	}
	// All headers first: a segment of a newer version stops us while nothing is
	// changed yet.
	headers := make(map[uint64]header)
	for _, id := range ids {
		h, err := readHeader(segmentPath(j.dir, id))
		switch {
		case errors.Is(err, errForeign), err == nil && h.id != id:
		case err != nil:
			return nil, err
		default:
			headers[id] = h
			j.epoch = max(j.epoch, h.epoch)
		}
	}
	// The time makes epochs unique even if the directory was emptied.
	j.epoch = max(j.epoch+1, uint64(time.Now().UnixMicro()))

	r := recovery{open: make(map[position]record)}
	for _, id := range ids {
		h, ok := headers[id]
		if !ok {
			if err := j.setAside(id); err != nil {
				return nil, err
			}
			continue
		}
		s, err := j.openSegment(h)
		if err != nil {
			return nil, err
		}
		if r.read(s) {
			j.segs = append(j.segs, s)
			j.bytes += int64(h.size)
		} else {
			s.unmap()
			j.unused = append(j.unused, s.path)
		}
		if n := s.damaged.Load(); n > 0 {
			j.damaged.Add(n)
			j.cfg.Log.Error("the journal has damaged records; the segment is kept as a "+asideSuf+" file when the rest of it is done", "file", s.path, "records", n)
		}
	}
	// A new segment must not get a number that an old record names.
	j.lastID = max(j.lastID, r.lastID)
	return r.finish(j), nil
}

// recovery joins admissions with their events.
type recovery struct {
	segs   []*segment
	open   map[position]record
	ended  []position // admissions that have an event or a copy
	events []Ref      // not acknowledged
	lastID uint64     // highest segment number that a record names
}

// read takes in a segment; false if nothing was ever written to it.
func (r *recovery) read(s *segment) bool {
	r.segs = append(r.segs, s)
	f := scan(s.mem, s.seed, func(rec record) {
		if rec.of.offset != 0 {
			r.ended = append(r.ended, rec.of)
			r.lastID = max(r.lastID, rec.of.segment)
		}
		switch {
		case rec.state == stateDone:
		case rec.kind == settled:
			r.events = append(r.events, Ref{s, rec.offset})
		default:
			r.open[position{s.id, rec.offset}] = rec
		}
	})
	s.damaged.Store(f.damaged)
	s.linked = true
	s.end.Store(s.size) // nothing is appended to it
	s.committed.Store(s.size)
	return f.used
}

// finish puts the states right, fills the queue and counts. An admission that
// another record names is done, whatever its state says; else a claim is void.
func (r *recovery) finish(j *Journal) []Entry {
	byID := make(map[uint64]*segment)
	for _, s := range r.segs {
		byID[s.id] = s
	}
	for _, at := range r.ended {
		if _, ok := r.open[at]; ok {
			byID[at.segment].setState(at.offset, stateDone)
			delete(r.open, at)
		}
	}
	for _, e := range r.events {
		e.seg.live.Add(1)
	}
	j.queue.push(r.events...)
	entries := make([]Entry, 0, len(r.open))
	for at, rec := range r.open {
		s := byID[at.segment]
		s.setState(at.offset, stateOpen)
		s.live.Add(1)
		entries = append(entries, Entry{Ref{s, at.offset}, slices.Clone(rec.body)})
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Ref.seg.id, b.Ref.seg.id), cmp.Compare(a.Ref.off, b.Ref.off))
	})
	j.open.Store(int64(len(entries)))
	return entries
}

// list returns the numbers of the segment files, sorted, and removes what was
// being made when the process was killed.
func (j *Journal) list() ([]uint64, error) {
	files, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, f := range files {
		name, ext, _ := strings.Cut(f.Name(), ".")
		id, err := strconv.ParseUint(name, 16, 64)
		if err != nil || len(name) != 16 {
			continue
		}
		switch "." + ext {
		case suffix:
			ids = append(ids, id)
		case suffix + tmpSuffix:
			if err := os.Remove(filepath.Join(j.dir, f.Name())); err != nil {
				return nil, err
			}
		case asideSuf:
			j.aside++
		default:
			continue
		}
		j.lastID = max(j.lastID, id)
	}
	slices.Sort(ids)
	return ids, nil
}

func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(f, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return header{}, errForeign
		}
		return header{}, err
	}
	h, err := parseHeader(b)
	if err != nil {
		return header{}, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// setAside renames a file that can't be read, so that a person can.
func (j *Journal) setAside(id uint64) error {
	path := segmentPath(j.dir, id)
	aside := strings.TrimSuffix(path, suffix) + asideSuf
	if err := errors.Join(os.Rename(path, aside), syncDir(j.dir)); err != nil {
		return err
	}
	j.aside++
	j.cfg.Log.Error("a journal segment can't be read and was set aside; what it held is not published", "file", aside)
	return nil
}

// openSegment maps a segment of an earlier process. A file that lost its tail
// is filled up with zeros: a mapping beyond its end could not be touched.
func (j *Journal) openSegment(h header) (*segment, error) {
	path := segmentPath(j.dir, h.id)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && uint64(st.Size()) < h.size {
		j.cfg.Log.Error("a journal segment was cut short; what stood in the missing part is lost", "file", path, "bytes", st.Size(), "expected", h.size)
		err = errors.Join(writeZeros(f, st.Size(), int64(h.size)), f.Sync())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	s, err := mapSegment(f, path, h)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.tail.Store(math.MaxUint32) // full
	return s, nil
}
