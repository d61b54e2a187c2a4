package events

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
)

// FuzzBackup reads a stranger's bytes, as they are and as the middle of a file
// that is right otherwise. It must be refused, or all of its entries must be such
// as can be restored.
func FuzzBackup(f *testing.F) {
	frozen, err := os.ReadFile("testdata/backup-v1.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frozen)
	lines := bytes.SplitAfter(frozen, []byte("\n"))
	f.Add(bytes.Join(lines[1:len(lines)-2], nil))
	f.Add(append(bytes.Clone(lines[2]), lines[1]...)) // out of order
	f.Add(append(bytes.Clone(lines[1]), lines[1]...))
	f.Add(append(bytes.Clone(lines[5]), lines[4]...)) // an event before the documents
	f.Add([]byte(`{"in":"keys","name":"k.demo.a","at":1,"deleted":true,"value":""}` + "\n"))
	f.Add([]byte(`{"in":"usage","name":"tollgate.usage.>","at":1,"value":""}` + "\n"))
	f.Add([]byte(`{"in":"keys","name":"h.a","at":1,"value":""}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, err := VerifyBackup(bytes.NewReader(data))
		if err == nil && !bytes.Equal(data, frozen) {
			t.Errorf("a file was taken that nobody wrote: %q", data)
		}
		if err != nil && !errors.Is(err, ErrBackup) {
			t.Errorf("refused with %v", err)
		}
		last, section := map[string]uint64{}, 0
		_, trailer, err := readBackup(bytes.NewReader(around(lines[0], data)), func(e *backupEntry) error {
			if err := e.check(); err != nil {
				t.Errorf("an entry was taken that can't be restored: %v", err)
			}
			if e.At <= last[e.In] && e.In != sectionConfig {
				t.Errorf("%s at %d comes after %d", e.Name, e.At, last[e.In])
			}
			if at := slices.Index(sections, e.In); at < section {
				t.Errorf("%s in %s comes after what is in %s", e.Name, e.In, sections[section])
			} else {
				section = at
			}
			last[e.In] = e.At
			return nil
		})
		if err == nil && trailer.Revision < 4 {
			t.Errorf("taken, up to revision %d", trailer.Revision)
		}
	})
}

// around makes a file with a right header and trailer.
func around(header, lines []byte) []byte {
	var counts BackupCounts
	for line := range bytes.Lines(lines) {
		var e backupEntry
		if json.Unmarshal(line, &e) == nil {
			if n := counts.of(e.In); n != nil {
				*n++
			}
		}
	}
	return signed(header, lines, counts)
}

// signed makes a file with a digest that is right.
func signed(header, lines []byte, counts BackupCounts) []byte {
	file := append(bytes.Clone(header), lines...)
	sum := sha256.New()
	sum.Write(file)
	trailer, err := backupTrailer{End: counts, Revision: 1 << 40}.sign(sum)
	if err != nil {
		panic(err) // a struct of numbers
	}
	return append(file, trailer...)
}
