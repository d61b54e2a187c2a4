package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// errTooMany says that more names match than a server answers at once.
var errTooMany = errors.New("more than 1024 names match")

// newest reads what was written last under names, or under all that match where one
// is a pattern, by one question: as they were together when upTo was the last
// revision. Of what isn't there it has no entry; deletions are there as such.
//
// Any server that has a copy of the stream answers, so all of it may be older than
// what was acknowledged. It takes the right to DIRECT.GET, see adminPermissions:
// without it there is no answer. Where the answer is not whole, what came is
// returned beside the error, which is errTooMany or wraps unavailable.
func (b *bucket) newest(ctx context.Context, names ...string) (newest map[string]entry, upTo uint64, err error) {
	newest = make(map[string]entry, len(names))
	request := struct {
		MultiLast []string `json:"multi_last"`
	}{make([]string, len(names))}
	for i, name := range names {
		request.MultiLast[i] = b.subject(name)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return newest, 0, err
	}
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return newest, 0, fmt.Errorf("%w: %w", b.errors.unavailable, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails where the connection is closed
	if err := b.nc.PublishRequest("$JS.API.DIRECT.GET."+b.stream(), inbox, body); err != nil {
		return newest, 0, fmt.Errorf("%w: %w", b.errors.unavailable, err)
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return newest, 0, fmt.Errorf("%w: %w", b.errors.unavailable, err)
		}
		switch status := m.Header.Get("Status"); {
		case status == "":
			name, e, err := b.found(m)
			if err != nil {
				return newest, 0, err
			}
			newest[name] = e
		case status == "204": // the end
			upTo, err := strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
			if err != nil || m.Header.Get("Nats-Num-Pending") != "0" {
				return newest, 0, fmt.Errorf("%w: its answer is not whole", b.errors.unavailable)
			}
			return newest, upTo, nil
		case status == "404" && m.Header.Get("Description") == "No Results":
			return newest, 0, nil
		case status == "413":
			return newest, 0, errTooMany
		default:
			return newest, 0, fmt.Errorf("%w: asked for %d names at once it says %s %s", b.errors.unavailable, len(names), status, m.Header.Get("Description"))
		}
	}
}

// found reads a message of a direct get.
func (b *bucket) found(m *nats.Msg) (name string, e entry, err error) {
	revision, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return "", entry{}, fmt.Errorf("%w: a message without its number: %w", b.errors.unavailable, err)
	}
	stored, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return "", entry{}, fmt.Errorf("%w: a message without its time: %w", b.errors.unavailable, err)
	}
	name = strings.TrimPrefix(m.Header.Get("Nats-Subject"), b.subject(""))
	return name, entry{m.Data, revision, stored, deletion(m.Header)}, nil
}
