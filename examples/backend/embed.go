package backend

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// input is the prompt of a completion or what is to be embedded: a text, texts,
// a list of token ids, or lists of them.
type input struct {
	items []string // texts; a list of ids as its JSON
	ids   int      // how many token ids there were
}

func (in *input) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var text string
	if json.Unmarshal(data, &text) == nil {
		in.items = []string{text}
		return nil
	}
	var texts []string
	if json.Unmarshal(data, &texts) == nil {
		in.items = texts
		return nil
	}
	var ids []int
	if json.Unmarshal(data, &ids) == nil {
		in.items, in.ids = []string{string(data)}, len(ids)
		return nil
	}
	var lists [][]int
	if json.Unmarshal(data, &lists) == nil {
		for _, l := range lists {
			in.items = append(in.items, fmt.Sprint(l))
			in.ids += len(l)
		}
		return nil
	}
	return errors.New("a text, a list of texts, a list of token ids or a list of such lists is needed")
}

func (in *input) tokens() int {
	if in.ids > 0 {
		return in.ids
	}
	n := 0
	for _, t := range in.items {
		n += Tokens(t)
	}
	return n
}

const (
	defaultDimensions = 384
	maxDimensions     = 4096
)

func (b *Backend) embed(x *exchange) error {
	var req struct {
		Model          string `json:"model"`
		Input          input  `json:"input"`
		EncodingFormat string `json:"encoding_format"`
		Dimensions     *int   `json:"dimensions"`
	}
	if err := readJSON(x.r, &req); err != nil {
		return err
	}
	if err := b.start(x, req.Model); err != nil {
		return err
	}
	if len(req.Input.items) == 0 {
		return badRequest("input", "input is a text or a list of them that is not empty")
	}
	dimensions := defaultDimensions
	if req.Dimensions != nil {
		dimensions = *req.Dimensions
	}
	if dimensions < 1 || dimensions > maxDimensions {
		return badRequest("dimensions", fmt.Sprintf("dimensions is a number from 1 to %d", maxDimensions))
	}
	var encode func([]float32) any
	switch req.EncodingFormat {
	case "", "float":
		encode = func(v []float32) any { return v }
	case "base64":
		encode = func(v []float32) any { return littleEndian(v) }
	default:
		return badRequest("encoding_format", `encoding_format is "float" or "base64"`)
	}
	data := make([]any, len(req.Input.items))
	for i, text := range req.Input.items {
		data[i] = map[string]any{
			"object": "embedding", "index": i,
			"embedding": encode(vector(seeded("embedding", req.Model, text), dimensions)),
		}
	}
	n := req.Input.tokens()
	x.count(n, 0)
	return x.answer(map[string]any{
		"object": "list", "model": req.Model, "data": data,
		"usage": map[string]int{"prompt_tokens": n, "total_tokens": n},
	})
}

// vector is a direction: a vector of length 1.
func vector(r *rand.Rand, dimensions int) []float32 {
	v := make([]float64, dimensions)
	var square float64
	for i := range v {
		v[i] = r.NormFloat64()
		square += v[i] * v[i]
	}
	out := make([]float32, dimensions)
	for i := range v {
		out[i] = float32(v[i] / math.Sqrt(square))
	}
	return out
}

// littleEndian is the base64 of the numbers as OpenAI sends them.
func littleEndian(v []float32) string {
	buf := make([]byte, 0, 4*len(v))
	for _, f := range v {
		buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(buf)
}
