package manage

import (
	"context"
	"errors"
	"net/http"
	"regexp"
)

// What Consumers answers besides a consumer.
var (
	// ErrConsumerExists: there is one of that name.
	ErrConsumerExists = errors.New("there is a consumer of that name")
	// ErrNoConsumer: there is none of that name.
	ErrNoConsumer = errors.New("there is no consumer of that name")
	// ErrNotListening: the embedded NATS server lets nobody in from outside.
	ErrNotListening = errors.New("the NATS server does not listen")
)

// Consumer is somebody outside who may read usage events from NATS, and nothing
// else.
type Consumer struct {
	Name      string  `json:"name"`
	Workspace *string `json:"workspace" doc:"Whose events it gets; null: all"`
	CreatedAt Time    `json:"createdAt"`
}

// Credential is the answer to the creation of a consumer: all that the program
// outside needs, and the one place where the password, or the seed, stands.
type Credential struct {
	Name     string   `json:"name"`
	URL      string   `json:"url" doc:"Where NATS listens: nats://host:port"`
	User     string   `json:"user"`
	Password string   `json:"password" doc:"It is in this answer only; empty where NATS is not embedded"`
	Stream   string   `json:"stream"`
	Durable  string   `json:"durable" doc:"The pull consumer to bind to"`
	Subjects []string `json:"subjects" doc:"What it gets"`
	// Where NATS is the operator's, which Tollgate can't add users to.
	Seed         string `json:"seed,omitzero" doc:"The nkey seed to connect with, in place of user and password; it is in this answer only"`
	ServerConfig string `json:"serverConfig,omitzero" doc:"The account to put into the configuration of the nats-servers, which lets the seed in"`
}

// Consumers makes credentials for outside consumers. All methods may block on
// I/O until their context ends. Errors wrap the ones above or, where the store
// can't be asked, key.ErrUnavailable.
type Consumers interface {
	// Create makes a consumer of one workspace's events, or of all where
	// workspace is "".
	Create(ctx context.Context, name, workspace string) (*Credential, error)
	// List returns all consumers, by name.
	List(ctx context.Context) ([]Consumer, error)
	// Delete takes the credential away, closes its connections and forgets how
	// far it had read.
	Delete(ctx context.Context, name string) error
}

// ConsumerRequest is the body of the creation of a consumer.
type ConsumerRequest struct {
	Name      string  `json:"name" doc:"1 to 63 of a-z, 0-9 and -"`
	Workspace *string `json:"workspace,omitzero" doc:"null: the events of all"`
}

var consumerName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func (a *api) consumerRoutes() {
	const all, one = "/api/v1/consumers", "/api/v1/consumers/{name}"
	handle(a, route{
		method: http.MethodGet, path: all, who: operatorOnly, status: http.StatusOK,
		summary: "Lists the outside consumers of usage events",
	}, func(ctx context.Context, _ *call, _ none) ([]Consumer, error) {
		list, err := a.Consumers.List(ctx)
		if list == nil {
			list = []Consumer{}
		}
		return list, err
	})
	handle(a, route{
		method: http.MethodPost, path: all, who: operatorOnly, status: http.StatusCreated,
		summary: "Lets an outside consumer read usage events from NATS",
	}, a.createConsumer)
	handle(a, route{
		method: http.MethodDelete, path: one, who: operatorOnly, status: http.StatusNoContent,
		summary: "Takes a consumer's credential away",
	}, func(ctx context.Context, c *call, _ none) (none, error) {
		name := c.r.PathValue("name")
		if !consumerName.MatchString(name) {
			return none{}, consumerError(ErrNoConsumer)
		}
		return none{}, consumerError(a.Consumers.Delete(ctx, name))
	})
}

func (a *api) createConsumer(ctx context.Context, c *call, req ConsumerRequest) (*Credential, error) {
	if !consumerName.MatchString(req.Name) {
		return nil, invalid("name", "must be 1 to 63 of a-z, 0-9 and -")
	}
	var workspace string
	if req.Workspace != nil {
		ws, err := a.workspace(c.who, *req.Workspace)
		if err != nil {
			return nil, err
		}
		workspace = ws.ID
	}
	made, err := a.Consumers.Create(ctx, req.Name, workspace)
	if err != nil {
		return nil, consumerError(err)
	}
	a.Logger.Info("consumer created", "consumer", req.Name, "workspace", workspace, "by", c.who.name())
	return made, nil
}

func consumerError(err error) error {
	switch {
	case errors.Is(err, ErrConsumerExists):
		return refuse(http.StatusConflict, "name: there is a consumer of that name; delete it first or choose another")
	case errors.Is(err, ErrNoConsumer):
		return refuse(http.StatusNotFound, "There is no such consumer")
	case errors.Is(err, ErrNotListening):
		return refuse(http.StatusConflict,
			"NATS lets nobody in from outside; start Tollgate with --nats-listen ADDRESS (TOLLGATE_NATS_LISTEN)")
	}
	return err
}
