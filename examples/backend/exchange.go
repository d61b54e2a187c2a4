package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// exchange is one request and its answer. It belongs to one handler.
type exchange struct {
	w     http.ResponseWriter
	r     *http.Request
	seen  Request
	knobs knobs
}

// knobs are what the package's documentation lists.
type knobs struct {
	status          int // 0: none
	delay, interval time.Duration
	tokens          int // -1: the answer's own length
	cached          int
	abort           int // -1: none
}

const maxWait = 5 * time.Minute

func (x *exchange) readKnobs() error {
	var errs []error
	number := func(name string, unset, low, high int) int {
		v := x.r.Header.Get(name)
		if v == "" {
			return unset
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			errs = append(errs, fmt.Errorf("%s is a number from %d to %d", name, low, high))
		}
		return n
	}
	duration := func(name string) time.Duration {
		v := x.r.Header.Get(name)
		if v == "" {
			return 0
		}
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 || d > maxWait {
			errs = append(errs, fmt.Errorf("%s is a duration of at most %v", name, maxWait))
		}
		return d
	}
	x.knobs = knobs{
		status:   number("x-backend-status", 0, 400, 599),
		delay:    duration("x-backend-delay"),
		interval: duration("x-backend-interval"),
		tokens:   number("x-backend-tokens", -1, 0, longestAnswer),
		cached:   number("x-backend-cached", 0, 0, 1<<30),
		abort:    number("x-backend-abort", -1, 0, 1<<30),
	}
	if err := errors.Join(errs...); err != nil {
		x.knobs = knobs{abort: -1}
		return badRequest("", err.Error())
	}
	return nil
}

// wait blocks for d. It returns false if the client went away meanwhile.
func (x *exchange) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// count remembers what the answer used.
func (x *exchange) count(input, output int) { x.seen.InputTokens, x.seen.OutputTokens = input, output }

// answer writes v as JSON with status 200.
func (x *exchange) answer(v any) error { return x.write(http.StatusOK, v) }

func (x *exchange) write(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	x.writeBody(status, "application/json", body)
	return nil
}

// writeBody writes a whole answer, or half of one if the abort knob is set. A
// failed write means that the client has gone, which is no error of ours.
func (x *exchange) writeBody(status int, contentType string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Request-Id", "backend-own-id")
	x.w.WriteHeader(status)
	x.seen.Status = status
	if x.knobs.abort >= 0 {
		_, _ = x.w.Write(body[:len(body)/2])
		x.abort()
	}
	_, _ = x.w.Write(body)
}

// abort breaks the connection after what was written has been sent.
func (x *exchange) abort() {
	_ = http.NewResponseController(x.w).Flush()
	panic(http.ErrAbortHandler)
}

// fail answers with an error in the OpenAI shape.
func (x *exchange) fail(err error) {
	var (
		e        *apiError
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.Is(err, errGone):
		return
	case errors.As(err, &e):
	case errors.As(err, &tooLarge):
		e = &apiError{status: http.StatusRequestEntityTooLarge, kind: "invalid_request_error", message: err.Error()}
	default:
		e = &apiError{status: http.StatusInternalServerError, kind: "server_error", message: err.Error()}
	}
	orNull := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	body, err := json.Marshal(map[string]any{"error": map[string]any{
		"message": e.message, "type": e.kind, "param": orNull(e.param), "code": orNull(e.code),
	}})
	if err != nil { // strings only: it can't
		http.Error(x.w, err.Error(), http.StatusInternalServerError)
		return
	}
	x.writeBody(e.status, "application/json", body)
}

// stream is an answer of server-sent events under way.
type stream struct {
	x      *exchange
	flush  *http.ResponseController
	events int
}

// startStream sends the head of a stream.
func (x *exchange) startStream() *stream {
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Request-Id", "backend-own-id")
	x.w.WriteHeader(http.StatusOK)
	x.seen.Status = http.StatusOK
	return &stream{x: x, flush: http.NewResponseController(x.w)}
}

// send writes one event and flushes it. It returns false when the client has
// gone.
func (s *stream) send(v any) bool {
	data, err := json.Marshal(v)
	return err == nil && s.sendRaw(data)
}

func (s *stream) sendRaw(data []byte) bool {
	if s.events == s.x.knobs.abort {
		s.x.abort()
	}
	s.events++
	if !s.x.wait(s.x.knobs.interval) {
		return false
	}
	if _, err := fmt.Fprintf(s.x.w, "data: %s\n\n", data); err != nil {
		return false
	}
	return s.flush.Flush() == nil
}
