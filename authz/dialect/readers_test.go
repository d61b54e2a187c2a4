package dialect_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"tollgate/authz/dialect"
	"tollgate/authz/dialect/dialecttest"
	"tollgate/authz/reason"
)

// read is how a path of a dialect reads a body.
func read(t testing.TB, name, path, contentType, body string) (c dialect.Call, r reason.Reason) {
	t.Helper()
	d, ok := dialect.Lookup(name)
	if !ok || !d.Route(&c, http.MethodPost, path) {
		t.Fatalf("%s has no %s", name, path)
	}
	r, _, _ = c.Read(&dialect.Request{
		Method: http.MethodPost, Path: path, Body: []byte(body), Headers: []dialect.Header{{Name: "content-type", Value: contentType}},
	})
	return c, r
}

// What is accepted says the same to the parsers of Python, Node and Go, or they
// refuse it: bodies are made of pieces that readers are known to differ on.
func TestJSONForOtherReaders(t *testing.T) {
	names := []string{
		`"model"`, `"model"`, `"Model"`, `"MODEL"`, `"mod\u0065l"`, `"model\u0000"`, `"model "`, `"\u006dodel"`, `"messages"`, `"x"`, `'model'`, `model`,
		`"max_tokens"`, `"mode\u217c"`, "\"mode\u217c\"", `"stream"`, "\"\xff\"", `"\ud800"`, `"__proto__"`,
	}
	values := []string{
		`"m"`, `"m"`, `"n"`, `"\u006d"`, `"m\u0000"`, `"m "`, `null`, `1`, `["m"]`, `{"model":"n"}`, `{}`, `01`, `1e999`, `NaN`, `-0`, `true`, "\"m\xff\"", `"m\ud800"`, "\"m\n\"",
		`99999999999999999999`, `"\ud83d\ude00"`, `"a/b"`, `"m\/x"`,
	}
	around := []string{"%", "%", "%", "\ufeff%", "%\n", " %", "% x", "%{\"model\":\"n\"}", "[%]", "%\x00", "\x00%", "/**/%", "%//"}
	separators := []string{",", ",", ",", " , ", ",,", ";", ",/**/"}
	random := rand.New(rand.NewPCG(1, 7))
	pick := func(of []string) string { return of[random.IntN(len(of))] }
	accepted := agree(t, 6000, dialecttest.JSON, "model", func() (contentType, body string) {
		members := []string{`"model":"m"`, `"messages":[]`}[:1+random.IntN(2)]
		for range random.IntN(4) {
			members = append(members, pick(names)+":"+pick(values))
		}
		random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		return "application/json", strings.Replace(pick(around), "%", "{"+strings.Join(members, pick(separators))+"}", 1)
	}, func(contentType, body string) (dialect.Call, reason.Reason) {
		return read(t, "openai", "/v1/chat/completions", contentType, body)
	})
	t.Logf("%d accepted", accepted)
}

