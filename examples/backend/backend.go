// Package backend is a small model backend that speaks the OpenAI API over real
// HTTP and computes nothing: for trying Tollgate out, and for tests that must
// know the truth about tokens.
//
// It serves chat/completions, completions (both as JSON and as server-sent
// events), embeddings, audio/transcriptions and models under /v1, behind any
// prefix: /v1/models and /inference/v1/models are the same.
//
// # Tokens
//
// A token is a word: a run of characters between white space (see Tokens). A
// chat prompt has the tokens of the text of each message, and 3 more for each
// message; tools, images and other parts have none. Prompts that are arrays of
// token ids have as many as there are ids. Audio has one token per started 1000
// bytes of the file, and the transcription's prompt its words.
//
// An answer is a run of words that follows from the request's model and prompt
// alone, 8 to 63 of them unless x-backend-tokens says otherwise, cut at
// max_completion_tokens or max_tokens. Each of its n choices differs and counts.
// In a stream an event carries 1 to 8 of them.
//
// # Knobs
//
// A test asks for trouble by request header:
//
//	x-backend-status: 503     answer with this status (400 to 599) and an error
//	x-backend-delay: 2s       wait before answering (at most 5 minutes)
//	x-backend-interval: 10ms  wait before each event of a stream (likewise)
//	x-backend-tokens: 200     length of each choice before it is cut (0 to 100000)
//	x-backend-cached: 5       cached_tokens of the prompt, at most all of it
//	x-backend-abort: 3        break the connection after so many events of a
//	                          stream, or in the middle of any other answer
//
// A knob that can't be read is a 400.
package backend

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Options configures a Backend. The zero value is usable.
type Options struct {
	// Models are the ids that GET /v1/models lists and that requests may name.
	// None: every name is accepted, and the list is empty.
	Models []string
	// MaxBody is the largest request body in bytes; 0 means 64 MiB.
	MaxBody int64
	// Keep is how many requests Seen remembers, the newest; 0 means 1000.
	Keep int
}

const (
	defaultMaxBody = 64 << 20
	defaultKeep    = 1000
)

// Backend is the model backend. It is safe for concurrent use.
type Backend struct {
	models  []string
	maxBody int64
	seen    ring
}

// New makes a Backend.
func New(o Options) *Backend {
	if o.MaxBody <= 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Keep <= 0 {
		o.Keep = defaultKeep
	}
	return &Backend{models: slices.Clone(o.Models), maxBody: o.MaxBody, seen: ring{keep: o.Keep}}
}

// ServeHTTP answers one request and remembers what it saw of it.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := &countingReader{ReadCloser: http.MaxBytesReader(w, r.Body, b.maxBody)}
	r.Body = body
	x := &exchange{w: w, r: r, seen: Request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone()}}
	// Deferred, because an abort leaves by a panic.
	defer func() {
		x.seen.Body = body.n
		b.seen.add(x.seen)
	}()
	if err := b.serve(x); err != nil {
		x.fail(err)
	}
}

func (b *Backend) serve(x *exchange) error {
	if err := x.readKnobs(); err != nil {
		return err
	}
	i := strings.LastIndex(x.r.URL.Path, "/v1/")
	if i < 0 {
		return notFound(x.r)
	}
	operation := x.r.URL.Path[i+len("/v1/"):]
	if x.r.Method == http.MethodGet {
		return b.getModels(x, operation)
	}
	if x.r.Method != http.MethodPost {
		return notFound(x.r)
	}
	switch operation {
	case "chat/completions":
		return b.chat(x)
	case "completions":
		return b.complete(x)
	case "embeddings":
		return b.embed(x)
	case "audio/transcriptions":
		return b.transcribe(x)
	}
	return notFound(x.r)
}

func (b *Backend) getModels(x *exchange, operation string) error {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	if id, ok := strings.CutPrefix(operation, "models/"); ok {
		if !slices.Contains(b.models, id) {
			return unknownModel(id)
		}
		return x.answer(model{id, "model", created, "backend"})
	}
	if operation != "models" {
		return notFound(x.r)
	}
	list := make([]model, 0, len(b.models))
	for _, id := range b.models {
		list = append(list, model{id, "model", created, "backend"})
	}
	return x.answer(map[string]any{"object": "list", "data": list})
}

// start is called once the body has been read: it checks the model, and waits
// and fails as the knobs say. (Waiting earlier would be blind: net/http notices
// that a client has gone only after the end of its body.)
func (b *Backend) start(x *exchange, model string) error {
	x.seen.Model = model
	if model == "" {
		return badRequest("model", "you must provide a model parameter")
	}
	if len(b.models) > 0 && !slices.Contains(b.models, model) {
		return unknownModel(model)
	}
	if !x.wait(x.knobs.delay) {
		return errGone
	}
	if x.knobs.status != 0 {
		return &apiError{status: x.knobs.status, kind: "server_error", message: "asked for by x-backend-status"}
	}
	return nil
}

// errGone says that nobody waits for the answer any more.
var errGone = errors.New("the client has gone")

// apiError is an answer other than 200, in the OpenAI shape.
type apiError struct {
	status                     int
	kind, message, param, code string
}

func (e *apiError) Error() string { return strconv.Itoa(e.status) + ": " + e.message }

func badRequest(param, message string) error {
	return &apiError{status: http.StatusBadRequest, kind: "invalid_request_error", message: message, param: param}
}

func notFound(r *http.Request) error {
	return &apiError{
		status: http.StatusNotFound, kind: "invalid_request_error",
		message: "unknown request URL: " + r.Method + " " + r.URL.Path,
	}
}

func unknownModel(id string) error {
	return &apiError{
		status: http.StatusNotFound, kind: "invalid_request_error",
		message: "the model `" + id + "` does not exist", param: "model", code: "model_not_found",
	}
}

// readJSON reads the whole body into v.
func readJSON(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	if err := d.Decode(v); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return err
		}
		return badRequest("", "the body is not what it should be: "+err.Error())
	}
	if d.More() {
		return badRequest("", "the body has more than one JSON value")
	}
	return nil
}
