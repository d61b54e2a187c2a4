package manage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
)

// TestBackup: it comes as it is written, to the operator only, and is in the trail.
func TestBackup(t *testing.T) {
	s := serve(t, func(c *manage.Config) {
		c.Backup = func(_ context.Context, w io.Writer, events bool) error {
			_, err := fmt.Fprintf(w, "events %t\n", events)
			return err
		}
	})
	admin := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	s.must(401, "GET", "/api/v1/backup", "", "")
	s.must(403, "GET", "/api/v1/backup", admin.Key, "")
	s.must(400, "GET", "/api/v1/backup?events=maybe", operator, "")
	if r := s.must(200, "GET", "/api/v1/backup", operator, ""); r.body != "events false\n" || r.header.Get("Content-Type") != "application/jsonl" {
		t.Errorf("%q, %v", r.body, r.header)
	}
	trail := s.store.Trail()
	if last := trail[len(trail)-1]; last.Action != "backup.read" || last.Status != 200 {
		t.Errorf("the trail ends with %+v", last)
	}
	if r := s.must(200, "GET", "/api/v1/backup?events=true", operator, ""); r.body != "events true\n" {
		t.Errorf("%q", r.body)
	}
}

// TestBackupFails: before the first byte it is an error, later a stop.
func TestBackupFails(t *testing.T) {
	s := serve(t, func(c *manage.Config) {
		c.Backup = func(_ context.Context, w io.Writer, events bool) error {
			if !events {
				return fmt.Errorf("%w: inner words", key.ErrUnavailable)
			}
			_, _ = io.WriteString(w, "half")
			return errors.New("inner words")
		}
	})
	if r := s.must(503, "GET", "/api/v1/backup", operator, ""); strings.Contains(r.body, "inner") {
		t.Errorf("%s", r.body)
	}
	if r := s.must(200, "GET", "/api/v1/backup?events=true", operator, ""); r.body != "half" {
		t.Errorf("%q", r.body)
	}
	if strings.Count(s.log.String(), "inner words") < 2 {
		t.Error("the log does not say why")
	}
}

// TestBackupOutlastsTheServersTimeout: the server's bound on an answer is for those
// that come at once.
func TestBackupOutlastsTheServersTimeout(t *testing.T) {
	store := managetest.NewStore(t, "workspaces: []")
	cfg := store.Config()
	cfg.Logger = slog.New(slog.DiscardHandler)
	const writeTimeout = 50 * time.Millisecond
	cfg.Backup = func(ctx context.Context, w io.Writer, _ bool) error {
		for range 4 {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
				return err
			}
			select {
			case <-time.After(writeTimeout):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	h, err := manage.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.WriteTimeout = writeTimeout
	server.Start()
	defer server.Close()
	client, err := manage.NewClient(server.URL, managetest.OperatorKey, &http.Client{})
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := client.Backup(t.Context(), &got, false); err != nil || got.Len() != 4*64<<10 {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}
