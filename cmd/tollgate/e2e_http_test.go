//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answer is what came back; status 0 and the error in body if nothing did.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %v %.500s", a.status, a.header, a.body) }

// refusal is the OpenAI error of the body.
func (a answer) refusal(t *testing.T) (code, message string) {
	t.Helper()
	e := decodeJSON[struct {
		Error struct{ Message, Type, Code string }
	}](t, a.body).Error
	if e.Message == "" || e.Type == "" {
		t.Errorf("no OpenAI error: %v", a)
	}
	return e.Code, e.Message
}

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// try sends one request, with a key unless that is "", and headers written as
// "name: value".
func (g *gate) try(method, url, key, body string, headers ...string) answer {
	req, err := http.NewRequestWithContext(g.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return answer{body: err.Error()}
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{body: err.Error()}
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

// chat posts to chat/completions.
func (g *gate) chat(key, body string, headers ...string) answer {
	return g.try(http.MethodPost, "http://"+g.gateway+"/v1/chat/completions", key, body, headers...)
}

// chatBody asks a model "hi", with more members if extra has any.
func chatBody(model, extra string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}]%s}`, model, extra)
}

// stated is the usage in a chat's answer.
func (a answer) stated(t *testing.T) (input, output int) {
	t.Helper()
	u := decodeJSON[struct {
		Usage struct {
			Prompt     int `json:"prompt_tokens"`
			Completion int `json:"completion_tokens"`
		}
	}](t, a.body).Usage
	return u.Prompt, u.Completion
}

// exited reports whether a process is gone, or dead and not yet waited for.
func exited(pid int) bool {
	state, _ := statOf(pid)
	return state == 0 || state == 'Z' || state == 'X'
}

// statOf returns a process's state and parent; state 0 if there is none.
func statOf(pid int) (state byte, parent int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The name in parentheses may have spaces and parentheses of its own.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0][0], parent
}

// descendants are the processes below one, not counting the dead.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil || exited(child) {
			continue
		}
		if _, parent := statOf(child); parent == pid {
			all = append(append(all, child), descendants(t, child)...)
		}
	}
	return all
}

// envoyOf is the Envoy that a process supervises.
func envoyOf(t *testing.T, pid int) int {
	t.Helper()
	var found int
	within(t, time.Minute, "an Envoy below the process", func() error {
		for _, child := range descendants(t, pid) {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
			if strings.TrimSpace(string(name)) == "envoy" {
				found = child
				return nil
			}
		}
		return fmt.Errorf("none")
	})
	return found
}

// waitGone waits for processes to end.
func waitGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		within(t, time.Minute, "gone", func() error {
			if exited(pid) {
				return nil
			}
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return fmt.Errorf("process %d goes on: %s", pid, strings.ReplaceAll(string(name), "\x00", " "))
		})
	}
}

// residentMiB is the memory of a process in MiB.
func residentMiB(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); fields[0] == "VmRSS:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib / 1024
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}
