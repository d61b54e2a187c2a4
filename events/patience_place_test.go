package events

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A server that leads a cluster which has just started has yet to hear of the others,
// and refuses to put anything on them: "no suitable peers for placement, peer offline".
// A replica that is started together with the cluster waits for them, and ends where
// they don't come.
func TestMakingWaitsForServers(t *testing.T) {
	for name, c := range map[string]struct {
		code  jetstream.ErrorCode
		after time.Duration // when they are there
		tries bool
		ok    bool
	}{
		"they come":       {10005, 2 * time.Second, true, true},
		"they don't come": {10005, time.Hour, true, false},
		"something else":  {10058, 2 * time.Second, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, asked := time.Now(), 0
				refused := &jetstream.APIError{Code: 400, ErrorCode: c.code, Description: "no suitable peers for placement, peer offline"}
				_, err := onceThere(t.Context(), func(context.Context) (int, error) {
					if asked++; time.Since(began) < c.after {
						return 0, refused
					}
					return 1, nil
				})
				switch took := time.Since(began); {
				case c.ok != (err == nil), err != nil && !errors.Is(err, refused), c.tries != (asked > 1), took > askTimeout:
					t.Errorf("%v after %v, asked %d times", err, took, asked)
				}
			})
		})
	}
}
