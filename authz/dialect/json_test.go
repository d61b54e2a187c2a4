package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"tollgate/authz/reason"
)

// readBody reads a body by a path of OpenAI's.
func readBody(t testing.TB, path, body string, h ...Header) (c Call, r reason.Reason, detail, param string) {
	t.Helper()
	if !openAI.Route(&c, http.MethodPost, path) {
		t.Fatal("no route")
	}
	r, detail, param = c.Read(&Request{Body: []byte(body), Headers: h})
	return c, r, detail, param
}

func TestReadJSON(t *testing.T) {
	const (
		chatPath = "/v1/chat/completions"
		complete = "/v1/completions"
		respond  = "/v1/responses"
		embed    = "/v1/embeddings"
		draw     = "/v1/images/generations"
	)
	for _, tt := range []struct {
		name, path, body string
		want             Call // Choices 0 means 1
	}{
		{"model only", chatPath, `{"model":"m"}`, Call{Model: "m", ModelAt: Span{9, 12}}},
		{"blanks", chatPath, " \r\n\t{ \"model\" : \"m\" } \n", Call{Model: "m", ModelAt: Span{16, 19}}},
		{"model last", chatPath, `{"messages":[],"model":"a/b"}`, Call{Model: "a/b", ModelAt: Span{23, 28}}},
		{"escaped value", chatPath, `{"model":"a\/\u00e9\ud83d\ude00"}`, Call{Model: "a/é😀", ModelAt: Span{9, 32}}},
		{"escaped name", chatPath, `{"\u006dodel":"m"}`, Call{Model: "m", ModelAt: Span{14, 17}}},
		{"model inside of others", chatPath, `{"a":{"model":"x","Model":1},"model":"m"}`, Call{Model: "m", ModelAt: Span{37, 40}}},
		{"long names with escapes", chatPath, `{"models\u0000` + strings.Repeat("A", 300) + `":1,"` + strings.Repeat(`\u006d`, 300) + `":2,"model":"m"}`, Call{}},
		{"names that only look alike", chatPath, `{"models":1,"mode":2,"model_":3,"мodel":4,"":5,"model":"m"}`, Call{Model: "m", ModelAt: Span{56, 59}}},
		{"longest model", chatPath, `{"model":"` + strings.Repeat("é", 128) + `"}`, Call{Model: strings.Repeat("é", 128), ModelAt: Span{9, 267}}},
		{"longest model, escaped", chatPath, `{"model":"` + strings.Repeat(`\u0061`, 256) + `"}`, Call{Model: strings.Repeat("a", 256), ModelAt: Span{9, 1547}}},

		{"output", chatPath, `{"model":"m","max_tokens":7}`, Call{MaxOutput: 7}},
		{"largest output", chatPath, `{"max_completion_tokens":9,"model":"m","max_tokens":7}`, Call{MaxOutput: 9}},
		{"largest output, the other way round", chatPath, `{"max_completion_tokens":7,"model":"m","max_tokens":9}`, Call{MaxOutput: 9}},
		{"output of a response", respond, `{"model":"m","max_output_tokens":8}`, Call{MaxOutput: 8}},
		{"output of a completion", complete, `{"model":"m","max_tokens":7}`, Call{MaxOutput: 7}},
		{"another path's output, chat", chatPath, `{"model":"m","max_output_tokens":1}`, Call{}},
		{"another path's output, completions", complete, `{"model":"m","max_output_tokens":1,"max_completion_tokens":1}`, Call{}},
		{"another path's output, responses", respond, `{"model":"m","max_tokens":1,"max_completion_tokens":1}`, Call{}},
		{"another path's output, embeddings", embed, `{"model":"m","max_tokens":1,"max_completion_tokens":1,"max_output_tokens":1}`, Call{}},
		{"another path's output of any kind", respond, `{"model":"m","max_tokens":["1"],"n":0,"best_of":"x"}`, Call{}},
		{"another path's output beside its own", chatPath, `{"model":"m","max_tokens":7,"max_output_tokens":9}`, Call{MaxOutput: 7}},
		{"null output", chatPath, `{"model":"m","max_tokens":null,"n":null,"stream":null,"stream_options":null}`, Call{}},
		{"output 0", chatPath, `{"model":"m","max_tokens":0}`, Call{}},
		{"huge output", chatPath, `{"model":"m","max_tokens":9223372036854775808000}`, Call{MaxOutput: MaxOutputTokens}},
		{"choices", chatPath, `{"model":"m","n":3}`, Call{Choices: 3}},
		{"best_of", complete, `{"model":"m","n":3,"best_of":5}`, Call{Choices: 5}},
		{"best_of of chat", chatPath, `{"model":"m","n":3,"best_of":5}`, Call{Choices: 3}},
		{"images", draw, `{"model":"m","n":4,"prompt":"a cat"}`, Call{Choices: 4, PromptBytes: 5}},
		{"n of what has one answer", embed, `{"model":"m","n":4}`, Call{}},
		{"huge n", chatPath, `{"model":"m","n":99999999999999999999}`, Call{Choices: MaxChoices}},
		{"prompts", complete, `{"model":"m","n":2,"prompt":["ab","c", "d"]}`, Call{Choices: 6, PromptBytes: 4}},
		{"prompts of tokens", complete, `{"model":"m","prompt":[[1,2],[3]]}`, Call{Choices: 2, PromptBytes: 12}},
		{"a prompt of tokens", complete, `{"model":"m","prompt":[1,2,3]}`, Call{PromptBytes: 12}},
		{"no prompts", complete, `{"model":"m","prompt":[]}`, Call{}},
		{"many choices", complete, `{"model":"m","n":1000000,"prompt":["a","b"]}`, Call{Choices: MaxChoices, PromptBytes: 2}},
		{"an array elsewhere", chatPath, `{"model":"m","prompt":["a","b"]}`, Call{PromptBytes: 2}},

		{"text", chatPath, `{"user":"nobody","model":"m","messages":[{"role":"user","content":"Hello"},{"content":[{"type":"text","text":"é"}]}]}`,
			Call{PromptBytes: int64(len("user" + "Hello" + "text" + "é"))}},
		{"text with escapes", chatPath, `{"model":"m","messages":["a\nb"]}`, Call{PromptBytes: 4}},
		{"inputs", respond, `{"model":"m","instructions":"abc","input":"defg"}`, Call{PromptBytes: 7}},
		{"input of tokens", embed, `{"model":"m","input":[[1,22,333],[4]]}`, Call{PromptBytes: 16}},
		{"tools count with their names", chatPath, `{"model":"m","tools":[{"name":"f","enum":["x"]}]}`, Call{PromptBytes: int64(len("name" + "f" + "enum" + "x"))}},
		{"system and suffix", complete, `{"model":"m","system":"ab","suffix":"c","functions":[{"d":"e"}]}`, Call{PromptBytes: 5}},

		{"stream false", chatPath, `{"model":"m","stream":false,"stream_options":{"include_usage":true}}`, Call{}},
		{"usage is told anyway", respond, `{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}`, Call{Stream: true}},
		{"asked", chatPath, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, Call{Stream: true, UsageOption: UsageOption{Asked: true}}},
		{"refused members that are off", respond, `{"model":"m","previous_response_id":null,"background":false,"conversation":null}`, Call{}},
	} {
		c, r, detail, param := readBody(t, tt.path, tt.body, Header{"content-type", "application/json"})
		if r != reason.None || detail != "" || param != "" {
			t.Errorf("%s: %v, %s, %s", tt.name, r, detail, param)
			continue
		}
		want := tt.want
		want.Dialect, want.Path, want.Action = c.Dialect, c.Path, c.Action
		if want.Choices = max(want.Choices, 1); want.Model == "" {
			want.Model, want.ModelAt = c.Model, c.ModelAt
		}
		if !reflect.DeepEqual(c, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, c, want)
		}
	}
}

