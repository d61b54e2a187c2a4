package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
	"tollgate/events"
	"tollgate/events/natsd"
)

// TestAuditInNATS follows actions from the management API into the stream and
// back, also where the stream is away.
func TestAuditInNATS(t *testing.T) {
	server, err := natsd.Start(natsd.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.Background()) })
	nc, err := server.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	trail, err := events.OpenAudit(t.Context(), nc, events.AuditConfig{})
	if err != nil {
		t.Fatal(err)
	}
	store := managetest.NewStore(t, cliCatalog)
	cfg := store.Config()
	cfg.Audit = managedAudit{trail, events.Source("test")}
	cfg.Logger = slog.New(slog.DiscardHandler)
	unaudited := 0
	cfg.Unaudited = func(string) { unaudited++ }
	h, err := manage.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(h)
	defer api.Close()
	c, err := manage.NewClient(api.URL, managetest.OperatorKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateKey(t.Context(), manage.KeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SuspendWorkspace(t.Context(), "demo", true); err != nil {
		t.Fatal(err)
	}
	page, err := c.Audit(t.Context(), nil)
	if err != nil || len(page.Value) != 2 {
		t.Fatalf("read %s (%v)", page.Raw, err)
	}
	var e events.AuditEvent
	if err := json.Unmarshal(page.Value[0], &e); err != nil {
		t.Fatal(err)
	}
	if e.Type != events.TypeAudit || e.Source != "//test/tollgate" || e.Subject != "demo" || e.ID != e.Data.RequestID || e.Data.Action != "key.create" ||
		e.Data.Actor.Kind != "operator" || e.Data.Target != (events.AuditTarget{Type: "key", ID: made.Value.ID, Workspace: "demo"}) || e.Data.Status != 201 {
		t.Errorf("stored %s", page.Value[0])
	}
	if strings.Contains(string(page.Raw), made.Value.Secret) || !strings.Contains(string(e.Data.After), made.Value.ID) {
		t.Errorf("stored %s", page.Value[0])
	}
	_, err = c.Audit(t.Context(), map[string][]string{"cursor": {"99"}})
	if refused, ok := errors.AsType[*manage.Error](err); !ok || refused.Status != http.StatusBadRequest {
		t.Errorf("a cursor of another stream: %v", err)
	}

	nc.Close() // for good
	if _, err := c.SuspendWorkspace(t.Context(), "demo", false); err != nil {
		t.Errorf("without a trail a change is refused: %v", err)
	}
	if unaudited != 1 {
		t.Errorf("%d entries are counted as not stored", unaudited)
	}
	_, err = c.Audit(t.Context(), nil)
	if refused, ok := errors.AsType[*manage.Error](err); !ok || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("reading without NATS: %v", err)
	}
}
