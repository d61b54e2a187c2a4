package manage

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of a page of events.
const (
	eventPage    = 100
	maxEventPage = 1000
	maxWait      = 30 // seconds
)

// ErrCursor says that the place to read on from is not one of this stream.
var ErrCursor = errors.New("the place to read on from is not one of this stream")

// Events reads stored usage events.
type Events interface {
	// Read returns at most limit events, as they are stored (JSON), in their
	// order in the stream: those behind the place after, or, where after is 0,
	// those stored at since or later. next is the place of the last one, and
	// after where there is none. Where there is none it waits at most wait for
	// the first. Errors wrap ErrCursor or, where the stream can't be
	// asked, key.ErrUnavailable.
	Read(ctx context.Context, after uint64, since time.Time, limit int, wait time.Duration) (events [][]byte, next uint64, err error)
}

func (a *api) eventRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/api/v1/events", who: operatorOnly, status: http.StatusOK,
		summary: "Reads stored usage events as a CloudEvents batch; the Link header tells where to go on, also when there was nothing",
		media:   "application/cloudevents-batch+json",
		query: []param{
			{"after", "Where to go on, from the Link header"},
			{"since", "Without after: a time of RFC 3339 or a duration before now such as 24h or 7d; without it all that is stored"},
			{"limit", "Events at most, 1 to " + strconv.Itoa(maxEventPage)},
			{"wait", "Seconds to wait while there is nothing, 0 to " + strconv.Itoa(maxWait)},
		},
	}, a.readEvents)
}

func (a *api) readEvents(ctx context.Context, c *call, _ none) (raw, error) {
	limit, err := c.number("limit", eventPage, 1, maxEventPage)
	if err != nil {
		return nil, err
	}
	wait, err := c.number("wait", 0, 0, maxWait)
	if err != nil {
		return nil, err
	}
	var since time.Time
	if s := c.query.Get("since"); s != "" {
		if since, err = parseSince(s, a.Now()); err != nil {
			return nil, invalid("since", "%v", err)
		}
	}
	var after uint64
	if s := c.query.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, invalid("after", "is not from a Link header of this list; start with since")
		}
	}
	// The server's own bound on writing is for answers that come at once.
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(time.Duration(wait)*time.Second + writeTimeout))
	events, next, err := a.Events.Read(ctx, after, since, limit, time.Duration(wait)*time.Second)
	if errors.Is(err, ErrCursor) {
		return nil, invalid("after", "%v; start with since", err)
	}
	if err != nil {
		return nil, err
	}
	// Where nothing was found, a duration must not start from a later now.
	if next > 0 {
		c.query.Del("since")
		c.linkNext("after", strconv.FormatUint(next, 10))
	} else {
		c.query.Del("after")
		c.linkNext("since", since.UTC().Format(time.RFC3339Nano))
	}
	return raw("[" + string(bytes.Join(events, []byte(","))) + "]"), nil
}

// parseSince reads a time of RFC 3339, the beginning of a day of UTC, or a duration
// before now: that of time.ParseDuration or a number of days such as 7d.
func parseSince(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	d, err := ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, errors.New("must be a time such as 2030-01-31T12:00:00Z, a day such as 2030-01-31, or a duration such as 90m, 24h or 7d")
	}
	return now.Add(-d), nil
}

// ParseDuration is time.ParseDuration that also knows whole days, such as 7d.
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(s)
}
