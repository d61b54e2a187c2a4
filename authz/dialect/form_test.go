package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"tollgate/authz/reason"
)

const formType = "multipart/form-data; boundary=XBOUNDARY"

// aForm writes a form with the boundary XBOUNDARY out of parts, each of which
// is its headers without the last line end, and its content.
func aForm(parts ...[2]string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--XBOUNDARY\r\n" + p[0] + "\r\n\r\n" + p[1] + "\r\n")
	}
	return b.String() + "--XBOUNDARY--\r\n"
}

func field(name, value string) [2]string {
	return [2]string{`Content-Disposition: form-data; name="` + name + `"`, value}
}

var (
	theFile  = [2]string{"Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg", "\xff\xfb\x00--XBOUND\r\n--\r\n"}
	theModel = field("model", "whisper-1")
)

func readForm(t testing.TB, contentType, body string) (c Call, r reason.Reason, detail, param string) {
	t.Helper()
	if !openAI.Route(&c, http.MethodPost, "/v1/audio/transcriptions") {
		t.Fatal("no route")
	}
	r, detail, param = c.Read(&Request{Body: []byte(body), Headers: headers("content-type", contentType)})
	return c, r, detail, param
}

func TestReadForm(t *testing.T) {
	for name, tt := range map[string]struct {
		body   string
		stream bool
	}{
		"model first":           {aForm(theModel, theFile), false},
		"file first":            {aForm(theFile, theModel), false},
		"model alone":           {aForm(theModel), false},
		"no last line end":      {strings.TrimSuffix(aForm(theFile, theModel), "\r\n"), false},
		"other fields":          {aForm(field("language", "en"), theFile, field("timestamp_granularities[]", "word"), field("timestamp_granularities[]", "segment"), theModel), false},
		"stream":                {aForm(field("stream", "true"), theModel), true},
		"Stream of Python":      {aForm(field("stream", "True"), theModel), true},
		"no stream":             {aForm(field("stream", "false"), theModel), false},
		"a plain content type":  {aForm([2]string{theModel[0] + "\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit", theModel[1]}), false},
		"lengths of OkHttp":     {aForm([2]string{theModel[0] + "\r\nContent-Length: 9", theModel[1]}, [2]string{theFile[0] + "\r\nContent-Length: 0", ""}), false},
		"headers in other case": {aForm([2]string{"content-disposition:Form-Data;NAME=model ", theModel[1]}), false},
		"an empty file":         {aForm([2]string{theFile[0], ""}, theModel), false},
		"a file's name":         {aForm([2]string{"Content-Disposition: form-data; name=\"file\"; filename=\"ä; name=model;.mp3\"; filename*=UTF-8''%C3%A4.mp3", "x"}, theModel), false},
		"names that look alike": {aForm(field("models", "a"), field("mode", "b"), field("the model", "c"), field("", "d"), theModel), false},
	} {
		c, r, detail, param := readForm(t, formType, tt.body)
		if r != reason.None || c.Model != "whisper-1" || c.Stream != tt.stream || c.PromptBytes != 0 || c.Choices != 1 {
			t.Errorf("%s: %v %s %s, %+v", name, r, detail, param, c)
			continue
		}
		at, text, ok := c.Rename("other")
		edited := tt.body[:at.Start] + text + tt.body[at.End:]
		if at, text, ok := c.Relength("other"); ok { // which stands before it
			edited = edited[:at.Start] + text + edited[at.End:]
		}
		if again, r, detail, _ := readForm(t, formType, edited); !ok || r != reason.None || again.Model != "other" {
			t.Errorf("%s: renamed: %v %s %+v", name, r, detail, again)
		}
		if _, _, ok := c.Rename("a\r\nb"); ok {
			t.Errorf("%s: a line break went into a form", name)
		}
	}
}

// TestReadFormOfRealClients reads what Go's own writer makes.
func TestReadFormOfRealClients(t *testing.T) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	file, err := w.CreateFormFile("file", "speech.mp3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = file.Write(bytes.Repeat([]byte{0, '\r', '\n', '-'}, 1<<18)); err != nil {
		t.Fatal(err)
	}
	if err = w.WriteField("model", "openai/whisper-large-v3"); err != nil {
		t.Fatal(err)
	}
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	c, r, detail, _ := readForm(t, w.FormDataContentType(), body.String())
	if r != reason.None || c.Model != "openai/whisper-large-v3" {
		t.Errorf("%v %s %+v", r, detail, c)
	}
}

