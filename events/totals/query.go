package totals

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Group is what the rows of an answer are told apart by: any sum of the constants.
type Group uint8

// What rows can be told apart by. Of several units of time the finest counts.
const (
	ByWorkspace Group = 1 << iota
	ByKey
	ByUser
	ByModel
	ByDay // of UTC
	ByHour
	ByMinute
)

// Query says what is to be summed up. A name that is "" is not looked at.
type Query struct {
	Workspace string
	Key       string // needs Workspace: keys of two workspaces have nothing in common
	User      string // whom personal keys belong to
	Model     string
	// Only, if set, says which keys' use of which models counts. It must be quick:
	// the totals wait for it.
	Only func(key, model string) bool
	// From and To are the first moment and the first one after, by the start of
	// requests. From zero: the beginning; To zero: no end. See Answer.
	From, To time.Time
	GroupBy  Group
}

// Row is what was used, of what the group names; the rest is zero. Key is "" too
// for those who had none on a route that only observes.
type Row struct {
	Workspace, Key, User, Model string
	// Start is when the row's unit of time begins, UTC.
	Start time.Time
	Counts
}

// Answer is the answer to a Query.
type Answer struct {
	// Rows in the order of Start, Workspace, Key, User and Model. Without a group
	// there is one, else none for what was not used.
	Rows []Row
	// From and To are what was summed up: the query's, From rounded down and To
	// up to the minute or, before KeepMinutes ago, to the hour. There, rows by the
	// minute are by the hour too.
	From, To time.Time
}

// MaxRows bounds an answer.
const MaxRows = 100_000

// Errors of queries.
var (
	ErrQuery    = errors.New("the query can't be answered")
	ErrTooLarge = fmt.Errorf("the answer would have more than %d rows: ask for less time, fewer keys, or larger units", MaxRows)
)

// KeyTotals is all that a key ever used.
type KeyTotals struct {
	Counts
	// FirstUsed and LastUsed are the starts of the first and of the last request;
	// zero: none is known.
	FirstUsed, LastUsed time.Time
	ByModel             map[string]Counts
}

// OfKey is what a key used.
func (s *state) OfKey(workspace, id string) KeyTotals {
	t := KeyTotals{ByModel: map[string]Counts{}}
	ws, ok := s.byWorkspace[workspace]
	if !ok {
		return t
	}
	at, ok := s.byKey[keyName{ws, id}]
	if !ok {
		return t
	}
	k := &s.keys[at]
	t.FirstUsed, t.LastUsed = timeOf(k.since), timeOf(k.last)
	for i := k.first; i != 0; i = s.series[i-1].next {
		sum := s.series[i-1].sum()
		t.add(&sum)
		model := s.names[s.series[i-1].model]
		of := t.ByModel[model]
		of.add(&sum)
		t.ByModel[model] = of
	}
	return t
}

func timeOf(microseconds int64) time.Time {
	if microseconds == 0 {
		return time.Time{}
	}
	return time.UnixMicro(microseconds).UTC()
}

// Totals answers a query.
func (s *state) Totals(q Query) (Answer, error) {
	sum, err := s.prepare(&q)
	if err != nil {
		return Answer{}, err
	}
	return sum()
}

// prepare takes from the state what a query needs, quickly; what it returns does
// the rest and needs the state no more.
func (s *state) prepare(q *Query) (func() (Answer, error), error) {
	if q.Key != "" && q.Workspace == "" {
		return nil, fmt.Errorf("%w: name the workspace of the key too", ErrQuery)
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return nil, fmt.Errorf("%w: its end is not after its beginning", ErrQuery)
	}
	sum := &summing{
		group: q.GroupBy, floor: s.floor, to: math.MaxUint32,
		// The elements' names never change, and new ones go behind.
		workspaces: s.workspaces, keys: s.keys, names: s.names,
	}
	sum.bound(q)
	s.match(q, func(x *series) {
		first := len(sum.hot)
		sum.hot = append(sum.hot, x.hot...)
		sum.parts = append(sum.parts, part{s.keys[x.key].workspace, x.seriesName, x.packed, first, len(sum.hot)})
	})
	return sum.answer, nil
}

