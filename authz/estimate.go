package authz

import (
	"math"
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
// memory is bounded by the models that exist, because only their admissions get
// this far.
type Estimator struct{ models sync.Map } // model id → *ratios

// What is assumed of a model that nothing is known of yet.
const (
	firstTokensPerByte  = 0.25 // English prose: about four bytes a token
	firstAnswerTokens   = 256
	firstTokensPerEvent = 1
	learningRate        = 0.1
)

// ratios are float64 bits; 0 means nothing learned yet.
type ratios struct{ perByte, answer, perEvent atomic.Uint64 }

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

// Answer estimates the tokens of one answer for a request that names no
// maximum.
func (e *Estimator) Answer(model string) int64 {
	return int64(math.Ceil(value(&e.of(model).answer, firstAnswerTokens)))
}

// Streamed estimates the tokens that so many events of a stream carried.
func (e *Estimator) Streamed(model string, events int64) int64 {
	return int64(math.Round(float64(events) * value(&e.of(model).perEvent, firstTokensPerEvent)))
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
	if t.Output > 0 {
		learn(&r.answer, firstAnswerTokens, float64(t.Output))
		if events > 0 {
			learn(&r.perEvent, float64(t.Output)/float64(events), float64(t.Output)/float64(events))
		}
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
