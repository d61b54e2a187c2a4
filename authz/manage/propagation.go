package manage

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Propagation says how far a change that was stored has come.
type Propagation struct {
	Revision uint64
	// Replicas have applied it: they go by nothing older.
	Replicas []string
	// Away are the replicas that have not said so.
	Away []string
	// CertainAt is when none of Away goes by anything older either, whatever
	// became of it. Zero where nobody is away.
	CertainAt time.Time
}

// longestWait is the most that a caller may have an answer wait for replicas
// that are away, and how long it waits where nothing is said.
const longestWait = time.Minute

// waitParam is a parameter of each endpoint that changes something.
var waitParam = param{"wait", "How long the answer may wait for replicas that are away, a duration from 0 to 1m such as 2s; without it 1m at most"}

// readWait reads waitParam.
func (c *call) readWait() (err error) {
	c.patience = longestWait
	s := c.query.Get(waitParam.name)
	if s == "" {
		return nil
	}
	if c.patience, err = time.ParseDuration(s); err != nil || c.patience < 0 || c.patience > longestWait {
		return invalid(waitParam.name, "must be a duration from 0 to 1m, such as 2s")
	}
	return nil
}

// waiting bounds, by what the query says, how long the answer to a change that is
// stored waits for other replicas. ctx is the request's: when its client hangs up
// there is nobody to wait for.
func (c *call) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.patience)
}

// tell writes a propagation into the headers of an answer.
func (p *Propagation) tell(h http.Header) {
	h.Set("X-Tollgate-Revision", strconv.FormatUint(p.Revision, 10))
	h.Set("X-Tollgate-Replicas", strconv.Itoa(len(p.Replicas)))
	if len(p.Away) > 0 {
		h.Set("X-Tollgate-Replicas-Away", strings.Join(p.Away, ","))
		h.Set("X-Tollgate-Certain-At", p.CertainAt.UTC().Format(timeFormat))
	}
}

// Reach is a Propagation as an answer's headers tell it.
type Reach struct {
	Revision  uint64 // 0: the answer is not of a change
	Replicas  int    // have applied the change
	Away      []string
	CertainAt time.Time
}

func readReach(h http.Header) (r Reach) {
	r.Revision, _ = strconv.ParseUint(h.Get("X-Tollgate-Revision"), 10, 64)
	r.Replicas, _ = strconv.Atoi(h.Get("X-Tollgate-Replicas"))
	if away := h.Get("X-Tollgate-Replicas-Away"); away != "" {
		r.Away = strings.Split(away, ",")
	}
	r.CertainAt, _ = time.Parse(timeFormat, h.Get("X-Tollgate-Certain-At"))
	return r
}
