package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errFull says that what is left of the bucket is for others than new objects.
var errFull = errors.New("there is no room for new objects")

// The bucket has room for two uses. New objects end first, so that the counts of
// resources and the removal of objects go on whatever is stored: requests that would
// make objects are refused beyond the first share, and between the two is room for
// what is under way.
const (
	makeShare = 7. / 8
	bindShare = 15. / 16
	// fillFor is for how long it is gone by how full the bucket was.
	fillFor = 5 * time.Second
)

// fullness is how full the bucket is.
type fullness struct {
	mu    sync.Mutex
	asked time.Time
	share float64 // 0 to 1; 0 also where it has no bound
}

// Room returns an error where the bucket is so full that no request should make an
// object now. Where that can't be asked it goes by what it was.
func (s *Objects) Room(ctx context.Context) error { return s.room(ctx, makeShare) }

func (s *Objects) room(ctx context.Context, most float64) error {
	if share := s.filled(ctx); share >= most {
		return fmt.Errorf("%w: %w: %s is full to %.0f %%", ErrUnavailable, errFull, s.bucket.name, 100*share)
	}
	return nil
}

// filled asks the server once in fillFor, which one of the callers waits for.
func (s *Objects) filled(ctx context.Context) float64 {
	s.fill.mu.Lock()
	share, now := s.fill.share, time.Now()
	if now.Sub(s.fill.asked) < fillFor {
		s.fill.mu.Unlock()
		return share
	}
	s.fill.asked = now
	s.fill.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, shortly)
	defer cancel()
	stream, err := s.bucket.js.Stream(ctx, objectsStream)
	if err != nil {
		return share // whoever writes learns of it
	}
	share = 0
	if info := stream.CachedInfo(); info.Config.MaxBytes > 0 {
		share = float64(info.State.Bytes) / float64(info.Config.MaxBytes)
	}
	s.fill.mu.Lock()
	defer s.fill.mu.Unlock()
	s.fill.share = share
	return share
}
