package minimax

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// film begins a video, which is asked for by the task's id afterwards.
func (a *account) film(w http.ResponseWriter, r *http.Request) {
	if !read(w, r, &struct{}{}) {
		return
	}
	a.mu.Lock()
	task := strconv.FormatInt(a.next(), 10)
	a.polls[task] = 0
	a.mu.Unlock()
	answer(w, map[string]any{"task_id": task})
}

// poll answers that a video is being made, and from the second time on that it is
// made and which file it is in.
func (a *account) poll(w http.ResponseWriter, r *http.Request) {
	task := r.URL.Query().Get("task_id")
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok := a.polls[task]
	if !ok {
		refuse(w, parameters, "invalid params: task_id")
		return
	}
	a.polls[task] = n + 1
	if n == 0 {
		answer(w, map[string]any{"task_id": task, "status": "Processing", "file_id": ""})
		return
	}
	// The task's number is the file's too.
	file, err := strconv.ParseInt(task, 10, 64)
	if err != nil {
		refuse(w, parameters, "invalid params: task_id")
		return
	}
	a.files[file] = true
	answer(w, map[string]any{"task_id": task, "status": "Success", "file_id": task, "video_width": 1366, "video_height": 768})
}

func (a *account) retrieve(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.URL.Query().Get("file_id"), 10, 64)
	a.mu.Lock()
	known := a.files[id]
	a.mu.Unlock()
	if err != nil || !known {
		refuse(w, parameters, "invalid params: file_id")
		return
	}
	answer(w, map[string]any{"file": map[string]any{"file_id": id, "purpose": "video_generation", "download_url": fmt.Sprintf("https://files.example/%d", id)}})
}

// upload takes the recording of a voice. The file's id is a number here.
func (a *account) upload(w http.ResponseWriter, r *http.Request) {
	f, head, err := r.FormFile("file")
	if err != nil {
		refuse(w, parameters, "invalid params: file")
		return
	}
	_ = f.Close() // what is in it counts for nothing
	a.mu.Lock()
	id := a.next()
	a.files[id] = true
	a.mu.Unlock()
	answer(w, map[string]any{"file": map[string]any{"file_id": id, "bytes": head.Size, "filename": head.Filename, "purpose": r.FormValue("purpose")}})
}

// clone makes a voice, under a name that the caller has chosen, of an uploaded file.
func (a *account) clone(w http.ResponseWriter, r *http.Request) {
	var req struct {
		File  json.Number `json:"file_id"`
		Voice string      `json:"voice_id"`
	}
	if !read(w, r, &req) {
		return
	}
	file, err := req.File.Int64()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || !a.files[file] || req.Voice == "" || a.voices[req.Voice] {
		refuse(w, parameters, "invalid params: file_id or voice_id")
		return
	}
	a.voices[req.Voice] = true
	answer(w, map[string]any{"input_sensitive": false, "input_sensitive_type": 0, "demo_audio": ""})
}

// event writes one event of a stream.
func event(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return // nothing here fails to be written
	}
	fmt.Fprintf(w, "data: %s\n\n", data)
	_ = http.NewResponseController(w).Flush()
}
