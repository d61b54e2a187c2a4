package events

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json"
)

// VerifyBackup reads a whole backup and reports whether it is one: undamaged, to
// its end, and with nothing in it that this Tollgate could not restore. The error
// wraps ErrBackup, or is r's.
func VerifyBackup(r io.Reader) (BackupHeader, BackupCounts, error) {
	header, trailer, err := readBackup(r, func(*backupEntry) error { return nil })
	if err != nil {
		return BackupHeader{}, BackupCounts{}, err
	}
	return header, trailer.End, nil
}

// readBackup reads a backup and calls f for each entry, in their order. Only when
// it has returned without an error is it certain that the file is whole.
func readBackup(r io.Reader, f func(*backupEntry) error) (header BackupHeader, trailer backupTrailer, err error) {
	lines := backupLines{in: bufio.NewReaderSize(r, 64<<10)}
	text, err := lines.next()
	if err != nil {
		return header, trailer, err
	}
	// A newer form is told by its version, before its other fields are looked at.
	var form struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(text, &form); err != nil || form.Version < 1 {
		return header, trailer, damaged("it does not begin like one")
	}
	if form.Version > BackupVersion {
		return header, trailer, damaged("it has version %d, written by a newer Tollgate; this one reads up to %d", form.Version, BackupVersion)
	}
	if err := strictly(text, &header); err != nil {
		return header, trailer, damaged("line 1: %v", err)
	}
	sum := sha256.New()
	sum.Write(text)
	var counts BackupCounts
	order := backupOrder{}
	for {
		if text, err = lines.next(); err != nil {
			return header, trailer, err
		}
		if bytes.HasPrefix(text, []byte(`{"end":`)) {
			break
		}
		var e backupEntry
		if err := strictly(text, &e); err != nil {
			return header, trailer, damaged("line %d: %v", lines.number, err)
		}
		if err := errors.Join(order.check(&e, &header), e.check()); err != nil {
			return header, trailer, damaged("line %d: %v", lines.number, err)
		}
		*counts.of(e.In)++
		if err := f(&e); err != nil {
			return header, trailer, err
		}
		sum.Write(text)
	}
	if err := strictly(text, &trailer); err != nil {
		return header, trailer, damaged("its last line: %v", err)
	}
	signed, err := trailer.sign(sum)
	if err != nil {
		return header, trailer, err
	}
	counts.Skipped = trailer.End.Skipped
	switch _, err := lines.next(); {
	case !bytes.Equal(text, signed):
		return header, trailer, damaged("its SHA-256 is another one than it says: it was damaged or changed")
	case trailer.End != counts:
		return header, trailer, damaged("it has %+v and says %+v", counts, trailer.End)
	case trailer.Revision < max(order.revision, header.Revision):
		return header, trailer, damaged("it ends at revision %d and has a later one", trailer.Revision)
	case err == nil:
		return header, trailer, damaged("something comes after its end")
	case !errors.Is(err, errTorn):
		return header, trailer, err
	}
	if lines.rest {
		return header, trailer, damaged("something comes after its end")
	}
	return header, trailer, nil
}

// strictly decodes a line and refuses fields that it does not know: only a new
// version may have more.
func strictly(line []byte, to any) error {
	return json.Unmarshal(line, to, json.RejectUnknownMembers(true))
}

// backupLines are the lines of a file, each with its newline.
type backupLines struct {
	in     *bufio.Reader
	number int
	rest   bool // the file ended in the middle of a line
}

var errTorn = fmt.Errorf("%w: it ends too early, so it was torn or is still being written", ErrBackup)

func (l *backupLines) next() ([]byte, error) {
	l.number++
	var line []byte
	for {
		part, err := l.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil && len(line) <= maxBackupLine:
			return line, nil
		case len(line) > maxBackupLine:
			return nil, damaged("line %d is longer than any that Tollgate writes", l.number)
		case errors.Is(err, io.EOF):
			l.rest = len(line) > 0
			return nil, errTorn
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("reading the backup: %w", err)
		}
	}
}

// backupOrder checks that entries come in the order in which they were read.
type backupOrder struct {
	section  int
	at       uint64
	name     string
	revision uint64 // of the newest key
}

func (o *backupOrder) check(e *backupEntry, h *BackupHeader) error {
	section := slices.Index(sections, e.In)
	switch {
	case section < 0:
		return fmt.Errorf("there is no section %q", e.In)
	case section < o.section:
		return fmt.Errorf("an entry of %s comes too late", e.In)
	case section >= slices.Index(sections, sectionUsage) && !h.Events:
		return errors.New("the header says that there are no events")
	}
	if section > o.section {
		*o = backupOrder{section: section, revision: o.revision}
	}
	if e.In == sectionConfig {
		if e.Name <= o.name {
			return fmt.Errorf("document %s is out of order", e.Name)
		}
		o.name = e.Name
		return nil
	}
	if e.At <= o.at {
		return fmt.Errorf("%s at %d is out of order", e.Name, e.At)
	}
	o.at = e.At
	if e.In == sectionKeys {
		o.revision = e.At
	}
	return nil
}
