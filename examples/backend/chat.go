package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
)

// generation are the members that chat/completions and completions share.
type generation struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	N                   *int `json:"n"`
}

// limit is the most tokens of a choice, -1 if the request has no limit.
func (g *generation) limit() int {
	for _, m := range []*int{g.MaxCompletionTokens, g.MaxTokens} {
		if m != nil {
			return max(*m, 0)
		}
	}
	return -1
}

func (g *generation) choices() (int, error) {
	if g.N == nil {
		return 1, nil
	}
	if *g.N < 1 || *g.N > maxChoices {
		return 0, badRequest("n", fmt.Sprintf("n is a number from 1 to %d", maxChoices))
	}
	return *g.N, nil
}

func (g *generation) wantsUsage() bool { return g.StreamOptions != nil && g.StreamOptions.IncludeUsage }

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is the text of a message: a string, null, or the text parts of an
// array, joined by spaces.
type content string

func (c *content) UnmarshalJSON(data []byte) error {
	var text *string
	if json.Unmarshal(data, &text) == nil {
		if text != nil {
			*c = content(*text)
		}
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return errors.New("content is a string or an array of parts")
	}
	texts := make([]string, 0, len(parts))
	for _, p := range parts {
		texts = append(texts, p.Text)
	}
	*c = content(strings.Join(texts, " "))
	return nil
}

func (b *Backend) chat(x *exchange) error {
	var req struct {
		generation
		Messages []message `json:"messages"`
	}
	if err := readJSON(x.r, &req); err != nil {
		return err
	}
	if len(req.Messages) == 0 {
		return badRequest("messages", "messages is an array of at least one message")
	}
	texts := make([]string, 0, len(req.Messages))
	for _, m := range req.Messages {
		texts = append(texts, string(m.Content))
	}
	return b.generate(x, &req.generation, ChatTokens(texts...), chatShape, append([]string{"chat"}, texts...))
}

func (b *Backend) complete(x *exchange) error {
	var req struct {
		generation
		Prompt input `json:"prompt"`
	}
	if err := readJSON(x.r, &req); err != nil {
		return err
	}
	return b.generate(x, &req.generation, req.Prompt.tokens(), completionShape, append([]string{"completion"}, req.Prompt.items...))
}

// shape is how chat/completions and completions differ in what they send.
type shape struct {
	id, object, chunkObject string
	whole                   func(i int, c choice) any
	piece                   func(i int, text string, first bool) any
	end                     func(i int, finish string) any
}

var chatShape = shape{
	id: "chatcmpl-", object: "chat.completion", chunkObject: "chat.completion.chunk",
	whole: func(i int, c choice) any {
		return map[string]any{
			"index": i, "finish_reason": c.finish, "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": c.text(), "refusal": nil},
		}
	},
	piece: func(i int, text string, first bool) any {
		delta := map[string]any{"content": text}
		if first {
			delta["role"] = "assistant"
		}
		return map[string]any{"index": i, "delta": delta, "finish_reason": nil}
	},
	end: func(i int, finish string) any {
		return map[string]any{"index": i, "delta": map[string]any{}, "finish_reason": finish}
	},
}

var completionShape = shape{
	id: "cmpl-", object: "text_completion", chunkObject: "text_completion",
	whole: func(i int, c choice) any {
		return map[string]any{"index": i, "text": c.text(), "finish_reason": c.finish, "logprobs": nil}
	},
	piece: func(i int, text string, _ bool) any {
		return map[string]any{"index": i, "text": text, "finish_reason": nil, "logprobs": nil}
	},
	end: func(i int, finish string) any {
		return map[string]any{"index": i, "text": "", "finish_reason": finish, "logprobs": nil}
	},
}

// generate answers with the choices that follow from the seed.
func (b *Backend) generate(x *exchange, g *generation, prompt int, s shape, seed []string) error {
	if err := b.start(x, g.Model); err != nil {
		return err
	}
	n, err := g.choices()
	if err != nil {
		return err
	}
	r := seeded(append(seed, g.Model)...)
	id := fmt.Sprintf("%s%016x", s.id, r.Uint64())
	choices := make([]choice, n)
	for i := range choices {
		choices[i] = generate(r, x.knobs.tokens, g.limit())
	}
	used := usageOf(prompt, x.knobs.cached, choices)
	x.count(used.Prompt, used.Completion)
	head := map[string]any{"id": id, "object": s.object, "created": created, "model": g.Model}
	if g.Stream {
		head["object"] = s.chunkObject
		x.streamChoices(s, head, choices, r, g.wantsUsage(), used)
		return nil
	}
	whole := make([]any, n)
	for i, c := range choices {
		whole[i] = s.whole(i, c)
	}
	head["choices"], head["usage"] = whole, used
	return x.answer(head)
}

// streamChoices sends the choices one after the other. With include_usage every
// event has the member, null but in the last, as OpenAI does it.
func (x *exchange) streamChoices(s shape, head map[string]any, choices []choice, r *rand.Rand, wantsUsage bool, used usage) {
	out := x.startStream()
	if wantsUsage {
		head["usage"] = nil
	}
	send := func(c any) bool {
		head["choices"] = []any{c}
		return out.send(head)
	}
	for i, c := range choices {
		for j, text := range c.pieces(r) {
			if !send(s.piece(i, text, j == 0)) {
				return
			}
		}
		if !send(s.end(i, c.finish)) {
			return
		}
	}
	if wantsUsage {
		head["choices"], head["usage"] = []any{}, used
		if !out.send(head) {
			return
		}
	}
	out.sendRaw([]byte("[DONE]"))
}
