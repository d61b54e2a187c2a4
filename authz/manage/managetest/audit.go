package managetest

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"tollgate/authz"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/manage"
)

// Trail returns the audit entries so far.
func (s *Store) Trail() []manage.AuditEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.trail)
}

// aSecret is a key in the default format.
var aSecret = regexp.MustCompile(`tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}`)

type audit Store

func (a *audit) Append(_ context.Context, e *manage.AuditEntry) error {
	s := (*Store)(a)
	if err := s.before("audit"); err != nil {
		return err
	}
	text, err := json.Marshal(e)
	switch {
	case err != nil:
		s.t.Errorf("an audit entry that is no JSON: %v", err)
	case e.ID == "" || e.Time.IsZero() || e.Status == 0 || e.Remote == "" || e.Actor.Kind == "" ||
		e.Target.Type == "" || !strings.HasPrefix(e.Action, e.Target.Type+"."):
		s.t.Errorf("an audit entry lacks something: %s", text)
	case strings.Contains(string(text), OperatorKey) || aSecret.Match(text):
		s.t.Errorf("an audit entry has a secret: %s", text)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rec := range s.keys {
		for i := range rec.Secrets {
			if strings.Contains(string(text), rec.Secrets[i].Digest.String()) {
				s.t.Errorf("an audit entry has a digest: %s", text)
			}
		}
	}
	s.trail = append(s.trail, *e)
	return nil
}

// Read's places are positions in the trail, from 1.
func (a *audit) Read(_ context.Context, q manage.AuditQuery) (entries [][]byte, next uint64, err error) {
	for i, e := range (*Store)(a).Trail() {
		workspace := e.Target.Workspace
		if workspace == "" {
			workspace = e.Actor.Workspace
		}
		switch {
		case uint64(i) < q.After || e.Time.Before(q.From) || !q.To.IsZero() && !e.Time.Before(q.To),
			q.Workspace != "" && workspace != q.Workspace, q.Generation != nil && *q.Generation != e.Generation:
			continue
		case len(entries) == q.Limit:
			return entries, next, nil
		}
		text, err := json.Marshal(map[string]any{
			"specversion": "1.0", "id": e.ID, "type": "tollgate.audit.v1", "time": manage.Time(e.Time),
			"data": map[string]any{
				"action": e.Action, "generation": e.Generation, "status": e.Status, "remote": e.Remote, "before": e.Before, "after": e.After,
				"actor":  map[string]string{"kind": e.Actor.Kind, "user": e.Actor.User, "key": e.Actor.Key, "workspace": e.Actor.Workspace},
				"target": map[string]string{"type": e.Target.Type, "id": e.Target.ID, "workspace": e.Target.Workspace},
			},
		}, json.Deterministic(true))
		if err != nil {
			return nil, 0, err
		}
		entries, next = append(entries, text), uint64(i+1)
	}
	return entries, 0, nil
}

// newGate is a gate that explains: it has the store's keys and admits nothing.
func (s *Store) newGate() *authz.Authorizer {
	return &authz.Authorizer{
		Replica: "r1", Tables: s.Tables, Keys: (*lookup)(s), Limits: limit.NewLocal(time.Now()), Estimator: new(authz.Estimator),
		NewID: func() string { s.t.Error("the gate was asked to admit"); return "" },
	}
}

type lookup Store

func (l *lookup) Lookup(_ context.Context, d key.Digest) (*key.Record, error) {
	s := (*Store)(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rec := range s.keys {
		if rec.Secret(d) >= 0 {
			return rec, nil
		}
	}
	return nil, key.ErrNotFound
}
