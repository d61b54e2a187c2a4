package journal

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// testdata/v1.seg.gz was written by the first program with format 1. Every later
// one must read it; when the format changes it stays and gets a neighbour.
func TestFrozenVersion1(t *testing.T) {
	f, err := os.Open("testdata/v1.seg.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "0000000000000001.seg"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	j, entries := mustOpen(t, dir, small())
	if s := j.Stats(); s.Damaged != 0 || s.SetAside != 0 {
		t.Errorf("stats: %+v", s)
	}
	var got []string
	for _, e := range entries {
		got = append(got, string(e.Payload))
	}
	equal(t, "open", got, []string{"open", "claimed without", "moved", "moved, not marked", "last"})
	got = nil
	for _, out := range drain(t, j) {
		got = append(got, out.Subject+" "+out.MsgID+" "+string(out.Payload))
		if out.Epoch != 1795258899383284 || out.Seq != uint64(len(got)+1) {
			t.Errorf("%s is number %d of epoch %d", out.MsgID, out.Seq, out.Epoch)
		}
	}
	equal(t, "events", got, []string{
		"usage.waiting msg-waiting payload of waiting",
		"usage.claimed msg-claimed payload of claimed",
	})
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %q, want %q", what, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: %q, want %q", what, got[i], want[i])
		}
	}
}
