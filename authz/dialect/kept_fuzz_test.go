package dialect

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

// FuzzReadMessages compares with a reader that builds the whole body: what is
// accepted names no file outside of a tool's arguments, and counts no more text than
// there is.
func FuzzReadMessages(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]}]}`,
		`{"model":"m","messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}`,
		`{"model":"m","messages":[{"content":[{"input":{"file_id":"f"}},[{"a":{"f\u0069le_id":1}}]]}]}`,
		`{"model":"m","messages":[{"input":1,"x":{"FILE_ID":"f"}}],"system":[{"text":"a"}],"tools":[{"name":"t"}]}`,
		`{"model":"m","messages":{"input":[{"input":{"b":[]}}],"file_id":null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var c Call
		anthropic.Route(&c, http.MethodPost, "/v1/messages")
		if r, _, _ := c.Read(&Request{Path: "/v1/messages", Body: body}); r != reason.None {
			return
		}
		var read struct {
			Messages any `json:"messages"`
		}
		if err := json.Unmarshal(body, &read); err != nil {
			t.Fatalf("accepted, and encoding/json says: %v", err)
		}
		if namesFile(read.Messages) {
			t.Errorf("a file is named in %s", body)
		}
		if c.PromptBytes < 0 || c.PromptBytes > 4*int64(len(body)) {
			t.Errorf("%d bytes of prompt in %d", c.PromptBytes, len(body))
		}
	})
}

func namesFile(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, namesFile)
	case map[string]any:
		for name, value := range v {
			if strings.EqualFold(name, "file_id") && value != nil || name != "input" && namesFile(value) {
				return true
			}
		}
	}
	return false
}