func TestReadFormRefuses(t *testing.T) {
	header := func(h, content string) [2]string { return [2]string{h, content} }
	disposition := `Content-Disposition: form-data; `
	for _, tt := range []struct {
		name, body string
		want       reason.Reason
		detail     string // a part of it
	}{
		{"no body", "", reason.BodyInvalid, "has no body"},
		{"no model", aForm(theFile), reason.ModelMissing, ""},
		{"no parts", "--XBOUNDARY--", reason.ModelMissing, ""},
		{"model twice", aForm(theModel, theFile, theModel), reason.ModelAmbiguous, "more than once"},
		{"twin", aForm(theModel, field("Model", "m")), reason.ModelAmbiguous, "more than once"},
		{"twin alone", aForm(field("MODEL", "m")), reason.ModelAmbiguous, "lower-case"},
		{"twin with blanks", aForm(theModel, field(" model ", "m")), reason.ModelAmbiguous, "more than once"},
		{"a list", aForm(theModel, field("model[]", "m")), reason.ModelAmbiguous, "more than once"},
		{"a member of a list", aForm(theModel, field("model[0]", "m")), reason.ModelAmbiguous, "more than once"},
		{"twin without quotes", aForm(theModel, header(disposition+"name=model", "m")), reason.ModelAmbiguous, "more than once"},
		{"twin in another encoding", aForm(theModel, header(disposition+"name*=UTF-8''model", "m")), reason.BodyInvalid, "a parameter besides"},
		{"continued name", aForm(theModel, header(disposition+`name*0="mo"; name*1="del"`, "m")), reason.BodyInvalid, "a parameter besides"},
		{"two names", aForm(header(disposition+`name="x"; name="model"`, "m")), reason.BodyInvalid, "two names"},
		{"two names in other letters", aForm(header(disposition+`name="x"; NAME="model"`, "m")), reason.BodyInvalid, "two names"},
		{"no name", aForm(header("Content-Disposition: form-data", "m")), reason.BodyInvalid, "no name"},
		{"name that ends in a backslash", aForm(header(disposition+`name="x\"; filename="; name="model"`, "m")), reason.BodyInvalid, "backslash"},
		{"no closing quote", aForm(header(disposition+`name="model`, "m")), reason.BodyInvalid, "a quotation mark too few"},
		{"text behind a value", aForm(header(disposition+`name="model"x`, "m")), reason.BodyInvalid, "can't be read"},
		{"no value", aForm(header(disposition+`name`, "m")), reason.BodyInvalid, "can't be read"},
		{"blank in a bare value", aForm(header(disposition+`name=mo del`, "m")), reason.BodyInvalid, "must be quoted"},
		{"name not in UTF-8", aForm(header(disposition+"name=\"\xff\"", "m")), reason.BodyInvalid, "no name"},
		{"another disposition", aForm(header(`Content-Disposition: attachment; name="model"`, "m")), reason.BodyInvalid, "not form-data"},
		{"no disposition", aForm(header("Content-Type: text/plain", "m")), reason.BodyInvalid, "no Content-Disposition"},
		{"two dispositions", aForm(header(disposition+`name="x"`+"\r\n"+theModel[0], "m")), reason.BodyInvalid, "two Content-Dispositions"},
		{"two content types", aForm(header(theModel[0]+"\r\nContent-Type: text/plain\r\nContent-Type: text/plain", "m")), reason.BodyInvalid, "two Content-Types"},
		{"twin encoded as in mail", aForm(theModel, field("=?utf-8?q?model?=", "m")), reason.BodyInvalid, "as in mail"},
		{"twin as an object", aForm(theModel, field("model.x", "m")), reason.ModelAmbiguous, "more than once"},
		{"a length that isn't", aForm(header(theModel[0]+"\r\nContent-Length: 1", "mm")), reason.BodyInvalid, "not its length"},
		{"a length of nothing", aForm(theModel, header(theFile[0]+"\r\nContent-Length: 0", "x")), reason.BodyInvalid, "not its length"},
		{"two lengths", aForm(header(theModel[0]+"\r\nContent-Length: 1\r\nContent-Length: 1", "m")), reason.BodyInvalid, "two Content-Lengths"},
		{"a compressed part", aForm(header(theModel[0]+"\r\nContent-Encoding: deflate", "m")), reason.BodyInvalid, "Content-Encoding"},
		{"a file as the model", aForm(header(disposition+`name="model"; filename="m"`, "m")), reason.BodyInvalid, "not a file"},
		{"another charset", aForm(header(theModel[0]+"\r\nContent-Type: text/plain; charset=utf-16le", "m\x00")), reason.BodyInvalid, "plain text in UTF-8"},
		{"base64", aForm(header(theModel[0]+"\r\nContent-Transfer-Encoding: base64", "bQ==")), reason.BodyInvalid, "Content-Transfer-Encoding"},
		{"base64 elsewhere", aForm(theModel, header(field("x", "")[0]+"\r\nContent-Transfer-Encoding: quoted-printable", "x")), reason.BodyInvalid, "Content-Transfer-Encoding"},
		{"charset field", aForm(theModel, field("_charset_", "utf-7")), reason.BodyInvalid, "_charset_"},
		{"a form in the form", aForm(theModel, header(field("x", "")[0]+"\r\nContent-Type: multipart/mixed; boundary=Y", "--Y--")), reason.BodyInvalid, "a form itself"},
		{"folded header", aForm(header("Content-Disposition: form-data;\r\n name=\"model\"", "m")), reason.BodyInvalid, "can't be read"},
		{"blank before the colon", aForm(header(`Content-Disposition : form-data; name="model"`, "m")), reason.BodyInvalid, "can't be read"},
		{"NUL in a header", aForm(header(disposition+"name=\"model\x00\"", "m")), reason.BodyInvalid, "control character"},
		{"carriage return in a header", aForm(header(disposition+"name=\"x\"\rContent-Disposition: form-data; name=\"model\"", "m")), reason.BodyInvalid, "control character"},
		{"bare line feed in headers", aForm(header("X: y\nContent-Disposition: form-data; name=\"model\"", "m")), reason.BodyInvalid, "CRLF"},
		{"bare line feeds", strings.ReplaceAll(aForm(theModel), "\r\n", "\n"), reason.BodyInvalid, "behind a boundary"},
		{"boundary behind a line feed", aForm(theModel, field("x", "y\n--XBOUNDARY\r\n"+theModel[0]+"\r\n\r\nother")), reason.BodyInvalid, "boundary stands inside"},
		{"boundary behind a carriage return", aForm(theModel, field("x", "y\r--XBOUNDARY\r\n"+theModel[0]+"\r\n\r\nother")), reason.BodyInvalid, "boundary stands inside"},
		{"boundary inside of a line", aForm(theModel, field("x", "y--XBOUNDARY")), reason.BodyInvalid, "boundary stands inside"},
		{"longer boundary", aForm(theModel, field("x", "y\r\n--XBOUNDARYx")), reason.BodyInvalid, "behind a boundary"},
		{"boundary and blanks", strings.Replace(aForm(theFile, theModel), "\r\n--XBOUNDARY\r\n", "\r\n--XBOUNDARY \r\n", 1), reason.BodyInvalid, "behind a boundary"},
		{"boundary in a header", aForm(header(disposition+`name="--XBOUNDARY"`, "m")), reason.BodyInvalid, "boundary stands inside"},
		{"boundary as a header", aForm(header("--XBOUNDARY: x\r\n"+theModel[0], "m")), reason.BodyInvalid, "boundary stands inside"},
		{"text in front", "x\r\n" + aForm(theModel), reason.BodyInvalid, "must begin with its boundary"},
		{"a line in front", "\r\n" + aForm(theModel), reason.BodyInvalid, "must begin with its boundary"},
		{"text behind", aForm(theModel) + "x", reason.BodyInvalid, "behind a boundary"},
		{"a part behind", aForm(theModel) + aForm(theModel), reason.BodyInvalid, "behind a boundary"},
		{"no last boundary", strings.TrimSuffix(aForm(theModel), "--XBOUNDARY--\r\n"), reason.BodyInvalid, "ends before its last boundary"},
		{"last boundary cut off", strings.TrimSuffix(aForm(theModel), "-\r\n"), reason.BodyInvalid, "ends before its last boundary"},
		{"last dashes in another line", strings.TrimSuffix(aForm(theModel), "--\r\n") + "\r\n--", reason.BodyInvalid, "have no end"},
		{"cut off in the headers", "--XBOUNDARY\r\nContent-Disposition: form-data", reason.BodyInvalid, "have no end"},
		{"another boundary", strings.ReplaceAll(aForm(theModel), "XBOUNDARY", "YBOUNDARY"), reason.BodyInvalid, "must begin with its boundary"},
		{"long headers", aForm(header("X: "+strings.Repeat("y", maxPartHeaders), "m")), reason.BodyInvalid, "too long"},
		{"many headers", aForm(header(strings.Repeat("X: y\r\n", maxPartHeaders)+"X: y", "m")), reason.BodyInvalid, "too long"},
		{"many parts", strings.Repeat(strings.TrimSuffix(aForm(field("x", "y")), "--XBOUNDARY--\r\n"), maxParts+1) + "--XBOUNDARY--", reason.BodyInvalid, "too many parts"},
		{"model empty", aForm(field("model", "")), reason.BodyInvalid, "must be the name of a model"},
		{"model of two lines", aForm(field("model", "a\r\nb")), reason.BodyInvalid, "must be the name of a model"},
		{"model with a NUL", aForm(field("model", "a\x00")), reason.BodyInvalid, "must be the name of a model"},
		{"model not in UTF-8", aForm(field("model", "\xff")), reason.BodyInvalid, "must be the name of a model"},
		{"model long", aForm(field("model", strings.Repeat("m", MaxModelSize+1))), reason.BodyInvalid, "must be the name of a model"},
		{"stream twice", aForm(theModel, field("stream", "true"), field("stream", "false")), reason.BodyInvalid, "names stream more than once"},
		{"stream twin", aForm(theModel, field("Stream", "true")), reason.BodyInvalid, "names stream more than once"},
		{"stream of what", aForm(theModel, field("stream", "maybe")), reason.BodyInvalid, "stream must be true or false"},
		{"JSON", `{"model":"m"}`, reason.BodyInvalid, "must begin with its boundary"},
	} {
		_, r, detail, _ := readForm(t, formType, tt.body)
		if r != tt.want || !strings.Contains(detail, tt.detail) || (detail != "") != (tt.detail != "") {
			t.Errorf("%s: %v, %q; want %v, %q", tt.name, r, detail, tt.want, tt.detail)
		}
	}
}

