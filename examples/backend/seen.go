package backend

import (
	"io"
	"net/http"
	"slices"
	"sync"
)

// Request is what the backend saw of a request and said of it.
type Request struct {
	Method string
	Path   string // with the query
	Header http.Header
	Body   int64  // bytes that were read of the body
	Model  string // as the body named it
	Status int    // of the answer; 0: the client went away before it
	// InputTokens and OutputTokens are what the answer stated, or in a stream
	// would have stated, as used.
	InputTokens, OutputTokens int
}

// Seen returns the newest requests that have been answered, oldest first. The
// caller owns the slice; the headers are shared and must not be changed.
func (b *Backend) Seen() []Request {
	b.seen.mu.Lock()
	defer b.seen.mu.Unlock()
	return slices.Concat(b.seen.list[b.seen.next:], b.seen.list[:b.seen.next])
}

// ring holds the newest requests.
type ring struct {
	keep int

	mu   sync.Mutex
	list []Request // guarded by mu; full once it has keep elements
	next int       // guarded by mu; the oldest of a full list, else 0
}

func (s *ring) add(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) < s.keep {
		s.list = append(s.list, r)
		return
	}
	s.list[s.next] = r
	s.next = (s.next + 1) % s.keep
}

// countingReader counts what is read of a body. It belongs to one handler.
type countingReader struct {
	io.ReadCloser
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}
