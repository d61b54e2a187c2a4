package totals

import (
	"time"

	"tollgate/events"
)

// KeepMinutes is how long usage is known by the minute; what is older is known by
// the hour, for good.
const KeepMinutes = 48 * time.Hour

// state is totals in memory: for each combination of workspace, key, user and
// model that was ever used, what was used when. A combination takes some 200
// bytes, and about ten more for each hour (in the last two days: minute) in which
// it was used. It does no I/O and reads no clock. Methods that change it need to
// be alone.
type state struct {
	// floor is the minute before which usage is kept by the hour; it begins an
	// hour, and only grows.
	floor uint32

	workspaces  []workspace
	byWorkspace map[string]uint32
	keys        []keyed
	byKey       map[keyName]uint32
	names       []string // of users and models
	byName      map[string]uint32
	series      []series
	bySeries    map[seriesName]uint32

	seen seen
}

// workspace begins the chain of its keys. Places in chains are counted from 1; 0
// is the end.
type workspace struct {
	id    string
	first uint32 // in keys
}

// keyed is a key; it begins the chain of its series.
type keyed struct {
	id          string
	workspace   uint32
	next        uint32 // key of the workspace
	first       uint32 // in series
	since, last int64  // start of its first and of its last admission, Unix microseconds
}

type keyName struct {
	workspace uint32
	id        string
}

// series is what one key used of one model in the name of one user.
type series struct {
	seriesName
	next uint32 // of the key
	history
}

type seriesName struct{ key, user, model uint32 }

// newState returns totals of nothing.
func newState() *state {
	return &state{
		byWorkspace: map[string]uint32{}, byKey: map[keyName]uint32{}, byName: map[string]uint32{},
		bySeries: map[seriesName]uint32{}, seen: newSeen(),
	}
}

// Fold counts an event, unless it is a repetition of one that was counted, and
// reports whether it did. p is its position, zero if that is not known.
func (s *state) Fold(e *event, p events.Position) bool {
	if !s.seen.first(e, p) {
		return false
	}
	k := s.key(s.workspace(e.workspace), e.key)
	if !e.adjusts {
		s.keys[k].use(e.at.UnixMicro())
	}
	name := seriesName{k, s.name(e.user), s.name(e.model)}
	s.series[s.seriesOf(name)].add(minuteOf(e.at), s.floor, &e.counts)
	return true
}

// Trim is housekeeping, to be done now and then: what is older than KeepMinutes
// is put together by the hour, and what does not change any more is packed. Each
// call of lock is followed by a change, and that by a call of unlock.
func (s *state) Trim(now time.Time, lock, unlock func()) {
	minute := minuteOf(now)
	if floor := hourOf(minute - min(minute, uint32(KeepMinutes/time.Minute))); floor > s.floor {
		lock()
		s.floor = floor
		unlock()
	}
	const settled = 2 // minutes after which few events of a minute are to come
	for i := range s.series {
		h := &s.series[i].history
		if h.stale(minute-min(minute, settled), s.floor) {
			lock()
			h.pack(s.floor)
			unlock()
		}
	}
}

func (k *keyed) use(at int64) {
	if k.since == 0 || at < k.since {
		k.since = at
	}
	k.last = max(k.last, at)
}

func (s *state) workspace(id string) uint32 {
	at, ok := s.byWorkspace[id]
	if !ok {
		at = uint32(len(s.workspaces))
		s.workspaces = append(s.workspaces, workspace{id: id})
		s.byWorkspace[id] = at
	}
	return at
}

func (s *state) key(ws uint32, id string) uint32 {
	name := keyName{ws, id}
	at, ok := s.byKey[name]
	if !ok {
		at = uint32(len(s.keys))
		s.keys = append(s.keys, keyed{id: id, workspace: ws, next: s.workspaces[ws].first})
		s.workspaces[ws].first = at + 1
		s.byKey[name] = at
	}
	return at
}

func (s *state) name(text string) uint32 {
	at, ok := s.byName[text]
	if !ok {
		at = uint32(len(s.names))
		s.names = append(s.names, text)
		s.byName[text] = at
	}
	return at
}

func (s *state) seriesOf(name seriesName) uint32 {
	at, ok := s.bySeries[name]
	if !ok {
		at = uint32(len(s.series))
		s.series = append(s.series, series{seriesName: name, next: s.keys[name.key].first, history: history{fine: noFine}})
		s.keys[name.key].first = at + 1
		s.bySeries[name] = at
	}
	return at
}
