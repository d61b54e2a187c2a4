package minimax

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"tollgate/examples/standin"
)

// outOfMoney is a prompt that is answered as if the operator's account were empty.
const outOfMoney = "out of money"

// chat answers with the last message's words. As the real one does for some models,
// it states one number of tokens and not what it is made of.
func chat(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
	}
	if !read(w, r, &req) {
		return
	}
	if len(req.Messages) == 0 {
		refuse(w, parameters, "invalid params: messages is empty")
		return
	}
	prompt, tokens := req.Messages[len(req.Messages)-1].Content, 0
	for _, m := range req.Messages {
		tokens += standin.Words(m.Content)
	}
	if prompt == outOfMoney {
		refuse(w, noBalance, "insufficient balance")
		return
	}
	reply := "You said: " + prompt
	choice := func(member string) map[string]any {
		return map[string]any{"index": 0, "finish_reason": "stop", member: map[string]string{"role": "assistant", "content": reply}}
	}
	whole := map[string]any{
		"id": "04ecb5d9b1921ae0fb0e8da9017a5474", "created": 1755153113, "model": req.Model, "object": "chat.completion",
		"choices": []any{choice("message")}, "usage": map[string]int{"total_tokens": tokens + standin.Words(reply)},
	}
	if !req.Stream {
		answer(w, whole)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event(w, map[string]any{"id": whole["id"], "model": req.Model, "object": "chat.completion.chunk", "choices": []any{choice("delta")}})
	whole["base_resp"] = result(fine, "")
	event(w, whole)
}

// speak counts the characters of its text. A voice is one of the service's own, or
// one that somebody has cloned.
func (a *account) speak(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Text  string `json:"text"`
		Voice struct {
			ID string `json:"voice_id"`
		} `json:"voice_setting"`
	}
	if !read(w, r, &req) {
		return
	}
	a.mu.Lock()
	known := a.voices[req.Voice.ID] || req.Voice.ID == "" || strings.HasPrefix(req.Voice.ID, "English_")
	a.mu.Unlock()
	if !known {
		refuse(w, parameters, "invalid params: voice id not exist")
		return
	}
	characters := utf8.RuneCountInString(req.Text)
	answer(w, map[string]any{
		"data":       map[string]any{"audio": hex.EncodeToString([]byte(req.Text)), "status": 2},
		"extra_info": map[string]any{"audio_length": 60 * characters, "usage_characters": characters, "audio_format": "mp3"},
		"trace_id":   "01b8bf9bb7433cc75c18eee6cfa8fe21",
	})
}

func draw(w http.ResponseWriter, r *http.Request) {
	req := struct {
		N int `json:"n"`
	}{N: 1}
	if !read(w, r, &req) {
		return
	}
	if req.N < 1 || req.N > 9 {
		refuse(w, parameters, "invalid params: n is a number from 1 to 9")
		return
	}
	urls := make([]string, req.N)
	for i := range urls {
		urls[i] = fmt.Sprintf("https://images.example/%d.jpeg", i+1)
	}
	answer(w, map[string]any{"data": map[string]any{"image_urls": urls}, "metadata": map[string]int{"success_count": req.N, "failed_count": 0}})
}

func compose(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Lyrics string `json:"lyrics"`
	}
	if !read(w, r, &req) {
		return
	}
	answer(w, map[string]any{
		"data":       map[string]any{"audio": hex.EncodeToString([]byte(req.Lyrics)), "status": 2},
		"extra_info": map[string]int{"music_duration": 25364},
	})
}
