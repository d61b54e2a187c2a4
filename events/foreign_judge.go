package events

import (
	"time"

	"tollgate/authz"
)

// soughtFor is the admission of an event.
func soughtFor(source string, e *Event) Sought {
	id := e.ID
	if e.Type == TypeAdjusted {
		id = e.Data.Adjusts
	}
	return Sought{MsgID: MsgID(source, id), Subject: Subject(e.Data.Workspace, e.Data.Key, e.Data.Model), Start: e.Time}
}

type verdict int

const (
	publishUsage      verdict = iota // as it is
	publishAdjustment                // which it becomes
	publishLater
	publishNothing
)

// baseTime is how long an adjustment waits for the event that it corrects and that
// does not wait here too: it comes from another journal, or is lost with a disk.
const baseTime = 24 * time.Hour

// old reports whether that time is over for an adjustment.
func old(now time.Time, e *Event) bool {
	return e.Type == TypeAdjusted && now.Sub(e.Time) >= baseTime
}

// judge decides what is published of an event of ours, of an admission of which
// the stream has this. coming: the usage event waits here as well.
func judge(now time.Time, e *Event, f *Found, coming bool) verdict {
	unknown := f.Usage != nil && f.Usage.Measurement == authz.None
	switch adjusts := e.Type == TypeAdjusted; {
	case f.Adjusted:
		return publishNothing
	case adjusts && f.Usage == nil && (coming || !old(now, e)):
		return publishLater // else one with the truth in it might come behind this
	case f.Usage == nil, adjusts && unknown:
		return publishUsage
	case unknown && e.Data.Measurement != authz.None:
		return publishAdjustment
	}
	return publishNothing
}
