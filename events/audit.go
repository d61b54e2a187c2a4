package events

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// TypeAudit is the type of an event that says what somebody did with the
	// management API, or tried to.
	TypeAudit = "tollgate.audit.v1"
	// AuditSchemaID is such an event's dataschema: the $id of AuditSchema.
	AuditSchemaID = "urn:tollgate:schema:audit:v1"
)

// AuditSchema is the JSON Schema of audit events. Fields are only ever added.
//
//go:embed audit.schema.json
var AuditSchema []byte

// AuditEvent is a CloudEvent 1.0 in its structured JSON form: one management
// action. It holds no secret and no digest of one.
type AuditEvent struct {
	SpecVersion string `json:"specversion"` // "1.0"
	// ID is the request's, told in its answer's x-request-id.
	ID     string `json:"id"`
	Source string `json:"source"` // the deployment, see Source
	Type   string `json:"type"`   // TypeAudit
	// Subject is the workspace that it is about, "deployment" for none.
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"` // of the answer; UTC
	DataContentType string    `json:"datacontenttype"`
	DataSchema      string    `json:"dataschema"` // AuditSchemaID
	Data            AuditData `json:"data"`
}

// AuditData is what an audit event says.
type AuditData struct {
	RequestID string      `json:"requestId"`
	Actor     AuditActor  `json:"actor"`
	Action    string      `json:"action"` // such as key.create
	Target    AuditTarget `json:"target"`
	// Generation tells the workspace in whose trail it is from others of the same id,
	// before and after it. "" is that of a deployment's first ones.
	Generation string `json:"generation,omitempty"`
	// Before and After are what was changed, as the management API tells it: of a
	// change, the members that differ.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	Remote string          `json:"remote"` // the address that the request came from
	Status int             `json:"status"` // of the answer
	// Suppressed is how many refused requests of this actor were not written down
	// since the last one that was.
	Suppressed int64 `json:"suppressed,omitempty"`
}

// AuditActor is who did it.
type AuditActor struct {
	Kind      string `json:"kind"` // operator, user, key or anonymous
	User      string `json:"user,omitempty"`
	Key       string `json:"key,omitempty"` // the key's id
	Workspace string `json:"workspace,omitempty"`
}

// AuditTarget is what it was done on.
type AuditTarget struct {
	Type      string `json:"type"`
	ID        string `json:"id,omitempty"`
	Workspace string `json:"workspace,omitempty"`
}

// NewAuditEvent makes the event of an action. source is Source's.
func NewAuditEvent(source string, at time.Time, d AuditData) AuditEvent {
	e := AuditEvent{
		SpecVersion: SpecVersion, ID: d.RequestID, Source: source, Type: TypeAudit, Subject: d.workspace(),
		Time: at.UTC().Truncate(time.Microsecond), DataContentType: "application/json", DataSchema: AuditSchemaID, Data: d,
	}
	if e.Subject == "" {
		e.Subject = "deployment"
	}
	return e
}

// workspace is whose trail the action belongs into: that of what it was done on,
// else the actor's.
func (d *AuditData) workspace() string {
	if d.Target.Workspace != "" {
		return d.Target.Workspace
	}
	return d.Actor.Workspace
}

// AuditSubject is the NATS subject of an action in a workspace ("": in none):
// tollgate.audit.v1.<workspace or _>.<what>, where what is an action such as
// key.create, and so two tokens.
func AuditSubject(workspace, action string) string {
	b := appendSlug([]byte(TypeAudit+"."), workspace)
	for part := range strings.SplitSeq(action, ".") {
		b = appendSlug(append(b, '.'), part)
	}
	return string(b)
}

// AuditConfig is what the stream of audit events needs. It is for a stream that has
// to be made; one that is there stays as it is.
type AuditConfig struct {
	// Replicas is how many servers of a cluster hold each event. Zero: 3, or 1 on
	// a server that is in no cluster.
	Replicas int
	// MaxAge is how long an event is kept. Zero: a year.
	MaxAge time.Duration
	// MaxBytes bounds the stream. When it is full new events are refused, rather
	// than old ones dropped unread. Zero: 2 GiB.
	MaxBytes int64
}

