package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tollgate/events/natsd"
)

// Consumers are programs outside that read usage events, each through a durable
// consumer that only it may use. It can pull, acknowledge, and ask for that
// consumer's state, and nothing else. The embedded server lets it in at once; a
// NATS of the operator's has to be told, see Credential.ServerConfig.
//
// All methods are safe for concurrent use. Their errors wrap ErrNotFound,
// ErrConflict and ErrUnavailable.
type Consumers struct {
	server *natsd.Server
	config *Config
	usage  *Usage

	mu sync.Mutex // serialises changes, so that users are set in their order
}

// Consumer is what is known of a consumer, but for its password, which is not
// kept.
type Consumer struct {
	Name string
	// Workspace whose events it gets; "" for all.
	Workspace string
	CreatedAt time.Time
}

// Subjects are what its durable delivers.
func (c Consumer) Subjects() []string { return consumerSubjects(c.Workspace) }

// Credential is all that a consumer needs. It is told once.
type Credential struct {
	Name     string
	Password string // on the embedded server
	// Addr is the server's host:port, URL the same with name and password, ready
	// for a client library's connect. On a NATS of the operator's, Addr is empty
	// and URL has all servers that are known, without a user.
	Addr, URL string
	// Seed is the nkey seed that the consumer connects with to a NATS of the
	// operator's. It may do so once ServerConfig is in the servers' configuration,
	// among the accounts, and that was reloaded: twice, because nats-server 2.15
	// subscribes the imports of an account in a reload only if it was there before.
	Seed, ServerConfig string
	// Stream and Durable are what to bind a pull subscription to.
	Stream, Durable string
	// Subjects are what the durable delivers.
	Subjects []string
}

// consumersDocument is the Config document with the consumers' credentials.
const consumersDocument = "consumers"

const consumersVersion = 1

type storedConsumers struct {
	Version   int              `json:"v"`
	Consumers []storedConsumer `json:"consumers"` // by name
}

type storedConsumer struct {
	Name         string    `json:"name"`
	Workspace    string    `json:"workspace,omitempty"`
	PasswordHash string    `json:"passwordHash,omitempty"` // bcrypt; embedded
	CreatedAt    time.Time `json:"createdAt"`
}

// OpenConsumers lets the consumers in again that were created before. server is
// nil where NATS is not embedded: then config and usage must be of a connection
// with adminPermissions. Where the embedded server does not listen, consumers are
// kept but nobody is let in.
func OpenConsumers(ctx context.Context, server *natsd.Server, config *Config, usage *Usage) (*Consumers, error) {
	c := &Consumers{server: server, config: config, usage: usage}
	doc, _, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.letIn(doc); err != nil {
		return nil, err
	}
	return c, nil
}

