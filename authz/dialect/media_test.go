package dialect

import (
	"strings"
	"testing"

	"tollgate/authz/reason"
)

// TestPromptBytesOfMedia: text costs as many bytes as it has wherever it stands,
// media nothing where the API takes them.
func TestPromptBytesOfMedia(t *testing.T) {
	const (
		chatPath = "/v1/chat/completions"
		complete = "/v1/completions"
		respond  = "/v1/responses"
		embed    = "/v1/embeddings"
		moderate = "/v1/moderations"
		// poem is text that only looks like base64.
		poem    = "write-me-a-long-poem"
		fake    = "data:a;base64," + poem
		asImage = "data:image/png;base64," + poem
	)
	// part is a message of chat with one part of content.
	part := func(part string) string { return `"messages":[{"content":[` + part + `]}]` }
	image := "data:image/png;base64," + strings.Repeat("iVBORw0KGgo=", 1000)
	for _, tt := range []struct {
		name, path, members string
		want                int
	}{
		{"image", chatPath, part(`{"type":"image_url","image_url":{"url":"` + image + `","detail":"low"}}`), len("image_url" + "low")},
		{"image with escaped slashes", chatPath, part(`{"image_url":{"url":"data:image\/png;base64,ab\/c="}}`), 0},
		{"sound", chatPath, part(`{"input_audio":{"data":"UklGRg==","format":"wav"}}`), len("wav")},
		{"sound by URL", chatPath, part(`{"audio_url":{"url":"data:audio/wav;base64,UklGRg=="}}`), 0},
		{"video", chatPath, part(`{"video_url":{"url":"data:video/mp4;base64,AAAA"}}`), 0},
		{"PDF", chatPath, part(`{"file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}}`), len("a.pdf")},
		{"image of a response", respond, `"input":[{"content":[{"type":"input_image","image_url":"` + image + `"}]}]`, len("input_image")},
		{"PDF of a response", respond, `"input":[{"content":[{"file_data":"data:application/pdf;base64,JVBERi0="}]}]`, 0},
		{"image from a tool", respond, `"input":[{"type":"computer_call_output","output":{"image_url":"` + image + `"}}]`, len("computer_call_output")},
		{"image to moderate", moderate, `"input":[{"image_url":{"url":"` + image + `"}}]`, 0},

		{"content", chatPath, `"messages":[{"content":"` + fake + `"}]`, len(fake)},
		{"content like an image", chatPath, `"messages":[{"content":"` + asImage + `"}]`, len(asImage)},
		{"text", chatPath, part(`{"type":"text","text":"` + asImage + `"}`), len("text" + asImage)},
		{"text in a member data", chatPath, part(`{"data":"` + poem + `"}`), len(poem)},
		{"text beside an image", chatPath, part(`{"image_url":{"url":"` + image + `"}},{"text":"` + asImage + `"}`), len(asImage)},
		{"a message that is a string", chatPath, `"messages":["` + asImage + `"]`, len(asImage)},
		{"prompt", complete, `"prompt":"` + asImage + `"`, len(asImage)},
		{"prompts", complete, `"prompt":["` + asImage + `","` + fake + `"]`, len(asImage + fake)},
		{"prompt with members", complete, `"prompt":[{"image_url":"` + asImage + `"}]`, len(asImage)},
		{"suffix", complete, `"suffix":"` + asImage + `"`, len(asImage)},
		{"input", respond, `"input":"` + asImage + `"`, len(asImage)},
		{"inputs", embed, `"input":["` + asImage + `","` + fake + `"]`, len(asImage + fake)},
		{"instructions", respond, `"instructions":"` + asImage + `"`, len(asImage)},
		{"system", chatPath, `"system":[{"image_url":"` + asImage + `"}]`, len(asImage)},
		{"tools", chatPath, `"tools":[{"image_url":{"url":"` + asImage + `"}}]`, len("image_url" + "url" + asImage)},
		{"arguments of a tool", chatPath, `"messages":[{"tool_calls":[{"function":{"arguments":"` + asImage + `"}}]}]`, len(asImage)},
		{"arguments with members", chatPath, `"messages":[{"tool_calls":[{"function":{"arguments":{"image_url":"` + asImage + `"}}}]}]`, len(asImage)},
		{"arguments, deeper", chatPath, `"messages":[{"tool_calls":[{"function":{"arguments":{"input_audio":{"data":"` + poem + `"}}}}]}]`, len(poem)},

		{"a file of text", chatPath, part(`{"file":{"file_data":"data:text/plain;base64,` + poem + `"}}`), len("data:text/plain;base64," + poem)},
		{"a file without a type", chatPath, part(`{"file":{"file_data":"data:;base64,` + poem + `"}}`), len("data:;base64," + poem)},
		{"a file that is no data: URL", chatPath, part(`{"file":{"file_data":"` + poem + `"}}`), len(poem)},
		{"an image that is no data: URL", respond, `"input":[{"content":[{"image_url":"` + poem + `"}]}]`, len(poem)},
		{"an image by its address", chatPath, part(`{"image_url":{"url":"https://example.com/a.png"}}`), len("https://example.com/a.png")},
		{"no base64", chatPath, part(`{"image_url":{"url":"data:image/png;base64,a long poem"}}`), len("data:image/png;base64,a long poem")},
		{"sound that is no base64", chatPath, part(`{"input_audio":{"data":"a poem"}}`), len("a poem")},
		{"a type that is only like one", chatPath, part(`{"image_url":{"url":"data:images/png;base64,` + poem + `"}}`), len("data:images/png;base64," + poem)},

		{"url elsewhere", chatPath, part(`{"url":"` + asImage + `"}`), len(asImage)},
		{"url behind an image", chatPath, part(`{"image_url":{"detail":"low"},"url":"` + asImage + `"}`), len("low" + asImage)},
		{"url behind an empty image", chatPath, part(`{"image_url":{},"url":"` + asImage + `"}`), len(asImage)},
		{"url in another object", chatPath, part(`{"image_url":{},"text":{"url":"` + asImage + `"}}`), len(asImage)},
		{"url below an image", chatPath, part(`{"image_url":[{"url":"` + asImage + `"}]}`), len(asImage)},
		{"a list of images", chatPath, part(`{"image_url":["` + asImage + `"]}`), len(asImage)},
		{"a string behind an image", chatPath, part(`{"image_url":"` + image + `"},"` + asImage + `"`), len(asImage)},
		{"data behind a sound", chatPath, part(`{"input_audio":{},"data":"` + poem + `"}`), len(poem)},
		{"a name that begins like one", chatPath, part(`{"image_url\u0000":"` + asImage + `"}`), len(asImage)},
	} {
		c, r, detail, _ := readBody(t, tt.path, `{"model":"m",`+tt.members+`}`)
		if r != reason.None || c.PromptBytes != int64(tt.want) {
			t.Errorf("%s: %d bytes, want %d (%v %s)", tt.name, c.PromptBytes, tt.want, r, detail)
		}
	}
}

// TestReadDoesNotAllocate: not for long names with escapes either.
func TestReadDoesNotAllocate(t *testing.T) {
	for name, members := range map[string]string{
		"image":  `"messages":[{"content":[{"image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}],"max_tokens":1,"n":2`,
		"escape": `"` + strings.Repeat(`\ud83d\ude00`, 100) + `":1,"\u006dax_tokens":1,"` + strings.Repeat("é", 100) + `\n":1`,
	} {
		c := chatCall(t)
		req := &Request{Body: []byte(`{"model":"m",` + members + `}`)}
		n := testing.AllocsPerRun(100, func() {
			if r, detail, _ := c.Read(req); r != reason.None {
				t.Fatal(r, detail)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