// match calls yield for the series that a query is about.
func (s *state) match(q *Query, yield func(*series)) {
	each := func(x *series) {
		model := s.names[x.model]
		if (q.User == "" || s.names[x.user] == q.User) && (q.Model == "" || model == q.Model) &&
			(q.Only == nil || q.Only(s.keys[x.key].id, model)) {
			yield(x)
		}
	}
	ofKey := func(k uint32) {
		for i := s.keys[k].first; i != 0; i = s.series[i-1].next {
			each(&s.series[i-1])
		}
	}
	if q.Workspace == "" {
		for i := range s.series {
			each(&s.series[i])
		}
		return
	}
	ws, ok := s.byWorkspace[q.Workspace]
	if !ok {
		return
	}
	if q.Key == "" {
		for k := s.workspaces[ws].first; k != 0; k = s.keys[k-1].next {
			ofKey(k - 1)
		}
	} else if k, ok := s.byKey[keyName{ws, q.Key}]; ok {
		ofKey(k)
	}
}

// summing is a query under way.
type summing struct {
	group      Group
	floor      uint32
	from, to   uint32 // minutes
	start, end time.Time
	workspaces []workspace
	keys       []keyed
	names      []string
	parts      []part
	hot        []entry
	rows       map[rowName]*Counts
}

// part is what a query takes from a series.
type part struct {
	workspace uint32
	name      seriesName
	packed    []byte
	hot, end  int // of summing.hot
}

// rowName is what a row is told apart by; zero where the group doesn't name it.
type rowName struct{ minute, workspace, key, user, model uint32 }

// bound rounds the query's times.
func (m *summing) bound(q *Query) {
	m.start, m.end = q.From.UTC(), q.To.UTC()
	if !q.From.IsZero() {
		m.from = minuteAt(q.From)
		if m.from < m.floor {
			m.from = hourOf(m.from)
		}
		m.start = time.Unix(int64(m.from)*60, 0).UTC()
	}
	if !q.To.IsZero() {
		m.to = minuteAt(q.To.Add(time.Minute - 1))
		if m.to < m.floor {
			m.to = hourOf(m.to + perHour - 1)
		}
		m.end = time.Unix(int64(m.to)*60, 0).UTC()
	}
}

// minuteAt is the minute of any time, at the bounds where it is out of them.
func minuteAt(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0)/60, math.MaxUint32-perDay))
}

func (m *summing) answer() (Answer, error) {
	m.rows = map[rowName]*Counts{}
	if m.group == 0 {
		m.rows[rowName{}] = &Counts{}
	}
	for i := range m.parts {
		p := &m.parts[i]
		row := m.row(p)
		unpack(p.packed, func(e *entry) { m.add(row, e) })
		for j := range m.hot[p.hot:p.end] {
			m.add(row, &m.hot[p.hot+j])
		}
		if len(m.rows) > MaxRows {
			return Answer{}, ErrTooLarge
		}
	}
	return Answer{m.sorted(), m.start, m.end}, nil
}

// row is the name of a series' rows, but for the time.
func (m *summing) row(p *part) (name rowName) {
	// The workspace goes with the key, whose id says little alone.
	if m.group&(ByWorkspace|ByKey) != 0 {
		name.workspace = p.workspace
	}
	if m.group&ByKey != 0 {
		name.key = p.name.key
	}
	if m.group&ByUser != 0 {
		name.user = p.name.user
	}
	if m.group&ByModel != 0 {
		name.model = p.name.model
	}
	return name
}

func (m *summing) add(row rowName, e *entry) {
	minute := e.minute
	if minute < m.floor {
		minute = hourOf(minute)
	}
	if minute < m.from || minute >= m.to {
		return
	}
	switch {
	case m.group&ByMinute != 0:
		row.minute = minute
	case m.group&ByHour != 0:
		row.minute = hourOf(minute)
	case m.group&ByDay != 0:
		row.minute = minute - minute%perDay
	}
	counts := m.rows[row]
	if counts == nil {
		counts = &Counts{}
		m.rows[row] = counts
	}
	counts.add(&e.Counts)
}

func (m *summing) sorted() []Row {
	rows := make([]Row, 0, len(m.rows))
	for name, counts := range m.rows {
		r := Row{Counts: *counts}
		if m.group&(ByWorkspace|ByKey) != 0 {
			r.Workspace = m.workspaces[name.workspace].id
		}
		if m.group&ByKey != 0 {
			r.Key = m.keys[name.key].id
		}
		if m.group&ByUser != 0 {
			r.User = m.names[name.user]
		}
		if m.group&ByModel != 0 {
			r.Model = m.names[name.model]
		}
		if m.group&(ByDay|ByHour|ByMinute) != 0 {
			r.Start = time.Unix(int64(name.minute)*60, 0).UTC()
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Workspace, b.Workspace), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.User, b.User), cmp.Compare(a.Model, b.Model))
	})
	return rows
}
