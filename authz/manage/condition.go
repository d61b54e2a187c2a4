package manage

import (
	"net/http"
	"strconv"
	"strings"
)

// The headers that make a request conditional.
const (
	ifMatch        = "If-Match"
	idempotencyKey = "Idempotency-Key"
)

// checkConditions refuses conditions that the endpoint would not heed: who sends
// one relies on it.
func (c *call) checkConditions(rt route) error {
	for _, h := range []struct {
		name  string
		heeds bool
	}{{ifMatch, rt.matches}, {idempotencyKey, rt.once}} {
		switch values := c.r.Header.Values(h.name); {
		case len(values) == 0:
		case rt.who == anybody, rt.method == http.MethodGet: // of no consequence
		case !h.heeds:
			return invalid(h.name, "this endpoint does not heed it; leave it out")
		case len(values) > 1:
			return invalid(h.name, "stands twice; send it once")
		}
	}
	if key := c.r.Header.Get(idempotencyKey); rt.once && c.r.Header[idempotencyKey] != nil && !isWord(key) {
		return invalid(idempotencyKey, "must have 1 to 255 characters of ASCII, without control characters")
	}
	return nil
}

func isWord(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// etag is the ETag of something at a revision.
func etag(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }

// mustMatch refuses a change of what is at another revision than If-Match names.
// It is asked anew each time a change is tried again, so nothing that the caller
// has not seen is overwritten.
func (c *call) mustMatch(revision uint64) error {
	want := c.r.Header.Get(ifMatch)
	if want == "" {
		return nil
	}
	for tag := range strings.SplitSeq(want, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag(revision) {
			return nil
		}
	}
	return refuse(http.StatusPreconditionFailed, "If-Match: it was changed since; read it again and decide anew")
}
