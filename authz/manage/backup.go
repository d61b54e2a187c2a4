package manage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const backupPath = "/api/v1/backup"

func (a *api) backupRoutes() {
	handle(a, route{
		method: http.MethodGet, path: backupPath, who: operatorOnly, status: http.StatusOK,
		summary: "Everything that is stored, secrets of the deployment among it, as lines of JSON; whole only with its last line, which has a SHA-256",
		media:   "application/jsonl",
		query:   []param{{"events", "true: the usage and audit events too"}},
	}, func(ctx context.Context, c *call, _ none) (stream, error) {
		events, err := c.flag("events")
		if err != nil {
			return nil, err
		}
		request := c.header.Get("X-Request-Id")
		return func(w io.Writer) error {
			began := a.Now()
			err := a.Backup(ctx, w, events)
			if err != nil {
				a.Logger.Error("a backup broke off", "request", request, "error", err)
				return err
			}
			a.Logger.Info("a backup was made", "by", c.who.name(), "events", events, "took", a.Now().Sub(began))
			return nil
		}, nil
	})
}

// stream is an output that is written as it comes, for as long as it takes. What
// goes wrong before the first byte is answered as an error; later, the answer just
// ends, so its form must tell where its end is.
type stream func(w io.Writer) error

func (s stream) send(w http.ResponseWriter, rt route) {
	control := http.NewResponseController(w)
	out := streamWriter{w: w, control: control, rt: rt}
	if err := s(&out); err != nil && !out.begun {
		writeError(w, errorFor(err))
	}
	_ = control.SetWriteDeadline(time.Time{}) // the connection may serve others
}

// streamWriter bounds how long a client may take to read each piece, in place of
// the server's own bound, which is on the whole answer.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	rt      route
	begun   bool
}

func (s *streamWriter) Write(p []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", s.rt.media)
		s.w.WriteHeader(s.rt.status)
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.w.Write(p)
}

// Backup writes a backup of all that is stored to w; with events, the usage and
// audit events too. Only its last line tells that it is whole, so it must be
// verified: an answer that breaks off may not be an error here.
func (c *Client) Backup(ctx context.Context, w io.Writer, events bool) error {
	target := c.base + backupPath + "?" + url.Values{"events": {strconv.FormatBool(events)}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("%w at %s: its answer broke off: %w", ErrUnreachable, c.base, err)
		}
		return failure(c.base, resp, body)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the backup from %s: %w", c.base, err)
	}
	return nil
}