// Create makes a consumer of a workspace's events, or of all where workspace is
// "", and lets it in. name is [a-z0-9-]{1,63}. The error wraps ErrConflict where
// there is one of that name, and natsd.ErrNotListening where the server takes no
// connections from outside.
func (c *Consumers) Create(ctx context.Context, name, workspace string) (Credential, error) {
	if c.server != nil && c.server.Addr() == "" {
		return Credential{}, natsd.ErrNotListening
	}
	if err := checkID("consumer", name); err != nil {
		return Credential{}, err
	}
	if workspace != "" {
		if err := checkID("workspace", workspace); err != nil {
			return Credential{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	doc, revision, err := c.load(ctx)
	if err != nil {
		return Credential{}, err
	}
	at, there := doc.find(name)
	if there {
		return Credential{}, fmt.Errorf("%w: there is a consumer %s already: delete it first, or choose another name", ErrConflict, name)
	}
	cred, hash, err := c.credential(name)
	if err != nil {
		return Credential{}, err
	}
	cred.Subjects = consumerSubjects(workspace)
	// The durable first: alone it opens nothing, and Create may be repeated.
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
	defer cancel()
	if err := c.deleteDurable(ctx, name); err != nil { // left by a Create or Delete that failed half-way
		return Credential{}, err
	}
	if _, err := c.usage.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:        cred.Durable,
		FilterSubjects: cred.Subjects,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
	}); err != nil {
		return Credential{}, fmt.Errorf("%w: the durable consumer %s: %w", ErrUnavailable, name, err)
	}
	doc.Consumers = slices.Insert(doc.Consumers, at, storedConsumer{
		Name: name, Workspace: workspace, PasswordHash: hash, CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
	})
	if err := c.store(ctx, doc, revision); err != nil {
		return Credential{}, err
	}
	return cred, nil
}

// credential makes a consumer's, and the hash of its password where it has one.
func (c *Consumers) credential(name string) (cred Credential, hash string, err error) {
	if c.server == nil {
		cred, err = externalCredential(c.usage.js.Conn(), name)
		return cred, "", err
	}
	password := rand.Text()
	if hash, err = natsd.HashPassword(password); err != nil {
		return Credential{}, "", err
	}
	addr := c.server.Addr()
	return Credential{
		Name:     name,
		Password: password,
		Addr:     addr,
		URL:      (&url.URL{Scheme: "nats", User: url.UserPassword(name, password), Host: addr}).String(),
		Stream:   UsageStream,
		Durable:  name,
	}, hash, nil
}

// consumerSubjects filter the stream for a workspace. Each is whole up to the
// workspace: with a wildcard for the version, a workspace called v1 would get
// everybody's adjustments.
func consumerSubjects(workspace string) []string {
	if workspace == "" {
		return []string{"tollgate.usage.>"}
	}
	return []string{TypeUsage + "." + workspace + ".>", "tollgate.usage.adjusted.v1." + workspace + ".>"}
}

// Delete cuts a consumer off and forgets what it has read. On a NATS of the
// operator's its account may then be taken out of the servers' configuration.
func (c *Consumers) Delete(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	doc, revision, err := c.load(ctx)
	if err != nil {
		return err
	}
	at, there := doc.find(name)
	if !there {
		return fmt.Errorf("consumer %s: %w", name, ErrNotFound)
	}
	doc.Consumers = slices.Delete(doc.Consumers, at, at+1)
	if err := c.store(ctx, doc, revision); err != nil {
		return err
	}
	return c.deleteDurable(ctx, name)
}

// deleteDurable deletes what durables a consumer has: none is fine.
func (c *Consumers) deleteDurable(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	durables := []string{name}
	if c.server == nil {
		var err error
		if durables, err = c.externalDurables(ctx, name); err != nil {
			return fmt.Errorf("%w: the durables of the consumer %s: %w", ErrUnavailable, name, err)
		}
	}
	for _, durable := range durables {
		err := c.usage.stream.DeleteConsumer(ctx, durable)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("%w: deleting the durable consumer %s: %w", ErrUnavailable, name, err)
		}
	}
	return nil
}

// List returns the consumers by name.
func (c *Consumers) List(ctx context.Context) ([]Consumer, error) {
	doc, _, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Consumer, 0, len(doc.Consumers))
	for _, s := range doc.Consumers {
		list = append(list, Consumer{s.Name, s.Workspace, s.CreatedAt})
	}
	return list, nil
}

func (d *storedConsumers) find(name string) (int, bool) {
	return slices.BinarySearchFunc(d.Consumers, name, func(s storedConsumer, name string) int {
		return strings.Compare(s.Name, name)
	})
}

func (c *Consumers) load(ctx context.Context) (storedConsumers, uint64, error) {
	value, revision, err := c.config.Get(ctx, consumersDocument)
	if errors.Is(err, ErrNotFound) {
		return storedConsumers{Version: consumersVersion}, 0, nil
	}
	if err != nil {
		return storedConsumers{}, 0, err
	}
	var doc storedConsumers
	if err := json.Unmarshal(value, &doc); err != nil {
		return storedConsumers{}, 0, fmt.Errorf("the document of consumers: %w", err)
	}
	if doc.Version != consumersVersion {
		return storedConsumers{}, 0, fmt.Errorf("the document of consumers has version %d; this Tollgate reads %d", doc.Version, consumersVersion)
	}
	return doc, revision, nil
}

// store writes the document, then lets in who is in it.
func (c *Consumers) store(ctx context.Context, doc storedConsumers, revision uint64) error {
	value, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if _, err := c.config.Put(ctx, consumersDocument, value, revision); err != nil {
		return err
	}
	return c.letIn(doc)
}

// letIn tells the server who may come in, where anybody may.
func (c *Consumers) letIn(doc storedConsumers) error {
	if c.server == nil || c.server.Addr() == "" {
		return nil
	}
	users := make([]natsd.User, 0, len(doc.Consumers))
	for _, s := range doc.Consumers {
		users = append(users, natsd.User{Name: s.Name, PasswordHash: s.PasswordHash, Stream: UsageStream, Durable: s.Name})
	}
	return c.server.SetUsers(users)
}
