package totals

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A replica that began where the stream had dropped what it did not count, while no
// other one could be asked, notes that beside its snapshot, and asks again for as
// long as the note is there. The file's being there is all that is read of it.
const missingSuffix = ".missing"

const missingText = "Totals here lack events that the stream had dropped. Other replicas are asked for theirs; this file goes when one has answered.\n"

// askEvery is how often others are asked again.
const askEvery = time.Minute

// errFilled ends a session whose gap somebody else has filled.
var errFilled = errors.New("another replica has what was missing")

func isMissing(path string) bool {
	_, err := os.Stat(path + missingSuffix)
	return err == nil
}

// miss notes that something was never counted here.
func (f *Folder) miss() {
	f.missing.Store(true)
	path := f.cfg.Path + missingSuffix
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(missingText), 0o600)
	}
	if err != nil {
		f.cfg.Log.Error("it can't be noted that totals lack events: after a restart nobody is asked for them", "file", path, "error", err)
	}
}

// filled takes the note away, once what was missing is on the disk.
func (f *Folder) filled() {
	f.missing.Store(false)
	f.snapshot()
	f.writing.Lock()
	saved := f.written == f.changes
	f.writing.Unlock()
	if !saved {
		return // it stays true after a restart that something is missing
	}
	if err := os.Remove(f.cfg.Path + missingSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.cfg.Log.Warn("the note that totals lack events can't be removed: others will be asked again after a restart", "error", err)
	}
}

// askAgain asks the others from time to time, until one has all that is missing here;
// nil: ctx ended first.
func (f *Folder) askAgain(ctx context.Context, created time.Time) *counted {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		is, err := f.cfg.Stream.Extent(ctx)
		if err != nil {
			continue // whoever follows the stream says so
		}
		c, err := f.ask(ctx, created, is.First, true)
		if err == nil {
			return c
		}
		f.cfg.Log.Debug("events that were never counted here are missing still", "error", err)
	}
}
