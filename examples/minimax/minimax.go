// Package minimax stands in for MiniMax: chat, speech, images, videos that are made
// while one waits, music and cloned voices, all with one credential and all in one
// account. What fails is an HTTP 200 whose base_resp says so.
package minimax

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"sync"

	"tollgate/examples/standin"
)

// keys is the default format of Tollgate's keys, which this example's callers have.
var keys = regexp.MustCompile(`tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{32,}`)

// What a base_resp says.
const (
	fine       = 0
	noBalance  = 1008
	parameters = 2013
)

// account is the operator's account, which all tenants share.
type account struct {
	mu     sync.Mutex
	last   int64           // guarded by mu; the number of the newest thing
	polls  map[string]int  // guarded by mu; by video task
	files  map[int64]bool  // guarded by mu
	voices map[string]bool // guarded by mu; the cloned ones
}

// New makes the stand-in, which takes one credential. report is told of what must not
// reach it.
func New(credential string, report func(wrong string)) http.Handler {
	a := &account{last: 176844028768320, polls: map[string]int{}, files: map[int64]bool{}, voices: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/text/chatcompletion_v2", chat)
	mux.HandleFunc("POST /v1/t2a_v2", a.speak)
	mux.HandleFunc("POST /v1/image_generation", draw)
	mux.HandleFunc("POST /v1/music_generation", compose)
	mux.HandleFunc("POST /v1/video_generation", a.film)
	mux.HandleFunc("GET /v1/query/video_generation", a.poll)
	mux.HandleFunc("GET /v1/files/retrieve", a.retrieve)
	mux.HandleFunc("POST /v1/files/upload", a.upload)
	mux.HandleFunc("POST /v1/voice_clone", a.clone)
	return &standin.Strict{Authorization: "Bearer " + credential, Keys: keys, Report: report, Service: mux}
}

// next is a number that nothing has yet; the caller holds mu.
func (a *account) next() int64 {
	a.last++
	return a.last
}

// answer writes members, and that they are a success.
func answer(w http.ResponseWriter, members map[string]any) {
	members["base_resp"] = result(fine, "success")
	standin.JSON(w, http.StatusOK, members)
}

// refuse writes a failure as MiniMax does: with HTTP 200.
func refuse(w http.ResponseWriter, code int, why string) {
	standin.JSON(w, http.StatusOK, map[string]any{"base_resp": result(code, why)})
}

func result(code int, text string) map[string]any {
	return map[string]any{"status_code": code, "status_msg": text}
}

// read reads a body into v and reports whether it could.
func read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		refuse(w, parameters, fmt.Sprintf("invalid params: %v", err))
		return false
	}
	return true
}
