package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// LastOf is the time of the newest stored usage event of a key: when the key was
// last let through, as far as the stream remembers. It is the zero time where
// there is none. The error wraps ErrUnavailable.
func (u *Usage) LastOf(ctx context.Context, key string) (time.Time, error) {
	m, err := u.stream.GetLastMsgForSubject(ctx, string(appendSlug([]byte(TypeUsage+".*."), key))+".*")
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: the last use of key %s: %w", ErrUnavailable, key, err)
	}
	var e struct {
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return time.Time{}, nil //nolint:nilerr // an event that nobody can read says nothing
	}
	return e.Time, nil
}
