package main

import (
	"context"
	"encoding/json"
	"errors"

	"tollgate/authz/manage"
	"tollgate/events"
)

// managedAudit is where the management API writes the audit trail down. source is
// that of the deployment's events.
type managedAudit struct {
	trail  *events.AuditTrail
	source string
}

func (a managedAudit) Append(ctx context.Context, e *manage.AuditEntry) error {
	event := events.NewAuditEvent(a.source, e.Time, events.AuditData{
		RequestID: e.ID, Actor: events.AuditActor(e.Actor), Action: e.Action, Target: events.AuditTarget(e.Target), Generation: e.Generation,
		Before: json.RawMessage(e.Before), After: json.RawMessage(e.After), Remote: e.Remote, Status: e.Status, Suppressed: e.Suppressed,
	})
	return asKeyError(a.trail.Append(ctx, &event))
}

func (a managedAudit) Read(ctx context.Context, q manage.AuditQuery) ([][]byte, uint64, error) {
	stored, next, err := a.trail.Read(ctx, events.AuditQuery(q))
	if errors.Is(err, events.ErrCursor) {
		return nil, 0, manage.ErrCursor
	}
	if err != nil {
		return nil, 0, asKeyError(err)
	}
	payloads := make([][]byte, len(stored))
	for i := range stored {
		payloads[i] = stored[i].Payload
	}
	return payloads, next, nil
}
