package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func auditSample() AuditEvent {
	return NewAuditEvent(Source("test"), time.Date(2026, 11, 21, 10, 30, 2, 123456789, time.FixedZone("", 3600)), AuditData{
		RequestID: "0198f3c2-6c1e-7b7a-9d3e-0123456789ab",
		Actor:     AuditActor{Kind: "user", User: "ada", Key: "550e8400-e29b-41d4-a716-446655440000", Workspace: "demo"},
		Action:    "key.update", Target: AuditTarget{Type: "key", ID: "550e8400-e29b-41d4-a716-446655440001", Workspace: "demo"},
		Before: json.RawMessage(`{"name":null}`), After: json.RawMessage(`{"name":"<new>"}`),
		Remote: "127.0.0.1:5555", Status: 200,
	})
}

func auditLeast() AuditEvent {
	return NewAuditEvent(Source("test"), time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), AuditData{
		RequestID: "0198f3c2-6c1e-7b7a-9d3e-0123456789ac", Actor: AuditActor{Kind: "anonymous"}, Action: "catalog.apply",
		Target: AuditTarget{Type: "catalog"}, Remote: "[::1]:1", Status: 401, Suppressed: 7,
	})
}

// The stored form is frozen, as that of usage events is.
func TestAuditSamples(t *testing.T) {
	var s schemaNode
	if err := json.Unmarshal(AuditSchema, &s); err != nil {
		t.Fatal(err)
	}
	generation := auditSample()
	generation.Data.Generation = "ABCDEFGHIJKLM"
	for name, e := range map[string]AuditEvent{"audit-v1-full": auditSample(), "audit-v1-least": auditLeast(), "audit-v1-generation": generation} {
		got, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		path := "testdata/" + name + ".json"
		if *update {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		var members map[string]any
		if err := json.Unmarshal(want, &members); err != nil {
			t.Fatal(err)
		}
		data := members["data"].(map[string]any)
		delete(data, "before") // whatever the API tells
		delete(data, "after")
		validate(t, name, &s, members)
	}
}

func TestAuditSubject(t *testing.T) {
	for want, got := range map[string]string{
		"tollgate.audit.v1.demo.key.create":        AuditSubject("demo", "key.create"),
		"tollgate.audit.v1._.catalog.apply":        AuditSubject("", "catalog.apply"),
		"tollgate.audit.v1.demo.key.delete-secret": AuditSubject("demo", "key.delete-secret"),
		"tollgate.audit.v1.d_.a_._":                AuditSubject("d>", "a*."),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if e := auditLeast(); e.Subject != "deployment" {
		t.Errorf("subject %s", e.Subject)
	}
}

func openAudit(t *testing.T, nc *nats.Conn) *AuditTrail {
	t.Helper()
	trail, err := OpenAudit(t.Context(), nc, AuditConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return trail
}

func TestAuditIsStoredOnceAndRead(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	trail := openAudit(t, nc)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		workspace := []string{"a", "b"}[i%2]
		if i == 9 {
			workspace = "" // the actor's counts
		}
		e := NewAuditEvent(Source("test"), start.Add(time.Duration(i)*time.Hour), AuditData{
			RequestID: fmt.Sprint(i), Actor: AuditActor{Kind: "key", Workspace: "b"}, Action: "key.create",
			Target: AuditTarget{Type: "key", Workspace: workspace}, Remote: "x", Status: 201,
		})
		for range 2 {
			if err := trail.Append(t.Context(), &e); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(q AuditQuery) (ids string, next uint64) {
		t.Helper()
		items, next, err := trail.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			var e AuditEvent
			if err := json.Unmarshal(item.Payload, &e); err != nil {
				t.Fatal(err)
			}
			ids += e.ID
		}
		return ids, next
	}
	for _, c := range []struct {
		q    AuditQuery
		ids  string
		next uint64
	}{
		{AuditQuery{Limit: 100}, "0123456789", 0},
		{AuditQuery{Limit: 100, Workspace: "a"}, "02468", 0},
		{AuditQuery{Limit: 100, Workspace: "b"}, "13579", 0},
		{AuditQuery{Limit: 100, Workspace: "c"}, "", 0},
		{AuditQuery{Limit: 3}, "012", 3},
		{AuditQuery{Limit: 3, After: 3}, "345", 6},
		{AuditQuery{Limit: 2, After: 3, Workspace: "b"}, "35", 6},
		{AuditQuery{Limit: 100, To: start.Add(3 * time.Hour)}, "012", 0},
		{AuditQuery{Limit: 3, To: start.Add(2 * time.Hour)}, "01", 0},
		{AuditQuery{Limit: 100, From: time.Now().Add(time.Minute)}, "", 0}, // when it was stored
	} {
		if ids, next := read(c.q); ids != c.ids || next != c.next {
			t.Errorf("%+v reads %s, next %d; want %s, %d", c.q, ids, next, c.ids, c.next)
		}
	}
	if _, _, err := trail.Read(t.Context(), AuditQuery{After: 99, Limit: 1}); !errors.Is(err, ErrCursor) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, _, err := trail.Read(t.Context(), AuditQuery{Workspace: "a.>", Limit: 1}); err == nil {
		t.Error("a workspace may be a pattern")
	}
	// Whoever opens it again finds what is there.
	if ids, _ := func() (string, uint64) { trail = openAudit(t, nc); return read(AuditQuery{Limit: 100}) }(); ids != "0123456789" {
		t.Errorf("opened again it has %s", ids)
	}
}

// TestAuditOfOneGeneration: who manages a workspace does not read what was done in
// another one of the same id, whatever the size of a page.
func TestAuditOfOneGeneration(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	trail := openAudit(t, nc)
	for i := range 9 {
		e := auditSample()
		e.ID, e.Data.Generation = fmt.Sprint(i), []string{"", "one", "two"}[i/3]
		if err := trail.Append(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 2, 100} {
		for i, generation := range []string{"", "one", "two", "none"} {
			var ids string
			for after := uint64(0); ; {
				items, next, err := trail.Read(t.Context(), AuditQuery{After: after, Workspace: "demo", Generation: &generation, Limit: limit})
				if err != nil {
					t.Fatal(err)
				}
				for _, item := range items {
					ids += fmt.Sprint(item.Seq - 1)
				}
				if after = next; next == 0 {
					break
				}
			}
			if want := []string{"012", "345", "678", ""}[i]; ids != want {
				t.Errorf("generation %q, pages of %d: %s, want %s", generation, limit, ids, want)
			}
		}
	}
}

func TestAuditThatIsFullRefuses(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	trail, err := OpenAudit(t.Context(), nc, AuditConfig{MaxBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var stored int
	for i := range 100 {
		e := auditSample()
		e.ID, e.Data.Remote = fmt.Sprint(i), strings.Repeat("x", 100)
		if err = trail.Append(t.Context(), &e); err != nil {
			break
		}
		stored++
	}
	if !errors.Is(err, ErrUnavailable) || stored == 0 {
		t.Fatalf("after %d: %v", stored, err)
	}
	if items, _, err := trail.Read(t.Context(), AuditQuery{Limit: 100}); err != nil || len(items) != stored {
		t.Errorf("%d are there, of %d (%v)", len(items), stored, err)
	}
}
