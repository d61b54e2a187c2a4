package dialect

import (
	"strings"
	"testing"

	"tollgate/authz/reason"
)

// What a request names of the upstream's account is refused wherever it stands, and
// what only looks like it is not.
func TestKeptIsRefused(t *testing.T) {
	for _, c := range []struct {
		path, members string
		by            string // "": it passes
	}{
		{"/v1/chat/completions", `"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]`, "file_id"},
		{"/v1/chat/completions", `"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA"}}]}]`, ""},
		{"/v1/chat/completions", `"messages":[{"role":"user","content":"file_id"}],"metadata":{"file_id":"mine"}`, ""},
		{"/v1/chat/completions", `"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"file_id":{"type":"string"}}}}}]`, ""},
		{"/v1/responses", `"input":"hello"`, ""},
		{"/v1/responses", `"input":[]`, ""},
		{"/v1/responses", `"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}]`, "file_id"},
		{"/v1/responses", `"input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x/y","file_id":null}]}]`, ""},
		{"/v1/responses", `"input":[{"role":"user","content":[{"type":"input_image","f\u0069le_ID":"file-1"}]}]`, "file_id"},
		{"/v1/responses", `"input":[{"file_id":"file-1","type":"x"}]`, "file_id"},
		{"/v1/responses", `"input":[{"type":"item_reference","id":"msg_1"}]`, "item_reference"},
		{"/v1/responses", `"input":[{"id":"msg_1","type":"item\u005freference"}]`, "item_reference"},
		{"/v1/responses", `"input":[{"id":"msg_1"}]`, "by id"},
		{"/v1/responses", `"input":[{"id":"msg_1","type":null}]`, "by id"},
		{"/v1/responses", `"input":[{"id":"msg_1","Type":"message"}]`, "by id"},
		{"/v1/responses", `"input":[{"role":"user","content":"x"},{"\u0049D":"msg_1"}]`, "by id"},
		{"/v1/responses", `"input":[{"content":"x"},{}]`, ""},
		{"/v1/responses", `"input":[{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"x","annotations":[]}]},` +
			`{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{\"file_id\":1}"},{"type":"custom_tool_call","input":"x"}]`, ""},
		{"/v1/responses", `"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]`, "vector_store_ids"},
		{"/v1/responses", `"tools":[{"type":"code_interpreter","container":"cntr_1"}]`, "container"},
		{"/v1/responses", `"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"]}}]`, "file_ids"},
		{"/v1/responses", `"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]`, ""},
		{"/v1/responses", `"tools":[{"type":"shell","environment":{"type":"container_reference","container_id":"c"}}]`, "container_id"},
		{"/v1/responses", `"tools":[{"type":"image_generation","input_image_mask":{"file_id":"file-1"}}]`, "file_id"},
		{"/v1/responses", `"tools":[{"type":"function","name":"f","parameters":{"properties":{"file_id":{"type":"string"},"container":"x"}}},{"type":"web_search"}]`, ""},
		{"/v1/responses", `"tools":[{"parameters":{"a":{}}},{"type":"file_search","vector_store_ids":["vs_1"]}]`, "vector_store_ids"},
		{"/v1/responses", `"previous_response_id":"resp_1"`, "previous_response_id"},
		{"/v1/embeddings", `"input":[{"id":"x"}]`, ""},
	} {
		_, r, detail := readBodyOf(t, c.path, `{"model":"m",`+c.members+`}`)
		if c.by == "" && r != reason.None || c.by != "" && (r != reason.BodyInvalid || !strings.Contains(detail, c.by)) {
			t.Errorf("%s %s: %v %s, want %q", c.path, c.members, r, detail, c.by)
		}
	}
}

// Items are counted as any other value is.
func TestItemsCount(t *testing.T) {
	for members, want := range map[string]int64{
		`"input":[{"role":"user","content":"Hello"},{"type":"message","content":[{"text":"world"}]}]`:                   int64(len("user" + "Hello" + "message" + "world")),
		`"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AAAA"}]},"x",[3]]`: int64(len("user"+"input_image"+"x") + tokenBytes),
	} {
		if c, r, detail := readBodyOf(t, "/v1/responses", `{"model":"m",`+members+`}`); r != reason.None || c.PromptBytes != want {
			t.Errorf("%s: %v %s, %d bytes, want %d", members, r, detail, c.PromptBytes, want)
		}
	}
}
