package backend

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"strings"
)

// Tokens is the number of tokens of a text: its words, which are what
// strings.Fields returns.
func Tokens(text string) int {
	n := 0
	for range strings.FieldsSeq(text) {
		n++
	}
	return n
}

// tokensPerMessage is what each message of a chat costs beside its text.
const tokensPerMessage = 3

// ChatTokens is the number of prompt tokens of a chat whose messages have these
// texts.
func ChatTokens(texts ...string) int {
	n := tokensPerMessage * len(texts)
	for _, t := range texts {
		n += Tokens(t)
	}
	return n
}

// bytesPerAudioToken is how much of an audio file is one token.
const bytesPerAudioToken = 1000

// AudioTokens is the number of tokens of an audio file of so many bytes.
func AudioTokens(bytes int64) int {
	return int((bytes + bytesPerAudioToken - 1) / bytesPerAudioToken)
}

const (
	minAnswer, maxAnswer = 8, 63   // words, where no knob says otherwise
	maxEvent             = 8       // tokens in one event of a stream
	maxChoices           = 128     // n, as OpenAI has it
	longestAnswer        = 100_000 // words, of one choice
	created              = 1_700_000_000
)

// seeded is a source of randomness that depends on the parts alone, so that the
// same request gets the same answer.
func seeded(parts ...string) *rand.Rand {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.AppendUvarint(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return rand.New(rand.NewChaCha8([32]byte(h.Sum(nil))))
}

var vocabulary = strings.Fields(`the a one some every small quiet bright distant open river bridge tower garden
	keeper traveller letter harbour winter morning answers opens crosses remembers counts follows keeps finds
	slowly twice again before after beside`)

// choice is one generated answer.
type choice struct {
	words  []string
	finish string // "stop" or "length"
}

// generate makes an answer of length words, or of a length of its own choice if
// that is negative, cut at limit if that is not negative.
func generate(r *rand.Rand, length, limit int) choice {
	if length < 0 {
		length = minAnswer + r.IntN(maxAnswer-minAnswer+1)
	}
	c := choice{finish: "stop"}
	if limit >= 0 && length > limit {
		length, c.finish = limit, "length"
	}
	c.words = make([]string, length)
	for i := range c.words {
		c.words[i] = vocabulary[r.IntN(len(vocabulary))]
	}
	return c
}

func (c choice) text() string { return strings.Join(c.words, " ") }

// pieces cuts the answer into texts of 1 to maxEvent tokens, which joined are
// the answer.
func (c choice) pieces(r *rand.Rand) []string {
	var out []string
	for i := 0; i < len(c.words); {
		n := min(1+r.IntN(maxEvent), len(c.words)-i)
		piece := strings.Join(c.words[i:i+n], " ")
		if i > 0 {
			piece = " " + piece
		}
		out = append(out, piece)
		i += n
	}
	return out
}

// usage is OpenAI's statement of what a chat or a completion used.
type usage struct {
	Prompt     int           `json:"prompt_tokens"`
	Completion int           `json:"completion_tokens"`
	Total      int           `json:"total_tokens"`
	Details    promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	Cached int `json:"cached_tokens"`
}

func usageOf(prompt, cached int, choices []choice) usage {
	u := usage{Prompt: prompt, Details: promptDetails{Cached: min(cached, prompt)}}
	for _, c := range choices {
		u.Completion += len(c.words)
	}
	u.Total = u.Prompt + u.Completion
	return u
}
