package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Before a catalog is put in force, each replica prepares for it: what is new must
// be routable in its Envoys. Whoever changes the catalog asks all the others by a
// request that holds the catalog; the answer, version 1, is {"v":1,"problem":""}.

// prepareSubject is where a replica is asked.
func prepareSubject(replica string) string { return "tollgate.replica.prepare." + replica }

type prepared struct {
	Version int    `json:"v"`
	Problem string `json:"problem"` // for the operator; "": prepared
}

const preparedVersion = 1

// ErrUnprepared wraps what keeps a replica from preparing for a catalog: the
// change must not be made.
var ErrUnprepared = errors.New("a replica is not prepared")

// AnswerPrepare answers requests to prepare by calling prepare, one at a time,
// until stop is called. prepare may take as long as its context, 15 s.
func AnswerPrepare(nc *nats.Conn, replica string, prepare func(ctx context.Context, catalog []byte) error) (stop func(), err error) {
	requests := make(chan *nats.Msg, 16) // more than that many changes at once wait for their repetition
	sub, err := nc.ChanSubscribe(prepareSubject(replica), requests)
	if err != nil {
		return nil, fmt.Errorf("answering requests to prepare: %w", err)
	}
	if err := nc.FlushTimeout(askTimeout); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("answering requests to prepare: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-requests:
				respondPrepared(ctx, m, prepare)
			}
		}
	}()
	return func() {
		_ = sub.Unsubscribe() // the connection may be gone already
		cancel()
		<-done
	}, nil
}

// prepareTimeout bounds one preparation: Envoys are waited for up to 10 s.
const prepareTimeout = 15 * time.Second

func respondPrepared(ctx context.Context, m *nats.Msg, prepare func(context.Context, []byte) error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	answer := prepared{Version: preparedVersion}
	if err := prepare(ctx, m.Data); err != nil {
		answer.Problem = err.Error()
	}
	text, err := json.Marshal(answer)
	if err == nil {
		_ = m.Respond(text) // whoever asked asks again, or gives up
	}
}

// AskPrepare asks a replica to prepare for a catalog and waits for it. The error
// wraps ErrUnprepared where the replica can't, or did not answer; it names the
// replica.
func AskPrepare(ctx context.Context, nc *nats.Conn, replica string, catalog []byte) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	reply, err := nc.RequestWithContext(ctx, prepareSubject(replica), catalog)
	if err != nil {
		return fmt.Errorf("%w: replica %s did not answer: %w", ErrUnprepared, replica, err)
	}
	var answer prepared
	if err := json.Unmarshal(reply.Data, &answer); err != nil || answer.Version != preparedVersion {
		return fmt.Errorf("%w: replica %s answered in a form that this one does not know (version %d): let all replicas be of one version or the next", ErrUnprepared, replica, answer.Version)
	}
	if answer.Problem != "" {
		return fmt.Errorf("%w: replica %s: %s", ErrUnprepared, replica, answer.Problem)
	}
	return nil
}
