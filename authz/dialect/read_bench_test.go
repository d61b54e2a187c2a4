package dialect

import (
	"net/http"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

// chatCall begins a call of chat completions.
func chatCall(t testing.TB) *Call {
	t.Helper()
	var c Call
	if !openAI.Route(&c, http.MethodPost, "/v1/chat/completions") {
		t.Fatal("no route")
	}
	return &c
}

// BenchmarkReadJSON tells the speed of reading; 200 MB/s is what it must have.
func BenchmarkReadJSON(b *testing.B) {
	const tail = `"}],"model":"meta-llama/Llama-3.1-8B-Instruct","stream":true,"max_tokens":64}`
	head := `{"messages":[{"role":"user","content":"`
	const size = 1 << 20
	for name, body := range map[string]string{
		"small":   head + "Hello" + tail,
		"english": head + strings.Repeat("The quick brown fox jumps over it. ", size/35) + tail,
		"escapes": head + strings.Repeat(`line\n\"quoted\" \u00e9`, size/23) + tail,
		"chinese": head + strings.Repeat("\u5929\u5730\u7384\u9ec4\u5b87\u5b99\u6d2a\u8352", size/24) + tail,
		"image":   `{"messages":[{"content":[{"image_url":{"url":"data:image/png;base64,` + strings.Repeat("iVBORw0KGgoAAAANSUhEUgAA", size/24) + `"}}]}],"x":[{"y":"` + tail,
		"tools":   head + `"}],"tools":[` + strings.Repeat(`{"type":"function","function":{"name":"f","parameters":{"type":"object","a":[1,2.5,true]}}},`, size/92) + `{}],"m":[{"x":"` + tail,
	} {
		b.Run(name, func(b *testing.B) {
			c := chatCall(b)
			req := &Request{Body: []byte(body)}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if r, detail, _ := c.Read(req); r != reason.None {
					b.Fatal(r, detail)
				}
			}
		})
	}
}
