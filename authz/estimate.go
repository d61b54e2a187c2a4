package authz

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Estimator learns, per model, what can't be known before an answer is there:
// how many tokens a byte of prompt makes, how many tokens an answer has, and how
// many tokens an event of a stream carries. It learns from what upstreams
// reported, by exponentially weighted means.
//
// It only ever steers reservations and estimates; what was reported is never
// corrected by it. The zero value is ready. It is safe for concurrent use; its
// memory is bounded by the models and workspaces that exist, because only their
// admissions get this far.
type Estimator struct{ models sync.Map } // model id → *ratios

// What is assumed of a model that nothing is known of yet.
const (
	firstTokensPerByte  = 0.25 // English prose: about four bytes a token
	firstAnswerTokens   = 256
	leastAnswerTokens   = firstAnswerTokens / 4
	mostAnswerTokens    = 1 << 17 // more than any model gives
	firstTokensPerEvent = 1
	learningRate        = 0.1
)

// Of a stream's events about one and a half carry no share of the text: the one
// that ends it, and half of the last piece, which is cut short by the text's end.
// Without them short answers would make a stream that is cut off look shorter
// than it was.
const emptyEvents = 1.5

// streamMemory is what each further stream leaves of the weight of those before
// it: about the last hundred count. A stream's ratio varies a lot (chunks carry 1
// to 8 tokens), so fewer would make estimates worse.
const streamMemory = 0.99

// ratios of a model. Those in atomics are float64 bits, read at each check; 0
// means nothing learned yet.
type ratios struct {
	perByte atomic.Uint64
	// answers is the mean size of answers that no request had capped, by
	// workspace: nobody's answers decide what is reserved for somebody else's.
	answers sync.Map // workspace → *atomic.Uint64

	mu             sync.Mutex
	tokens, events float64 // of streams, weighted: sums, so that long ones count for more; guarded by mu
}

func (e *Estimator) of(model string) *ratios {
	if r, ok := e.models.Load(model); ok {
		return r.(*ratios)
	}
	r, _ := e.models.LoadOrStore(model, new(ratios))
	return r.(*ratios)
}

// Prompt estimates the tokens of a prompt with so many bytes of text.
func (e *Estimator) Prompt(model string, bytes int64) int64 {
	return int64(math.Ceil(float64(bytes) * value(&e.of(model).perByte, firstTokensPerByte)))
}

// Answer estimates the tokens of one answer for a workspace's request that names
// no maximum. However short its answers have been, it is not less than
// leastAnswerTokens: the next one may be longer.
func (e *Estimator) Answer(model, workspace string) int64 {
	mean := float64(firstAnswerTokens)
	if of, ok := e.of(model).answers.Load(workspace); ok {
		mean = value(of.(*atomic.Uint64), firstAnswerTokens)
	}
	return max(int64(math.Ceil(mean)), leastAnswerTokens)
}

// LearnAnswer takes in the size of an answer that its request did not cap.
func (e *Estimator) LearnAnswer(model, workspace string, tokens int64) {
	if tokens <= 0 {
		return
	}
	of, ok := e.of(model).answers.Load(workspace)
	if !ok {
		of, _ = e.of(model).answers.LoadOrStore(strings.Clone(workspace), new(atomic.Uint64))
	}
	// One absurd statement of an upstream's must not make every later request of
	// the workspace too large for its budget, for then nothing is learned any more.
	learn(of.(*atomic.Uint64), firstAnswerTokens, float64(min(tokens, mostAnswerTokens)))
}

// Streamed estimates the tokens that so many events of a stream carried.
func (e *Estimator) Streamed(model string, events int64) int64 {
	r := e.of(model)
	r.mu.Lock()
	defer r.mu.Unlock()
	each := float64(firstTokensPerEvent)
	if r.events > 0 {
		each = r.tokens / r.events
	}
	return int64(math.Round(float64(events) * each))
}

// Learn takes in what an upstream reported for an admission. promptBytes is 0
// where it isn't known any more; events is 0 for an answer that wasn't a stream.
func (e *Estimator) Learn(model string, promptBytes int64, t Tokens, events int64) {
	r := e.of(model)
	if promptBytes > 0 && t.Input > 0 {
		// The bounds keep one tenant's odd prompts from spoiling the estimate
		// of all: no tokenizer in use is outside them.
		learn(&r.perByte, firstTokensPerByte, min(max(float64(t.Input)/float64(promptBytes), 1.0/16), 2))
	}
	if t.Output <= 0 {
		return
	}
	// Reasoning that isn't shown goes by without events.
	if shown := t.Output - t.Reasoning; events > 0 && shown > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tokens = r.tokens*streamMemory + float64(shown)
		r.events = r.events*streamMemory + max(float64(events)-emptyEvents, 1)
	}
}

func value(bits *atomic.Uint64, first float64) float64 {
	if b := bits.Load(); b != 0 {
		return math.Float64frombits(b)
	}
	return first
}

// learn moves a mean towards seen. A concurrent update may be lost; the next
// answer brings another.
func learn(bits *atomic.Uint64, first, seen float64) {
	old := bits.Load()
	mean := value(bits, first)
	bits.CompareAndSwap(old, math.Float64bits(mean+learningRate*(seen-mean)))
}

// Learned is what an Estimator knows of a model, for keeping over a restart. 0
// means nothing. The sizes of answers are not in it: they only steer
// reservations, and are learned again soon.
type Learned struct {
	Model         string  `json:"model"`
	TokensPerByte float64 `json:"tokensPerByte,omitempty"` // of prompts
	// StreamTokens and StreamEvents are weighted sums over streams.
	StreamTokens float64 `json:"streamTokens,omitempty"`
	StreamEvents float64 `json:"streamEvents,omitempty"`
}

// Learned returns what is known, by model. Models that nothing was learned of are
// left out.
func (e *Estimator) Learned() []Learned {
	var all []Learned
	e.models.Range(func(model, of any) bool {
		r := of.(*ratios)
		l := Learned{Model: model.(string), TokensPerByte: value(&r.perByte, 0)}
		r.mu.Lock()
		l.StreamTokens, l.StreamEvents = r.tokens, r.events
		r.mu.Unlock()
		if l != (Learned{Model: l.Model}) {
			all = append(all, l)
		}
		return true
	})
	slices.SortFunc(all, func(a, b Learned) int { return strings.Compare(a.Model, b.Model) })
	return all
}

// Recall takes in what an Estimator before this one knew. It is called before
// anything is learned; figures that can't be right are passed over.
func (e *Estimator) Recall(all []Learned) {
	for _, l := range all {
		r := e.of(l.Model)
		if l.TokensPerByte >= 1.0/16 && l.TokensPerByte <= 2 {
			r.perByte.Store(math.Float64bits(l.TokensPerByte))
		}
		if l.StreamTokens > 0 && l.StreamEvents > 0 && l.StreamTokens < 1<<40 && l.StreamEvents < 1<<40 {
			r.mu.Lock()
			r.tokens, r.events = l.StreamTokens, l.StreamEvents
			r.mu.Unlock()
		}
	}
}