func TestFormHeaders(t *testing.T) {
	for contentType, detail := range map[string]string{
		formType: "",
		`Multipart/Form-Data; Boundary="XBOUNDARY"`:              "",
		`multipart/form-data; charset=utf-8; boundary=XBOUNDARY`: "",
		"":                                    "is another",
		"application/json":                    "is application/json",
		"multipart/mixed; boundary=XBOUNDARY": "is multipart/mixed",
		"multipart/form-data":                 "no boundary",
		"multipart/form-data; boundary=":      "no boundary",
		"multipart/form-data; boundary = XBOUNDARY":                    "no boundary",
		"multipart/form-data; boundary=XBOUNDARY; charset=utf-7":       "another charset", // by which Django reads names
		"multipart/form-data; charset=\"utf-16\"; boundary=XBOUNDARY":  "another charset",
		`multipart/form-data; boundary=""`:                             "no boundary",
		"multipart/form-data; boundary*=utf-8''XBOUNDARY":              "no boundary",
		"multipart/form-data; boundary*0=XBOUN; boundary*1=DARY":       "no boundary",
		"multipart/form-data; boundary=XBOUNDARY; boundary=YBOUNDARY":  "no boundary",
		"multipart/form-data; boundary=XBOUNDARY; BOUNDARY=YBOUNDARY":  "no boundary",
		`multipart/form-data; boundary="XBOUND\ARY"`:                   "no boundary",
		`multipart/form-data; boundary="XBOUNDARY "`:                   "no boundary",
		`multipart/form-data; boundary=XBOUNDARY, multipart/form-data`: "no boundary",
		"multipart/form-data; boundary=" + strings.Repeat("x", 71):     "no boundary",
		"multipart/form-data; boundary=\"X\u00e9\"":                    "no boundary",
	} {
		_, r, got, _ := readForm(t, contentType, aForm(theModel))
		if (r == reason.None) != (detail == "") || !strings.Contains(got, detail) {
			t.Errorf("%s: %v, %s", contentType, r, got)
		}
	}
	var c Call
	openAI.Route(&c, http.MethodPost, "/v1/audio/transcriptions")
	if r, detail, _ := c.Read(&Request{HeadersOnly: true, Headers: headers("content-type", formType)}); r != reason.None {
		t.Errorf("headers only: %v %s", r, detail)
	}
	if r, _, _ := c.Read(&Request{HeadersOnly: true, Headers: headers("content-type", formType, "content-encoding", "gzip")}); r != reason.BodyInvalid {
		t.Errorf("headers only, compressed: %v", r)
	}
}

