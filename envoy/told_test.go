package envoy_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"tollgate/authz"
	"tollgate/authz/dialect"
)

// A tale is an answer and what the settlement is told of its members.
type tale struct {
	name, kind, body string
	watch            string // names with spaces between
	want             []authz.Label
	used             bool // states its tokens, too
}

const (
	asJSON   = "application/json"
	asEvents = "text/event-stream"
)

func labels(pairs ...string) []authz.Label {
	var l []authz.Label
	for i := 0; i < len(pairs); i += 2 {
		l = append(l, authz.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return l
}

const chatWatch = "base_resp.status_code"

// tales are answers of services that state more than tokens, and what might be
// taken for one.
var tales = []tale{
	{name: "MiniMax chat", used: true, kind: asJSON, watch: chatWatch, want: labels(chatWatch, "0"),
		body: `{"id":"04a1","choices":[{"finish_reason":"stop","index":0,"message":{"content":"{\"base_resp\":{\"status_code\":9}}","role":"assistant"}}],"created":1,"model":"M","object":"chat.completion","usage":{"total_tokens":249,"total_characters":0},"input_sensitive":false,"base_resp":{"status_code":0,"status_msg":""}}`},
	{name: "MiniMax refuses with 200", kind: "application/json; charset=utf-8", watch: chatWatch, want: labels(chatWatch, "1002"),
		body: `{"base_resp":{"status_code":1002,"status_msg":"rate limit exceeded(RPM)"}}`},
	{name: "MiniMax speech", kind: asJSON, watch: chatWatch + " extra_info.usage_characters extra_info.audio_length",
		want: labels(chatWatch, "0", "extra_info.usage_characters", "26", "extra_info.audio_length", "9900"),
		body: `{"data":{"audio":"fffb90c4","status":2},"extra_info":{"audio_length":9900,"audio_sample_rate":32000,"invisible_character_ratio":0,"usage_characters":26},"trace_id":"01b8","base_resp":{"status_code":0,"status_msg":"success"}}`},
	{name: "MiniMax video task", kind: asJSON, watch: chatWatch + " task_id", want: labels(chatWatch, "0", "task_id", "106916112212032"),
		body: `{"task_id":"106916112212032","base_resp":{"status_code":0,"status_msg":"success"}}`},
	{name: "MiniMax upload, an id beyond 2^53", kind: asJSON, watch: chatWatch + " file.file_id", want: labels(chatWatch, "0", "file.file_id", "186438274693701632"),
		body: `{"file": {"file_id": 186438274693701632 ,"bytes":5896337,"filename":"task_id","purpose":"voice_clone"},"base_resp":{"status_code":0,"status_msg":"success"}}`},
	{name: "MiniMax chat stream", used: true, kind: asEvents, watch: chatWatch, want: labels(chatWatch, "0"),
		body: sse(`{"id":"1","choices":[{"index":0,"delta":{"content":"\"base_resp\":{\"status_code\":7}"}}],"object":"chat.completion.chunk","usage":{"total_tokens":0},"output_sensitive":false}`,
			`{"id":"1","choices":[{"finish_reason":"stop","index":0,"message":{"content":"x"}}],"object":"chat.completion","usage":{"total_tokens":79},"base_resp":{"status_code":0,"status_msg":""}}`)},
	{name: "MiniMax stream that fails late", kind: asEvents, watch: chatWatch, want: labels(chatWatch, "1027"),
		body: sse(`{"choices":[{}],"base_resp":{"status_code":0,"status_msg":""}}`, hello, `{"base_resp":{"status_code":1027,"status_msg":"output sensitive"}}`) + done},
	{name: "MiniMax speech stream", kind: asEvents, watch: "extra_info.usage_characters " + chatWatch, want: labels("extra_info.usage_characters", "10", chatWatch, "0"),
		body: sse(`{"data":{"audio":"ff","status":1},"base_resp":{"status_code":0}}`, `{"data":{"audio":"","status":2},"extra_info":{"audio_length":10,"usage_characters":10},"base_resp":{"status_code":0}}`)},
	{name: "a model talks", kind: asJSON, watch: "task_id base_resp.status_code",
		body: `{"choices":[{"message":{"content":"\"task_id\":\"1\",\"base_resp\":{\"status_code\":0}}"},"task_id":"2"}],"x":{"task_id":"3","y":{"base_resp":{"status_code":"4"}}},"base_resp":[{"status_code":5}],"z":"task_id"}`},
	{name: "a model talks in a stream", kind: asEvents, watch: "task_id",
		body: sse(`{"c":"{\"task_id\":\"1\"}"}`, `"task_id"`, `["task_id",1]`, `"{\"task_id\":1}"`, `[{"task_id":1}]`, `{"response":{"task_id":1},"message":{"task_id":1}}`) + "data: x\ndata: {\"task_id\":1}\n\n: {\"task_id\":1}\n\nevent: {\"task_id\":1}\n\n"},
	{name: "kinds of values", kind: asJSON, watch: "a b c d e f g h", want: labels("a", "-1.50E+3", "b", "true", "c", "false", "e", "0.10", "f", "", "g", "07e2", "h", "ü %=&+"),
		body: "{\n \"a\" : -1.50E+3 ,\"b\":true\t,\"c\"\r\n:\r\nfalse,\"d\":null,\"e\":0.10,\"f\":\"\",\"g\":\"07e2\",\"h\":\"ü %=&+\" }"},
	{name: "what is no value", kind: asJSON, watch: "a b c d e f g h i",
		body: `{"a":[1],"b":{"c":1},"c":"\u0041","d":"a\nb","i":"` + "\x01" + `","e":1 2,"f":+,"g":nul,"h":"` + strings.Repeat("x", 257) + `"}`},
	{name: "the longest value", kind: asJSON, watch: "a b", want: labels("a", strings.Repeat(`"`, 256), "b", strings.Repeat("9", 256)),
		body: `{"a":"` + strings.Repeat(`\"`, 256) + `","b":` + strings.Repeat("9", 256) + `}`},
	{name: "escapes", kind: asJSON, watch: "a b c", want: labels("a", `https://x/"y"\`, "c", `\`), body: `{"a":"https:\/\/x\/\"y\"\\","b":"\\u0041\u0041","c":"\\"}`},
	{name: "a long name", kind: asJSON, watch: "an_uncommonly_long_name.and_another_one_in_it", want: labels("an_uncommonly_long_name.and_another_one_in_it", "1"),
		body: `{"an_uncommonly_long_name.and_another_one_in_it":2,"an_uncommonly_long_name":{"and_another_one_in_it":1,"and_another_one_in_it_too":3}}`},
	{name: "deep", kind: asJSON, watch: "a.b.c a.b.d a.e", want: labels("a.b.c", "1", "a.b.d", "2", "a.e", "3"),
		body: `{"x":{"a":{"b":{"c":9}}},"a":{"a":{"b":{"c":9}},"b":{"x":{"c":9},"c":1,"y":[{"c":9}],"d":2},"c":9,"e":3},"b":{"c":9}}`},
	{name: "much space", kind: asJSON, watch: "a b", want: labels("b", "1"), body: `{"a":` + strings.Repeat(" ", 600) + `1,"b":` + strings.Repeat("\n", 200) + `1}`},
	{name: "twice", kind: asJSON, watch: "a b.c d", want: labels("d", "1"), body: `{"a":1,"b":{"c":1},"a":1,"b":null,"d":1}`},
	{name: "twice inside", kind: asJSON, watch: "b.c b.d", want: labels("b.d", "2"), body: `{"b":{"c":1,"d":2,"c":{}}}`},
	{name: "beside usage", used: true, kind: asJSON, watch: "response.id id", want: labels("response.id", "1", "id", "2"), body: `{"response":{"id":1,"usage":{"id":9}},"usage":{"id":9,"prompt_tokens":1},"id":2}`},
	{name: "in a holder of usage", used: true, kind: asEvents, watch: "response.id id", want: labels("response.id", "1", "id", "2"), body: sse(`{"response":{"id":1,"usage":{"id":9,"prompt_tokens":1}},"id":2}`)},
	{name: "inside of usage", used: true, kind: asJSON, watch: "usage.seconds usage.input_token_details.x", want: labels("usage.seconds", "4.5", "usage.input_token_details.x", "1"),
		body: `{"text":"x","usage":{"type":"duration","usage":{"prompt_tokens":9},"input_token_details":{"cached_tokens":3,"x":1},"seconds":4.5,"input_tokens":11,"output_tokens":7},"x":{"usage":{"seconds":9}}}`},
	{name: "inside of a holder's usage", used: true, kind: asEvents, watch: "response.usage.seconds usage.seconds", want: labels("response.usage.seconds", "4"),
		body: sse(`{"response":{"usage":{"type":"duration","seconds":4,"a":{},"prompt_tokens":1}},"x":1}`)},
	{name: "usage inside of a holder's", kind: asEvents, watch: "response.a.b", want: labels("response.a.b", "1"), body: sse(`{"response":{"a":{"usage":{"prompt_tokens":9},"b":1}}}`)},
	{name: "usage inside", kind: asJSON, watch: "a.b", want: labels("a.b", "1"), body: `{"a":{"usage":{"prompt_tokens":9},"b":1}}`},
	{name: "the last one that says it", kind: asEvents, watch: "a b c", want: labels("a", "2", "b", "1"),
		body: sse(`{"a":1,"b":1,"c":1}`, `{"a":2,"b":null,"c":[]}`) + done},
	{name: "over several lines", kind: asEvents, watch: "a b", want: labels("a", "1"), body: "data: {\"a\":\r\ndata: 1\r\ndata: ,\"b\":1\r\ndata:2}\r\n\r\n"},
	{name: "no last line end", kind: asEvents, watch: "a", want: labels("a", "1"), body: sse(hello) + `data: {"a":1}`},
	{name: "not one object", kind: asJSON, watch: "a", body: `{"a":1}{"a":1}`},
	{name: "not one object in an event", kind: asEvents, watch: "a", body: sse(`{"a":1}x`)},
	{name: "an array", kind: asJSON, watch: "a", body: `[{"a":1}]`},
	{name: "not JSON", kind: "text/plain", watch: "a", body: `{"a":1}`},
	{name: "ends early", kind: asJSON, watch: "a b", want: labels("a", "1"), body: `{"a":1,"b":2`},
	{name: "not watched", kind: asJSON, body: `{"a":1}`},
}

// newWatch starts a gate that watches for what x-watch names, before an upstream
// that answers with the list's tale in the pieces that are asked for.
func newWatch(t *testing.T, list func() []tale) *gate {
	t.Helper()
	g := newTap(t, func(w http.ResponseWriter, r *http.Request) {
		s := list()[atoi(r.Header.Get("x-case"))]
		w.Header().Set("content-type", s.kind)
		send := http.NewResponseController(w)
		_ = send.Flush()
		size := atoi(r.Header.Get("x-first"))
		for body := s.body; body != ""; size = atoi(r.Header.Get("x-size")) {
			n := min(size, len(body))
			_, _ = io.WriteString(w, body[:n])
			_ = send.Flush()
			body = body[n:]
		}
		if r.Header.Get("x-stays") != "" {
			<-r.Context().Done()
		}
	})
	hook := g.checks.hook
	g.checks.hook = func(ctx context.Context, r *dialect.Request, d *authz.Decision) {
		hook(ctx, r, d)
		d.Watch = strings.Fields(headerOf(r, "x-watch"))
	}
	return g
}

// wrong asks for tale i in pieces, and says what is wrong with its settlement.
func (s *tale) wrong(t testing.TB, g *gate, i, first, size int) string {
	t.Helper()
	a := g.post(t, "/v1/x", "{}", fmt.Sprint("x-case: ", i), "x-watch: "+s.watch, fmt.Sprint("x-first: ", first), fmt.Sprint("x-size: ", size))
	if a.body != s.body {
		return fmt.Sprintf("the client got %q", a.body)
	}
	if o := g.settled.of(t, a.token()); !slices.Equal(o.Told, s.want) || !o.Complete || o.Reported != s.used {
		return fmt.Sprintf("in pieces of %d and %d of\n%.2000s\nis told %q, reported %v; want %q", first, size, s.body, o.Told, o.Reported, s.want)
	}
	return ""
}

// TestTold splits every answer at every byte: whole, byte by byte, and in pieces of
// an eighth that start at each offset.
func TestTold(t *testing.T) {
	g := newWatch(t, func() []tale { return tales })
	for i, s := range tales {
		t.Run(s.name, func(t *testing.T) {
			n := len(s.body)
			all := [][2]int{{1, 1}, {n, n}}
			for first := range (n + 7) / 8 {
				all = append(all, [2]int{first, (n + 7) / 8})
			}
			for _, pieces := range all {
				if w := s.wrong(t, g, i, pieces[0], pieces[1]); w != "" {
					t.Fatal(w)
				}
			}
		})
	}
}

// What is watched may stand anywhere in a long answer, and long values cost no
// memory.
func TestToldOfLongAnswers(t *testing.T) {
	long := `"data":{"audio":"` + strings.Repeat("fffb90c4", 300_000) + `","x":"` + strings.Repeat(`\"task_id\":[{`, 50_000) + `"}`
	list := []tale{
		{kind: asJSON, body: `{"task_id":"1",` + long + `}`, watch: "task_id", want: labels("task_id", "1")},
		{kind: asJSON, body: `{` + long + `,"task_id":"1"}`, watch: "task_id data.x", want: labels("task_id", "1")},
		{kind: asEvents, body: strings.Repeat(sse(hello), 20_000) + sse(`{`+long+`,"task_id":"1"}`), watch: "other task_id data.audio", want: labels("task_id", "1")},
		{kind: asEvents, body: strings.Repeat(sse(`{"task_id":7,"x":{}}`), 20_000), watch: "other task_id", want: labels("task_id", "7")},
	}
	g := newWatch(t, func() []tale { return list })
	for i, s := range list {
		if w := s.wrong(t, g, i, 1000, 1<<20); w != "" {
			t.Errorf("%d: %.300s", i, w)
		}
	}
}

// A caller that has read what it wants and hangs up has made its task all the same:
// what has passed is told.
func TestToldAfterHangUp(t *testing.T) {
	list := []tale{
		{name: "in JSON", kind: asJSON, body: `{"task_id":"1","more":`},
		{name: "in a stream", kind: asEvents, body: sse(`{"task_id":"1"}`, hello)},
	}
	g := newWatch(t, func() []tale { return list })
	for i, s := range list {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		resp, err := open(ctx, g.URL, fmt.Sprint("x-case: ", i), "x-watch: task_id", "x-stays: 1", "x-first: 3", "x-size: 7")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, len(s.body))); err != nil {
			t.Fatal(err)
		}
		cancel()
		if o := g.settled.of(t, resp.Header.Get("x-request-id")); !slices.Equal(o.Told, labels("task_id", "1")) || o.Flags != "DC" {
			t.Errorf("%s: %+v", s.name, o)
		}
	}
}

// A fact is the value of a member as a document has it, and what is told of it.
type fact struct {
	text string
	told string
	says byte // 't': told; 'n': nothing; 0: what can't be told
}

var facts = []fact{
	{`"v"`, "v", 't'}, {`""`, "", 't'}, {`"a\"b\/c\\d"`, `a"b/c\d`, 't'}, {`"{\"a\":\"x\"}"`, `{"a":"x"}`, 't'}, {`"ü"`, "ü", 't'}, {`"\\"`, `\`, 't'},
	{"0", "0", 't'}, {"9007199254740993", "9007199254740993", 't'}, {"-1.5e+3", "-1.5e+3", 't'}, {"true", "true", 't'}, {"false", "false", 't'},
	{"null", "", 'n'}, {`"\u0041"`, "", 0}, {`"\n"`, "", 0}, {`[]`, "", 0}, {`[{"a":1,"b":{"a":2}}]`, "", 0}, {`"` + strings.Repeat(`\"`, 260) + `"`, "", 0},
}

// drawObject draws an object with members that may be watched, and says in values
// what is told of them: "" for nothing yet.
func drawObject(t *rapid.T, prefix string, watched, space []string, values map[string]fact) string {
	blank := rapid.SampledFrom(space)
	var b strings.Builder
	had := map[string]bool{}
	for i := range rapid.IntRange(0, 4).Draw(t, "members") {
		if i > 0 {
			b.WriteString("," + blank.Draw(t, "blank"))
		}
		name := rapid.SampledFrom([]string{"a", "b", "usage", "response", "abcdefghijklmnopqrstuvwxyz"}).Draw(t, "name")
		path := prefix + name
		b.WriteString(`"` + name + `"` + blank.Draw(t, "blank") + ":" + blank.Draw(t, "blank"))
		inner := map[string]fact{}
		if strings.Count(path, ".") < 3 && rapid.Bool().Draw(t, "object") {
			b.WriteString(drawObject(t, path+".", watched, space, inner))
			inner[path] = fact{}
		} else {
			f := rapid.SampledFrom(facts).Draw(t, "value")
			b.WriteString(f.text)
			inner[path] = f
		}
		b.WriteString(blank.Draw(t, "blank"))
		for _, w := range watched {
			within := w == path || strings.HasPrefix(w, path+".")
			if f, ok := inner[w]; within && had[name] {
				values[w] = fact{} // twice
			} else if ok && f.says != 'n' {
				values[w] = f
			}
		}
		had[name] = true
	}
	return "{" + blank.Draw(t, "blank") + b.String() + "}"
}

// Any JSON object and any stream of them, in any pieces, is told as whoever wrote it
// says.
func TestToldAgainstModel(t *testing.T) {
	var list atomic.Pointer[[]tale]
	g := newWatch(t, func() []tale { return *list.Load() })
	watched := []string{"a", "b", "a.a", "a.b.a", "b.b", "response.a", "abcdefghijklmnopqrstuvwxyz.a"}
	rapid.Check(t, func(rt *rapid.T) {
		s := tale{kind: asJSON, watch: strings.Join(watched, " ")}
		all := map[string]fact{}
		if rapid.Bool().Draw(rt, "stream") {
			s.kind = asEvents
			for range rapid.IntRange(1, 5).Draw(rt, "events") {
				one := map[string]fact{}
				s.body += "data: " + drawObject(rt, "", watched, []string{"", "", " ", "|", "||"}, one) + "\n\n"
				maps.Copy(all, one)
			}
			s.body = strings.NewReplacer("||", "\r\ndata:", "|", "\ndata: ").Replace(s.body)
		} else {
			s.body = drawObject(rt, "", watched, []string{"", "", " ", "\n\t"}, all)
		}
		for _, name := range watched {
			if f := all[name]; f.says == 't' {
				s.want = append(s.want, authz.Label{Name: name, Value: f.told})
			}
		}
		list.Store(&[]tale{s})
		n := len(s.body)
		if w := s.wrong(t, g, 0, rapid.IntRange(0, n).Draw(rt, "first"), rapid.IntRange(1, n).Draw(rt, "size")); w != "" {
			rt.Fatal(w)
		}
	})
}