// AuditTrail is the stream of audit events. All methods are safe for concurrent use.
type AuditTrail struct {
	js    jetstream.JetStream
	reads readable
}

// OpenAudit opens the stream of audit events, and makes it where there is none.
func OpenAudit(ctx context.Context, nc *nats.Conn, cfg AuditConfig) (*AuditTrail, error) {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 365 * 24 * time.Hour
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 2 << 30
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	stream, err := openStream(ctx, nc, js, jetstream.StreamConfig{
		Name:        auditStream,
		Description: "Tollgate's audit trail: what was done with the management API.",
		Subjects:    []string{"tollgate.audit.>"},
		Replicas:    cfg.Replicas,
		MaxAge:      cfg.MaxAge,
		MaxBytes:    cfg.MaxBytes,
	})
	if err != nil {
		return nil, err
	}
	return &AuditTrail{js, newReadable(stream)}, nil
}

// Append stores an event; again, it is stored once. It blocks until it is stored,
// at most until ctx ends. Where it isn't, or that can't be learned, the error wraps
// ErrUnavailable.
func (t *AuditTrail) Append(ctx context.Context, e *AuditEvent) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit event %s: %w", e.ID, err)
	}
	msg := &nats.Msg{Subject: AuditSubject(e.Data.workspace(), e.Data.Action), Header: nats.Header{"Content-Type": {ContentType}}, Data: text}
	publish := func(most time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		_, err := t.js.PublishMsg(ctx, msg, jetstream.WithMsgID(MsgID(e.Source, e.ID)), jetstream.WithExpectStream(auditStream))
		return err
	}
	// Twice, for the same reason as bucket.put.
	if err = publish(firstTry); unanswered(err) && ctx.Err() == nil {
		err = publish(askTimeout)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// AuditQuery says which audit events to read.
type AuditQuery struct {
	After     uint64    // behind this place in the stream; 0: From
	From      time.Time // stored then or later; zero: from the oldest
	To        time.Time // before; zero: no bound
	Workspace string    // "": of all, and of none
	// Generation is of the Workspace: events of another one of the same id are left
	// out. nil: they are not.
	Generation *string
	Limit      int // at most MaxRead
}

// Read returns the events that a query asks for, oldest first. next is where to go
// on, 0 where there is no more now; there may be more where it returns few events, or
// none. The error is ErrCursor, ctx's, or wraps ErrUnavailable.
func (t *AuditTrail) Read(ctx context.Context, q AuditQuery) (items []Stored, next uint64, err error) {
	filter := TypeAudit + ".>"
	if q.Workspace != "" {
		if err := checkID("workspace", q.Workspace); err != nil {
			return nil, 0, err
		}
		filter = TypeAudit + "." + q.Workspace + ".>"
	}
	read, more, err := t.reads.read(ctx, readFrom(q.After, q.From, filter), q.After, min(max(q.Limit, 1), MaxRead), 0)
	if err != nil {
		return nil, 0, readError(ctx, err)
	}
	if more {
		next = read[len(read)-1].Seq
	}
	for i := range read {
		at, generation, known := auditFacts(read[i].Payload)
		if !q.To.IsZero() && !at.Before(q.To) {
			return items, 0, nil
		}
		if q.Generation == nil || known && *q.Generation == generation {
			items = append(items, read[i])
		}
	}
	return items, next, nil
}

// auditFacts are what a query looks at. known is false where it can't be read, as of
// an event that a newer version wrote in another form.
func auditFacts(payload []byte) (at time.Time, generation string, known bool) {
	var e struct {
		Time time.Time `json:"time"`
		Data struct {
			Generation string `json:"generation"`
		} `json:"data"`
	}
	if json.Unmarshal(payload, &e) != nil {
		return time.Time{}, "", false
	}
	return e.Time, e.Data.Generation, true
}
