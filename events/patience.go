package events

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// shortly is for how long a question is repeated that somebody's request
	// waits for. It bridges what servers have yet to tell each other, and not an
	// election.
	shortly = 500 * time.Millisecond
	// oneTry is how long one of several questions waits for its answer: a server
	// says nothing of a stream that has no leader, and asking again once it has
	// one is answered at once.
	oneTry = time.Second
)

// patiently asks again where there was nobody to take a question, for as long as
// most and ctx allow. So it is just after a stream or a consumer was made, of
// which this connection's server has yet to hear, and while a stream has no
// leader. Nothing was done then, whatever the question.
func patiently[T any](ctx context.Context, most time.Duration, ask func(context.Context) (T, error)) (T, error) {
	return repeat(ctx, most, ask, nobodyThere)
}

// inTries is patiently for a question that does no harm when it is asked twice:
// it is repeated also where no answer comes within oneTry.
func inTries[T any](ctx context.Context, most time.Duration, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return repeat(ctx, most, briefly(ask), noAnswer)
}

// asked is inTries for as long as one question may take.
func asked[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	return inTries(ctx, askTimeout, ask)
}

// briefly asks for oneTry.
func briefly[T any](ask func(context.Context) (T, error)) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		ctx, cancel := context.WithTimeout(ctx, oneTry)
		defer cancel()
		return ask(ctx)
	}
}

// noAnswer reports whether a question may be asked again that does no harm.
func noAnswer(err error) bool { return nobodyThere(err) || unanswered(err) }

func nobodyThere(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) || noLeader(err)
}

// Codes of nats-server that the client library has no names for.
const (
	clusterNotAvailable jetstream.ErrorCode = 10008 // JSClusterNotAvailErr
	noPeers             jetstream.ErrorCode = 10005 // JSClusterNoPeersErrF
)

func refusedBy(err error, code jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == code
}

// noLeader reports whether the servers of a cluster have no leader among them.
func noLeader(err error) bool { return refusedBy(err, clusterNotAvailable) }

// onceThere makes what is kept on several servers, and tries for askTimeout where too
// few of them are there, as while a cluster starts: they refuse at once, and nothing was
// made then.
func onceThere[T any](ctx context.Context, create func(context.Context) (T, error)) (T, error) {
	return repeat(ctx, askTimeout, create, func(err error) bool { return nobodyThere(err) || refusedBy(err, noPeers) && !noRoom(err) })
}

// repeat asks until the answer is not one to repeat, most is over or ctx ends.
func repeat[T any](ctx context.Context, most time.Duration, ask func(context.Context) (T, error), again func(error) bool) (T, error) {
	const least, longest = 10 * time.Millisecond, 200 * time.Millisecond
	over := time.Now().Add(most)
	for pause := least; ; pause = min(2*pause, longest) {
		answer, err := ask(ctx)
		if err == nil || !again(err) || time.Now().Add(pause).After(over) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(pause):
		}
	}
}