func TestReadJSONRefuses(t *testing.T) {
	model := `"model":"m"`
	for _, tt := range []struct {
		name, body string
		want       reason.Reason
		detail     string // a part of it
		param      string
	}{
		{"no body", "", reason.BodyInvalid, "has no body", ""},
		{"blank", " \n", reason.BodyInvalid, "at byte 3: expected an object", ""},
		{"no object", `["model"]`, reason.BodyInvalid, "expected an object", ""},
		{"a string", `"model"`, reason.BodyInvalid, "expected an object", ""},
		{"null", `null`, reason.BodyInvalid, "expected an object", ""},
		{"empty object", `{}`, reason.ModelMissing, "", "model"},
		{"no model", `{"messages":[]}`, reason.ModelMissing, "", "model"},
		{"byte order mark", "\ufeff{" + model + "}", reason.BodyInvalid, "byte order mark", ""},
		{"UTF-16", "{\x00\"\x00m\x00", reason.BodyInvalid, "at byte 2:", ""},
		{"UTF-16, marked", "\xff\xfe{\x00", reason.BodyInvalid, "expected an object", ""},

		{"model twice", `{"model":"a","model":"a"}`, reason.ModelAmbiguous, "", "model"},
		{"model twice, far apart", `{"model":"a","messages":[` + strings.Repeat(`"x",`, 1e4) + `1],"model":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"twin", `{"model":"a","Model":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"twin first", `{"MODEL":"a","model":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"twin alone", `{"Model":"a"}`, reason.ModelAmbiguous, "", "model"},
		{"twin of null", `{"model":"a","modeL":null}`, reason.ModelAmbiguous, "", "model"},
		{"twice, escaped", `{"model":"a","mod\u0065l":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"twin, escaped", `{"model":"a","\u004dodel":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"cut at a NUL", `{"model":"a","model\u0000":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"cut at a NUL, longer", `{"model":"a","model\u0000` + strings.Repeat("x", 20) + `":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"cut at a NUL, much longer", `{"model\u0000` + strings.Repeat("A", 200) + `":"b","model":"a"}`, reason.ModelAmbiguous, "", "model"},
		{"cut at a NUL, 1 MB longer", `{"model":"a","MODEL\u0000` + strings.Repeat("A", 1<<20) + `":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"cut at a NUL, then surrogates", `{"model":"a","model\u0000` + strings.Repeat(`\ud83d\ude00`, 100) + `":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"cut at a NUL, alone", `{"model\u0000` + strings.Repeat("A", 200) + `":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"cut at a NUL, all escaped", `{"model":"a","` + escaped("model\x00"+strings.Repeat("x", 200)) + `":"b"}`, reason.ModelAmbiguous, "", "model"},
		{"a longer name cut at a NUL", `{"max_completion_tokens\u0000` + strings.Repeat("A", 200) + `":1,` + model + `}`, reason.BodyInvalid, "lower-case letters", "max_completion_tokens"},
		{"another path's name cut at a NUL", `{"max_output_tokens\u0000` + strings.Repeat("A", 200) + `":1,` + model + `}`, reason.BodyInvalid, "lower-case letters", "max_output_tokens"},
		{"an option cut at a NUL", `{"stream_options":{"include_usage\u0000` + strings.Repeat("A", 200) + `":false},` + model + `}`, reason.BodyInvalid, "lower-case letters", "stream_options.include_usage"},
		{"model null", `{"model":null}`, reason.BodyInvalid, "must be a string", "model"},
		{"model number", `{"model":1}`, reason.BodyInvalid, "must be a string", "model"},
		{"model array", `{"model":["m"]}`, reason.BodyInvalid, "must be a string", "model"},
		{"model object", `{"model":{"id":"m"}}`, reason.BodyInvalid, "must be a string", "model"},
		{"model empty", `{"model":""}`, reason.BodyInvalid, "is empty", "model"},
		{"model long", `{"model":"` + strings.Repeat("m", 257) + `"}`, reason.BodyInvalid, "more than 256 bytes", "model"},
		{"model long in UTF-8", `{"model":"` + strings.Repeat("é", 129) + `"}`, reason.BodyInvalid, "more than 256 bytes", "model"},
		{"model long, escaped", `{"model":"` + strings.Repeat(`\u0061`, 257) + `"}`, reason.BodyInvalid, "more than 256 bytes", "model"},
		{"model very long", `{"model":"\n` + strings.Repeat("m", 1<<20) + `"}`, reason.BodyInvalid, "more than 256 bytes", "model"},

		{"stream twice", `{"stream":true,"stream":false,` + model + `}`, reason.BodyInvalid, "The member stream stands there more than once", "stream"},
		{"stream twin", `{"stream":true,"STREAM":false,` + model + `}`, reason.BodyInvalid, "stream stands there more than once", "stream"},
		{"stream twin alone", `{"Stream":true,` + model + `}`, reason.BodyInvalid, "lower-case letters", "stream"},
		{"long s", `{"ſtream":true,` + model + `}`, reason.BodyInvalid, "lower-case letters", "stream"},
		{"Kelvin", `{"max_to\u212aens":1,` + model + `}`, reason.BodyInvalid, "lower-case letters", "max_tokens"},
		{"dotless i", `{"ınput":"x",` + model + `}`, reason.BodyInvalid, "lower-case letters", "input"},
		{"stream string", `{"stream":"true",` + model + `}`, reason.BodyInvalid, "must be true or false", "stream"},
		{"stream number", `{"stream":1,` + model + `}`, reason.BodyInvalid, "must be true or false", "stream"},
		{"stream nearly", `{"stream":tru,` + model + `}`, reason.BodyInvalid, "expected a value", ""},
		{"options twice", `{"stream_options":{},"stream_options":null,` + model + `}`, reason.BodyInvalid, "more than once", "stream_options"},
		{"options string", `{"stream_options":"x",` + model + `}`, reason.BodyInvalid, "must be an object", "stream_options"},
		{"include_usage twice", `{"stream_options":{"include_usage":true,"include_usage":false},` + model + `}`, reason.BodyInvalid, "more than once", "stream_options.include_usage"},
		{"include_usage twin", `{"stream_options":{"Include_Usage":true},` + model + `}`, reason.BodyInvalid, "lower-case", "stream_options.include_usage"},
		{"include_usage number", `{"stream_options":{"include_usage":1},` + model + `}`, reason.BodyInvalid, "must be true or false", "stream_options.include_usage"},
		{"options broken", `{"stream_options":{"include_usage":true,},` + model + `}`, reason.BodyInvalid, "name of a member", ""},
		{"max_tokens twice", `{"max_tokens":1,"max_tokens":2,` + model + `}`, reason.BodyInvalid, "more than once", "max_tokens"},
		{"max_tokens twin", `{"max_tokens":1,"Max_Tokens":2,` + model + `}`, reason.BodyInvalid, "more than once", "max_tokens"},
		{"another path's output twice", `{"max_output_tokens":1,"max_output_tokens":2,` + model + `}`, reason.BodyInvalid, "more than once", "max_output_tokens"},
		{"another path's output, twin", `{"Max_Output_Tokens":1,` + model + `}`, reason.BodyInvalid, "lower-case letters", "max_output_tokens"},
		{"another path's choices twice", `{"best_of":1,"best_of":2,` + model + `}`, reason.BodyInvalid, "more than once", "best_of"},
		{"max_completion_tokens twice", `{"max_completion_tokens":1,"max_completion_tokens":2,` + model + `}`, reason.BodyInvalid, "more than once", "max_completion_tokens"},
		{"max_tokens negative", `{"max_tokens":-1,` + model + `}`, reason.BodyInvalid, "whole number, 0 or more", "max_tokens"},
		{"max_tokens minus 0", `{"max_tokens":-0,` + model + `}`, reason.BodyInvalid, "whole number", "max_tokens"},
		{"max_tokens fraction", `{"max_tokens":1.5,` + model + `}`, reason.BodyInvalid, "whole number", "max_tokens"},
		{"max_tokens exponent", `{"max_tokens":1e9,` + model + `}`, reason.BodyInvalid, "whole number", "max_tokens"},
		{"max_tokens string", `{"max_tokens":"1",` + model + `}`, reason.BodyInvalid, "whole number", "max_tokens"},
		{"max_tokens 01", `{"max_tokens":01,` + model + `}`, reason.BodyInvalid, "a number begins with 0", ""},
		{"n 0", `{"n":0,` + model + `}`, reason.BodyInvalid, "at least 1", "n"},
		{"n twice", `{"n":1,"N":2,` + model + `}`, reason.BodyInvalid, "more than once", "n"},
		{"n nearly null", `{"n":nul,` + model + `}`, reason.BodyInvalid, "expected a value", ""},
		{"messages twice", `{"messages":[],"messages":[],` + model + `}`, reason.BodyInvalid, "more than once", "messages"},

		{"cut off", `{"model":"m"`, reason.BodyInvalid, "expected a comma or }", ""},
		{"cut off in a string", `{"model":"m`, reason.BodyInvalid, "a string has no end", ""},
		{"cut off in an escape", `{"model":"m\`, reason.BodyInvalid, "an escape that is not one", ""},
		{"cut off in a surrogate pair", `{"model":"\ud83d\ude`, reason.BodyInvalid, "half of a surrogate pair", ""},
		{"something behind", `{"model":"m"}x`, reason.BodyInvalid, "at byte 14: something follows", ""},
		{"an object behind", `{"model":"m"}{"model":"n"}`, reason.BodyInvalid, "something follows", ""},
		{"a NUL behind", "{\"model\":\"m\"}\x00", reason.BodyInvalid, "something follows", ""},
		{"trailing comma", `{"model":"m",}`, reason.BodyInvalid, "expected the name of a member", ""},
		{"trailing comma in an array", `{"model":"m","a":[1,]}`, reason.BodyInvalid, "expected a value", ""},
		{"leading comma", `{,"model":"m"}`, reason.BodyInvalid, "expected the name of a member", ""},
		{"single quotes", `{'model':'m'}`, reason.BodyInvalid, "expected the name of a member", ""},
		{"no quotes", `{model:"m"}`, reason.BodyInvalid, "expected the name of a member", ""},
		{"comment", `{/**/"model":"m"}`, reason.BodyInvalid, "expected the name of a member", ""},
		{"no colon", `{"model" "m"}`, reason.BodyInvalid, "expected a colon", ""},
		{"no comma", `{"a":1 "model":"m"}`, reason.BodyInvalid, "expected a comma or }", ""},
		{"wrong end", `{"a":[1},"model":"m"}`, reason.BodyInvalid, "expected a comma or ]", ""},
		{"NaN", `{"a":NaN,"model":"m"}`, reason.BodyInvalid, "expected a value", ""},
		{"Infinity", `{"a":-Infinity,"model":"m"}`, reason.BodyInvalid, "expected a digit", ""},
		{"True", `{"a":True,"model":"m"}`, reason.BodyInvalid, "expected a value", ""},
		{"hexadecimal", `{"a":0x1,"model":"m"}`, reason.BodyInvalid, "expected a comma", ""},
		{"plus", `{"a":+1,"model":"m"}`, reason.BodyInvalid, "expected a value", ""},
		{"no digit", `{"a":1.,"model":"m"}`, reason.BodyInvalid, "expected a digit", ""},
		{"no exponent", `{"a":1e,"model":"m"}`, reason.BodyInvalid, "expected a digit", ""},
		{"line feed in a string", "{\"model\":\"m\n\"}", reason.BodyInvalid, "control character", ""},
		{"NUL in a string", "{\"model\":\"m\x00\"}", reason.BodyInvalid, "control character", ""},
		{"no UTF-8", "{\"model\":\"\xff\"}", reason.BodyInvalid, "not UTF-8", ""},
		{"no UTF-8 elsewhere", "{\"a\":[\"\xc3\x28\"],\"model\":\"m\"}", reason.BodyInvalid, "not UTF-8", ""},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\",\"model\":\"m\"}", reason.BodyInvalid, "not UTF-8", ""},
		{"a surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\",\"model\":\"m\"}", reason.BodyInvalid, "not UTF-8", ""},
		{"half a surrogate pair", `{"a":"\ud800","model":"m"}`, reason.BodyInvalid, "half of a surrogate pair", ""},
		{"the other half", `{"a":"\udc00","model":"m"}`, reason.BodyInvalid, "half of a surrogate pair", ""},
		{"the other half twice", `{"a":"\udc00\udc00","model":"m"}`, reason.BodyInvalid, "half of a surrogate pair", ""},
		{"the first half twice", `{"a":"\ud800\ud800","model":"m"}`, reason.BodyInvalid, "half of a surrogate pair", ""},
		{"halves in the wrong order", `{"a":"\udc00\ud800","model":"m"}`, reason.BodyInvalid, "half of a surrogate pair", ""},
		{"half in a name", `{"\ud800":1,"model":"m"}`, reason.BodyInvalid, "half of a surrogate pair", ""},
		{"unknown escape", `{"a":"\x41","model":"m"}`, reason.BodyInvalid, "an escape that is not one", ""},
		{"no-break space", "{\u00a0\"model\":\"m\"}", reason.BodyInvalid, "expected the name of a member", ""},
	} {
		_, r, detail, param := readBody(t, "/v1/chat/completions", tt.body)
		if r != tt.want || param != tt.param || !strings.Contains(detail, tt.detail) || (detail != "") != (tt.detail != "") {
			t.Errorf("%s: %v, %q, %q; want %v, %q, %q", tt.name, r, detail, param, tt.want, tt.detail, tt.param)
		}
	}
}

func TestStoredObjectsAreRefused(t *testing.T) {
	for _, member := range []string{`"previous_response_id":"resp_1"`, `"conversation":{"id":"conv_1"}`, `"prompt":{"id":"pmpt_1"}`, `"background":true`, `"Background":false`, `"background":false,"background":false`} {
		_, r, detail, param := readBody(t, "/v1/responses", `{"model":"m",`+member+`}`)
		if r != reason.BodyInvalid || detail == "" || param == "" {
			t.Errorf("%s: %v, %s, %s", member, r, detail, param)
		}
	}
}

// escaped is s with each byte as an escape.
func escaped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\u%04x`, s[i])
	}
	return b.String()
}

// TestUsageOptionEdit makes the edit and asks encoding/json what it came to;
// the rest of the body stays as it was.
func TestUsageOptionEdit(t *testing.T) {
	for _, body := range []string{
		`{"model":"m","stream":true}`,
		" { \"model\":\"m\",\"stream\":true,\"seed\":9007199254740993}",
		`{"stream_options":null,"model":"m","stream":true}`,
		`{"stream_options":{},"model":"m","stream":true}`,
		`{"stream_options":{ },"model":"m","stream":true}`,
		`{"stream_options":{"a":1},"model":"m","stream":true}`,
		`{"stream_options":{"include_usage":false},"model":"m","stream":true}`,
		`{"stream_options":{"a":1,"include_usage": null ,"b":2},"model":"m","stream":true}`,
		`{"stream\u005foptions":{"include_usag\u0065":false},"model":"m","stream":true}`,
	} {
		c, r, detail, _ := readBody(t, "/v1/chat/completions", body)
		if r != reason.None || c.UsageOption.Asked {
			t.Errorf("%s: %v %s %+v", body, r, detail, c.UsageOption)
			continue
		}
		u := c.UsageOption
		edited := body[:u.Edit.Start] + u.Text + body[u.Edit.End:]
		var got struct {
			Options struct {
				Include bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		if err := json.Unmarshal([]byte(edited), &got); err != nil || !got.Options.Include {
			t.Errorf("%s became %s: %v", body, edited, err)
		}
		again, r, detail, _ := readBody(t, "/v1/chat/completions", edited)
		if r != reason.None || !again.UsageOption.Asked || again.Model != "m" {
			t.Errorf("%s became %s: %v %s", body, edited, r, detail)
		}
	}
}

func TestRename(t *testing.T) {
	body := `{"a":1,"model":"m","b":2}`
	c, _, _, _ := readBody(t, "/v1/chat/completions", body) //nolint:dogsled // why it would be refused is not asked here
	at, text, ok := c.Rename(`other "name"`)
	if got := body[:at.Start] + text + body[at.End:]; !ok || got != `{"a":1,"model":"other \"name\"","b":2}` {
		t.Errorf("%v, %s", ok, got)
	}
	c = Call{}
	openAI.Route(&c, http.MethodGet, "/v1/models/m")
	if _, _, ok := c.Rename("other"); ok {
		t.Error("a path was renamed in the body")
	}
}

func TestDepth(t *testing.T) {
	nested := func(open, end string, n int) string {
		return `{"model":"m","tools":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + `}`
	}
	for _, n := range []int{60, 512, maxDepth - 1} {
		for _, body := range []string{nested("[", "]", n), nested(`{"a":`, "}", n)} {
			if _, r, detail, _ := readBody(t, "/v1/chat/completions", body); r != reason.None {
				t.Errorf("%d levels: %v %s", n+1, r, detail)
			}
		}
	}
	for _, n := range []int{maxDepth, 1 << 20} {
		for _, body := range []string{nested("[", "]", n), nested(`{"a":`, "}", n), nested(`[{"a":`, "}]", n), `{"a":` + strings.Repeat("[", n)} {
			_, r, detail, _ := readBody(t, "/v1/chat/completions", body)
			if r != reason.BodyInvalid || !strings.Contains(detail, "nested too deep") {
				t.Errorf("%d levels: %v %s", n+1, r, detail)
			}
		}
	}
}

// TestLargeBodies: no body makes reading slow. Without -race these take 4 to
// 12 ms; the bound only finds what isn't linear.
func TestLargeBodies(t *testing.T) {
	const size = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for name, body := range map[string]string{
		"one prompt":          `{"messages":[{"content":"` + fill("The quick brown fox. ") + `"}],"model":"m"}`,
		"many members":        `{` + fill(`"a":1,`) + `"model":"m"}`,
		"many escaped names":  `{` + fill(`"\u0061":1,`) + `"model":"m"}`,
		"one escaped name":    `{"` + fill(`\u0061`) + `":1,"model":"m"}`,
		"many long names":     `{` + fill(`"model_\u0000`+strings.Repeat("A", 1000)+`":1,`) + `"model":"m"}`,
		"many folded names":   `{` + fill(`"ſſſſſſſſ":1,`) + `"model":"m"}`,
		"many data URLs":      `{"messages":[` + fill(`"data:;base64,",`) + `1],"model":"m"}`,
		"many prompts":        `{"prompt":[` + fill(`"a",`) + `1],"model":"m"}`,
		"many levels, closed": `{"a":[` + fill(`[[[[[[[[]]]]]]]],`) + `1],"model":"m"}`,
	} {
		start := time.Now()
		if _, r, detail, _ := readBody(t, "/v1/completions", body); r != reason.None {
			t.Errorf("%s: %v %s", name, r, detail)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestJSONHeaders(t *testing.T) {
	const body = `{"model":"m"}`
	for _, tt := range []struct {
		headers []Header
		detail  string // a part of it; "": accepted
	}{
		{nil, ""},
		{headers("content-type", ""), ""},
		{headers("content-type", "application/json"), ""},
		{headers("content-type", "Application/JSON"), ""},
		{headers("content-type", " application/json ; charset=UTF-8"), ""},
		{headers("content-type", `application/json; charset="utf-8"; x=y`), ""},
		{headers("content-type", "application/vnd.api+json"), ""},
		{headers("content-encoding", "identity"), ""},
		{headers("content-encoding", " "), ""},
		{headers("content-type", "text/plain"), "the content-type is text/plain"},
		{headers("content-type", "application/x-www-form-urlencoded"), "is application/x-www-form-urlencoded"},
		{headers("content-type", "multipart/form-data; boundary=x"), "is multipart/form-data"},
		{headers("content-type", "application/jsonx"), "is application/jsonx"},
		{headers("content-type", "application/+json"), "is application/+json"},
		{headers("content-type", "json"), "is json"},
		{headers("content-type", "application/json, text/plain"), "is another"},
		{headers("content-type", `<script>alert("x")</script>`), "is another"},
		{headers("content-type", ";"), "is another"},
		{headers("content-type", "x/"+strings.Repeat("y", 1000)), "is another"},
		{headers("content-type", "application/json; charset=utf-16"), "another charset"},
		{headers("content-type", "application/json; charset=utf-8; charset=utf-7"), "another charset"},
		{headers("content-type", "application/json;CHARSET=latin1"), "another charset"},
		{headers("content-type", "application/json", "content-type", "application/json"), "more than once"},
		{headers("content-encoding", "gzip"), "compressed"},
		{headers("content-encoding", "identity, br"), "compressed"},
		{headers("content-encoding", "identity", "content-encoding", "gzip"), "compressed"},
	} {
		for _, headersOnly := range []bool{false, true} {
			var c Call
			openAI.Route(&c, http.MethodPost, "/v1/chat/completions")
			req := &Request{Headers: tt.headers, HeadersOnly: headersOnly}
			if !headersOnly {
				req.Body = []byte(body)
			}
			r, detail, _ := c.Read(req)
			if accepted := r == reason.None; accepted != (tt.detail == "") || !strings.Contains(detail, tt.detail) {
				t.Errorf("%v, headers only %v: %v, %s", tt.headers, headersOnly, r, detail)
			}
		}
	}
}

func TestBodyIsNotReadWhereThePathNamesAll(t *testing.T) {
	var c Call
	openAI.Route(&c, http.MethodGet, "/v1/models/m")
	if r, detail, _ := c.Read(&Request{Body: []byte("{"), Headers: headers("content-encoding", "gzip")}); r != reason.None || c.Model != "m" {
		t.Errorf("%v %s %+v", r, detail, c)
	}
}

// TestFoldIsUnicodes: fold finds all that Unicode's simple folding, and so Go's
// encoding/json, takes for ASCII letters.
func TestFoldIsUnicodes(t *testing.T) {
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		for s := unicode.SimpleFold(r); s != r; s = unicode.SimpleFold(s) {
			if s < 0x80 && asciiTwin(r) != byte(unicode.ToLower(s)) {
				t.Errorf("%q folds to %q, asciiTwin says %q", r, s, asciiTwin(r))
			}
		}
		if a := asciiTwin(r); a != 0 && unicode.ToLower(r) >= 0x80 && unicode.ToUpper(r) >= 0x80 {
			t.Errorf("asciiTwin(%q) is %q", r, a)
		}
	}
}

// FuzzReadJSON compares with two other readers: what is accepted here is
// accepted by both, and they find the same values where they look for them,
// whether by exact name (jsontext) or without regard to case (encoding/json).
func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{
		`{"model":"m"}`, ` {"model" : "m" , "a" : [ 1 , -2.5e+10 , true , false , null , { } , [ ] ] } `,
		`{"model":"a\/\u00e9\ud83d\ude00\"\\\b\f\n\r\t","stream":true}`, `{"model":"m","Model":"n"}`, `{"ſtream":true,"model":"m"}`,
		`{"model":"m","stream":true,"stream_options":{"include_usage":false}}`, `{"model":"m","max_tokens":12,"n":3}`,
		`{"model":"m","\ud800":1}`, "{\"model\":\"\xff\"}", "\ufeff{\"model\":\"m\"}", `{"model":"m"}{}`, `{"a":[[[{"b":[{}]}]]],"model":"m"}`,
		`{"model\u0000x":"a","model":"m"}`, `{"model\u0000` + strings.Repeat("A", 200) + `":"a","model":"m"}`, `{"model":"m","max_output_tokens":"x","max_completion_tokens":3}`, `{"model":"m","prompt":["a",[1,2],"data:x;base64,aa"]}`, `{"model":"m","x":01}`, `{"x":1e5,"y":-0,"model":"m"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		kept := bytes.Clone(body)
		var c Call
		openAI.Route(&c, http.MethodPost, "/v1/completions")
		r, detail, _ := c.Read(&Request{Body: body})
		if !bytes.Equal(body, kept) {
			t.Fatal("the body was changed")
		}
		if r != reason.None {
			if detail == "" && r == reason.BodyInvalid || strings.Contains(detail, "\x00") {
				t.Errorf("%v with detail %q", r, detail)
			}
			return
		}
		var quoted string
		if err := json.Unmarshal(body[c.ModelAt.Start:c.ModelAt.End], &quoted); err != nil || quoted != c.Model {
			t.Errorf("ModelAt is %q (%v), Model %q", body[c.ModelAt.Start:c.ModelAt.End], err, c.Model)
		}
		if c.Choices < 1 || c.MaxOutput < 0 || c.PromptBytes < 0 || c.PromptBytes > 4*int64(len(body)) {
			t.Errorf("read %+v", c)
		}
		if err := sameToJSONText(&c, body); err != nil {
			t.Errorf("jsontext: %v", err)
		}
		if err := sameToEncodingJSON(&c, body); err != nil {
			t.Errorf("encoding/json: %v", err)
		}
	})
}

func sameToJSONText(c *Call, body []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	found := 0
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		cut, _, _ := strings.Cut(name.String(), "\x00") // as a reader in C does
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if !strings.EqualFold(cut, "model") {
			continue
		}
		found++
		if text, err := jsontext.AppendUnquote(nil, value); err != nil || string(text) != c.Model {
			return fmt.Errorf("model %s (%w), not %q", value, err, c.Model)
		}
	}
	if found != 1 {
		return fmt.Errorf("%d models", found)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

func sameToEncodingJSON(c *Call, body []byte) error {
	if !json.Valid(body) {
		return fmt.Errorf("not valid")
	}
	var got struct {
		Model     string          `json:"model"`
		Stream    bool            `json:"stream"`
		MaxTokens json.Number     `json:"max_tokens"`
		Options   json.RawMessage `json:"stream_options"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return err
	}
	if got.Model != c.Model || got.Stream != c.Stream {
		return fmt.Errorf("%+v, not %+v", got, c)
	}
	if n, err := got.MaxTokens.Int64(); err == nil && min(n, MaxOutputTokens) > c.MaxOutput {
		return fmt.Errorf("max_tokens %d, not %d", n, c.MaxOutput)
	}
	if u := c.UsageOption; u.Text != "" {
		edited := string(body[:u.Edit.Start]) + u.Text + string(body[u.Edit.End:])
		var got struct {
			Model   string `json:"model"`
			Options struct {
				Include bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		if err := json.Unmarshal([]byte(edited), &got); err != nil || !got.Options.Include || got.Model != c.Model {
			return fmt.Errorf("edited to %s: %w", edited, err)
		}
	}
	return nil
}