func TestMultipartForOtherReaders(t *testing.T) {
	heads := []string{
		`Content-Disposition: form-data; name="model"`, `Content-Disposition: form-data; name="model"`, `content-disposition: form-data; name=model`,
		`Content-Disposition: form-data; name="model"; filename="x"`, `Content-Disposition: form-data; name="file"; filename="a.wav"`,
		`Content-Disposition: form-data; name="Model"`, `Content-Disposition: form-data; name*=utf-8''model`, `Content-Disposition: form-data; name="mo\del"`,
		`Content-Disposition: form-data; name="x"; name="model"`, `Content-Disposition: attachment; name="model"`, "Content-Disposition: form-data;\r\n name=\"model\"",
		`Content-Disposition: form-data; name="=?utf-8?q?model?="`, "Content-Disposition: form-data; name=\"model\"\r\nContent-Length: 1", "Content-Disposition: form-data; name=\"x\"\r\nContent-Encoding: gzip",
		`Content-Disposition: form-data; filename="name=\"model\""; name="x"`, `Content-Disposition: form-data; name="model%00"`, `Content-Disposition: form-data ; name = "model"`,
		"Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"", `Content-Disposition: form-data; name="model[]"`,
		"Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64", "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=utf-16",
		"X: y", "",
	}
	contents := []string{"m", "m", "n", "m\r\n", "\r\nm", "m\r\n--b", "--b--", "bQ==", "m\x00", "\xff", "m\n--b\ncontent-disposition: form-data; name=\"model\"\n\nn", ""}
	ends := []string{"--b--\r\n", "--b--\r\n", "--b--", "--b", "--b--\r\nepilogue", "--b-- \r\n", "--b--\n", ""}
	begins := []string{"", "", "", "preamble\r\n", "\r\n", "--b \r\n", "--bb\r\n"}
	types := []string{
		"multipart/form-data; boundary=b", "multipart/form-data; boundary=b", `multipart/form-data; boundary="b"`, "multipart/form-data; boundary=b; boundary=c",
		"Multipart/Form-Data; Boundary=b", "multipart/form-data; charset=utf-8; boundary=b", "multipart/form-data;boundary=b,c", "multipart/mixed; boundary=b",
	}
	random := rand.New(rand.NewPCG(2, 7))
	pick := func(of []string) string { return of[random.IntN(len(of))] }
	accepted := agree(t, 6000, dialecttest.Multipart, "model", func() (contentType, body string) {
		parts := []string{heads[0] + "\r\n\r\nm"}
		for range random.IntN(3) {
			parts = append(parts, pick(heads)+"\r\n\r\n"+pick(contents))
		}
		random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		var b strings.Builder
		b.WriteString(pick(begins))
		for _, p := range parts {
			b.WriteString("--b\r\n" + p + "\r\n")
		}
		return pick(types), b.String() + pick(ends)
	}, func(contentType, body string) (dialect.Call, reason.Reason) {
		return read(t, "openai", "/v1/audio/transcriptions", contentType, body)
	})
	t.Logf("%d accepted", accepted)
}

func TestURLFormForOtherReaders(t *testing.T) {
	pieces := []string{
		"&", "&", "=", "model_id", "model_id=m", "model_id=n", "model%5Fid=n", "MODEL_ID=n", "model_id[]=n", "model.id=n", "model id=n", "model+id=n", "model_id%00=n",
		";", "%", "%zz", "+", "m", "\xff", "prompt=x", "max_tokens=5", "model_id=m%00", "%6dodel_id=n", " model_id=n", "?", "?model_id=n", "?%6dodel_id=n", "model_id.x=n",
	}
	random := rand.New(rand.NewPCG(3, 7))
	accepted := agree(t, 6000, dialecttest.Form, "model_id", func() (contentType, body string) {
		fields := []string{"action=mt_inference", "model_id=m"}
		for range random.IntN(4) {
			fields = append(fields, pieces[random.IntN(len(pieces))])
		}
		random.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
		return "application/x-www-form-urlencoded", strings.Join(fields, "&")
	}, func(contentType, body string) (dialect.Call, reason.Reason) {
		return read(t, "minibase", "/api.php", contentType, body)
	})
	t.Logf("%d accepted", accepted)
}

// agree tries n requests, and returns how many were accepted: enough, and each read
// alike by all readers.
func agree(t *testing.T, n int, kind, field string, request func() (contentType, body string), read func(contentType, body string) (dialect.Call, reason.Reason)) int {
	t.Helper()
	readers := dialecttest.Start(t)
	accepted := 0
	for range n {
		contentType, body := request()
		c, r := read(contentType, body)
		if r != reason.None {
			continue
		}
		accepted++
		if differ := dialecttest.Differ(readers.Read(t, kind, contentType, []byte(body), field), c.Model); differ != "" {
			t.Errorf("%q with %s: %q was read, %s", body, contentType, c.Model, differ)
		}
	}
	if accepted < n/50 || accepted > n*9/10 {
		t.Errorf("%d of %d were accepted: the test shows little", accepted, n)
	}
	return accepted
}