// TestFilesAreNotCopied: memory doesn't grow with the file.
func TestFilesAreNotCopied(t *testing.T) {
	var c Call
	openAI.Route(&c, http.MethodPost, "/v1/audio/transcriptions")
	allocated := func(size int) uint64 {
		body := aForm(field("x", "y"), [2]string{theFile[0], strings.Repeat("\r\n--", size/4)}, theModel)
		req := &Request{Body: []byte(body), Headers: headers("content-type", formType)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if r, detail, _ := c.Read(req); r != reason.None {
			t.Fatal(r, detail)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if bytes := allocated(1 << 22); bytes > 64<<10 {
		t.Errorf("%d bytes allocated for a form with 4 MiB of file", bytes)
	}
}

// The query of a form's request may name nothing that is read in the form: Go's
// servers, for one, take what stands there first.
func TestFormAndQuery(t *testing.T) {
	body := aForm(theModel, theFile)
	for target, want := range map[string]reason.Reason{
		"/v1/audio/transcriptions":                                   reason.None,
		"/v1/audio/transcriptions?api-version=1&x=%20":               reason.None,
		"/v1/audio/transcriptions?model=other":                       reason.ModelAmbiguous,
		"/v1/audio/transcriptions?x=1&mod%65l=other":                 reason.ModelAmbiguous,
		"/v1/audio/transcriptions?model[]=other":                     reason.ModelAmbiguous,
		"/v1/audio/transcriptions?stream=true":                       reason.BodyInvalid,
		"/v1/audio/transcriptions?x=1;model=other":                   reason.BodyInvalid,
		"/v1/audio/transcriptions?x=%zz":                             reason.None, // no server takes a value for a name
		"/v1/audio/transcriptions?%zz=1":                             reason.BodyInvalid,
		"/v1/audio/transcriptions?" + strings.Repeat("a&", maxPairs): reason.BodyInvalid,
	} {
		var c Call
		openAI.Route(&c, http.MethodPost, "/v1/audio/transcriptions")
		req := &Request{Path: target, Body: []byte(body), Headers: headers("content-type", formType)}
		if r, detail, _ := c.Read(req); r != want {
			t.Errorf("%s: %v %s", target, r, detail)
		}
		there, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://upstream"+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		there.Header.Set("Content-Type", formType)
		if model := there.FormValue("model"); want == reason.None && model != "whisper-1" {
			t.Errorf("%s: another server reads the model %q", target, model)
		}
	}
	var c Call
	minimax.Route(&c, http.MethodPost, "/v1/files/upload")
	upload := aForm(field("purpose", "voice_clone"), theFile)
	if r, _, param := c.Read(&Request{Path: "/v1/files/upload?purpose=retrieval", Body: []byte(upload), Headers: headers("content-type", formType)}); r != reason.BodyInvalid || param != "purpose" {
		t.Errorf("another purpose in the query: %v %s", r, param)
	}
}

// FuzzReadForm compares with mime/multipart: what is accepted here is accepted
// there, and it finds one model, the same, and the same fields by any name.
func FuzzReadForm(f *testing.F) {
	for _, body := range []string{
		aForm(theFile, theModel), aForm(theModel), aForm(theModel, field("Model", "x")), aForm(theModel, field("x", "y\n--XBOUNDARY\r\n")),
		aForm(theModel) + "--XBOUNDARY\r\n", "--XBOUNDARY--", aForm([2]string{"A:b\r\n" + theModel[0] + "\r\nContent-Type:text/plain", "m"}),
		aForm([2]string{`Content-Disposition: form-data; name=model; filename*=utf-8''x`, "m"}, theModel, field("stream", "1")),
	} {
		f.Add(formType, []byte(body))
	}
	f.Add(`multipart/form-data; boundary="X BOUNDARY"`, []byte("--X BOUNDARY--"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		c, r, _, _ := readForm(t, contentType, string(body))
		if r != reason.None {
			return
		}
		if err := sameToMultipart(&c, contentType, body); err != nil {
			t.Error(err)
		}
	})
}

func sameToMultipart(c *Call, contentType string, body []byte) error {
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		return err
	}
	models := 0
	for r := multipart.NewReader(bytes.NewReader(body), parameters["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(p)
		if err != nil {
			return err
		}
		if !strings.EqualFold(strings.TrimSpace(p.FormName()), "model") {
			continue
		}
		models++
		if p.FileName() != "" || string(content) != c.Model || string(body[c.ModelAt.Start:c.ModelAt.End]) != c.Model {
			return fmt.Errorf("the model is %q in %q, %q was read", content, p.FileName(), c.Model)
		}
	}
	if models != 1 {
		return fmt.Errorf("%d models", models)
	}
	return nil
}
