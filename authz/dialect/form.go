package dialect

import (
	"bytes"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tollgate/authz/reason"
)

// Bounds of a form. A form that needs more is refused.
const (
	maxBoundary    = 70 // characters, as in RFC 2046
	maxParts       = 128
	maxPartHeaders = 8 << 10 // bytes, of all headers of a part
)

// spaced finds blanks around an equals sign: not every reader knows the parameter then.
var spaced = regexp.MustCompile(`[ \t]=|=[ \t]`)

// formBoundary takes the boundary out of a content-type of multipart/form-data.
// It allows fewer characters than RFC 2046: those that every reader takes the
// same, quoted or not.
func formBoundary(req *Request) (boundary, detail string) {
	contentType, detail := bodyHeaders(req)
	if detail != "" {
		return "", detail
	}
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	if given, _, _ := strings.Cut(contentType, ";"); !strings.EqualFold(trim(given), "multipart/form-data") {
		return "", "This path takes a form, and the content-type is " + shown(trim(given)) + ". Send content-type: multipart/form-data."
	}
	boundary = parameters["boundary"]
	if err != nil || mediaType != "multipart/form-data" || strings.ContainsAny(contentType, `\*`) || spaced.MatchString(contentType) || !isBoundary(boundary) {
		return "", "The content-type has no boundary that can be read. Let your HTTP client set the content-type of the form."
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return "", "This form is UTF-8, and the content-type has another charset, by which some servers read names. Leave it out."
	}
	return boundary, ""
}

func isBoundary(s string) bool {
	if s == "" || len(s) > maxBoundary {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("'()+_,-./:=?", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// formBody is a multipart/form-data body while it is read. Readers of forms
// differ more than those of JSON, so this one takes only what all of them take
// the same way: CRLF for every line end; the boundary nowhere but in
// delimiters; no preamble, padding or folded headers; one Content-Disposition
// for a part, with no parameters but name and filename; no nested forms, no
// encodings that change bytes, and no length but the real one.
type formBody struct {
	b     []byte
	i     int
	delim []byte // "--" and the boundary
	last  bool   // the last delimiter was read
	err   string
}

func (f *formBody) fail(what string) bool {
	f.err = what
	return false
}

// part is what a part's headers say.
type part struct {
	name     string
	disposed bool // its Content-Disposition was read
	typed    bool // its Content-Type was read
	file     bool // it has a file's name
	other    bool // it is not plain UTF-8 text
	value    Span
	length   Span // of its Content-Length, zero if it has none: the digits
}

// formField is a field that is read. It may stand in a form once.
type formField struct {
	name  string
	twice reason.Reason // what it is to have it twice
	found bool
	value Span
	// length is where its part tells how long the value is; zero where it doesn't.
	length Span
}

// readFormQuery looks that the query names nothing of what is read in a form: to some
// servers it is one with the form, and to Go's Request.FormValue it comes first.
func (c *Call) readFormQuery(query string) (r reason.Reason, detail, param string) {
	if query == "" {
		return reason.None, "", ""
	}
	f := urlForm{call: c, names: []string{c.Path.ModelField, "stream"}}
	if n := c.Path.choicesField(); n != "" {
		f.names = append(f.names, n)
	}
	for i := range c.Path.Must {
		f.names = append(f.names, c.Path.Must[i].Field)
	}
	f.query(query)
	return f.reason, f.detail, f.param
}

// readForm reads a form: the model's name, what it must have, and whether the answer
// is a stream.
// What files contain is only searched for the boundary.
func (c *Call) readForm(body []byte, boundary string) (r reason.Reason, detail, param string) {
	f := formBody{b: body, delim: []byte("--" + boundary)}
	model := formField{name: c.Path.ModelField, twice: reason.ModelAmbiguous}
	stream := formField{name: "stream", twice: reason.BodyInvalid}
	choices := formField{name: c.Path.choicesField(), twice: reason.BodyInvalid}
	fields := []*formField{&model, &stream}
	if choices.name != "" {
		fields = append(fields, &choices)
	}
	must := make([]formField, len(c.Path.Must))
	for i := range must {
		must[i] = formField{name: c.Path.Must[i].Field, twice: reason.BodyInvalid}
		fields = append(fields, &must[i])
	}
	ok := f.delimiter()
	for n := 0; ok && !f.last; n++ {
		var p part
		if ok = n < maxParts && f.part(&p); !ok {
			break
		}
		for _, field := range fields {
			if r, detail = field.offer(&p); r != reason.None {
				return r, detail, field.name
			}
		}
	}
	switch {
	case f.err != "":
		return reason.BodyInvalid, "The request's form can't be read: " + f.err + ".", ""
	case !ok:
		return reason.BodyInvalid, "The request's form has too many parts.", ""
	case !model.found && c.Path.ModelIn != ModelInPath && !c.Path.ModelOptional:
		return reason.ModelMissing, "", model.name
	}
	for i := range must {
		m := &c.Path.Must[i]
		if value := body[must[i].value.Start:must[i].value.End]; !slices.Contains(m.Values, string(value)) {
			return reason.BodyInvalid, m.Else, m.Field
		}
	}
	name := body[model.value.Start:model.value.End]
	if model.found && !isModelText(name) {
		return reason.BodyInvalid, "The form's field " + model.name + " must be the name of a model: one line of UTF-8, not empty, 256 bytes at most.", model.name
	}
	if choices.found {
		n, err := strconv.ParseUint(string(body[choices.value.Start:choices.value.End]), 10, 32)
		if err != nil || n < 1 {
			return reason.BodyInvalid, "The form's field " + choices.name + " must be a whole number, 1 or more.", choices.name
		}
		c.Choices = min(int64(n), MaxChoices)
	}
	if stream.found {
		switch v := string(body[stream.value.Start:stream.value.End]); {
		case v == "1" || strings.EqualFold(v, "true"):
			c.Stream = true
		case v != "0" && !strings.EqualFold(v, "false"):
			return reason.BodyInvalid, "The form's field stream must be true or false.", stream.name
		}
	}
	c.Model, c.ModelAt, c.lengthAt = string(name), model.value, model.length
	return reason.None, "", ""
}

// offer takes a part that is the field, or that some reader takes for it: in
// other letters, with blanks around it, or as an element of a list: see meansField.
func (f *formField) offer(p *part) (r reason.Reason, detail string) {
	if !meansField(p.name, f.name) {
		return reason.None, ""
	}
	if f.found || p.name != f.name {
		return f.twice, "The form names " + f.name + " more than once, or in other letters. Name it once, in lower-case letters."
	}
	if p.file || p.other {
		return reason.BodyInvalid, "The form's field " + f.name + " must be plain text in UTF-8, not a file."
	}
	f.found, f.value, f.length = true, p.value, p.length
	return reason.None, ""
}

func isModelText(name []byte) bool {
	if len(name) == 0 || len(name) > MaxModelSize || !utf8.Valid(name) {
		return false
	}
	for _, c := range name {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// delimiter goes over the delimiter at i and its CRLF, or finds that it is the
// last one and nothing follows it.
func (f *formBody) delimiter() bool {
	if !bytes.HasPrefix(f.b[f.i:], f.delim) {
		return f.fail("it must begin with its boundary")
	}
	f.i += len(f.delim)
	rest := f.b[f.i:]
	if string(rest) == "--" || string(rest) == "--\r\n" {
		f.last = true
		return true
	}
	if !bytes.HasPrefix(rest, []byte("\r\n")) {
		return f.fail("it ends before its last boundary, or something stands behind a boundary")
	}
	f.i += len("\r\n")
	return true
}

// part reads a part and the delimiter behind it.
func (f *formBody) part(p *part) bool {
	headers := f.i
	for {
		end := bytes.IndexByte(f.b[f.i:], '\n')
		if end < 0 || f.i+end-headers > maxPartHeaders {
			return f.fail("the headers of a part have no end, or are too long")
		}
		line, ok := bytes.CutSuffix(f.b[f.i:f.i+end], []byte("\r"))
		if !ok {
			return f.fail("the lines of a part's headers must end in CRLF")
		}
		if bytes.Contains(line, f.delim) {
			return f.fail("its boundary stands inside of a part")
		}
		f.i += end + 1
		if len(line) == 0 {
			break
		}
		if !f.header(p, line) {
			return false
		}
	}
	if !p.disposed {
		return f.fail("a part has no Content-Disposition")
	}
	// Some readers accept a boundary behind a bare LF: so it may stand nowhere
	// but behind CRLF.
	end := bytes.Index(f.b[f.i:], f.delim)
	if end < 0 {
		return f.fail("it ends before its last boundary")
	}
	start := f.i
	f.i += end
	content, ok := bytes.CutSuffix(f.b[start:f.i], []byte("\r\n"))
	if !ok {
		return f.fail("its boundary stands inside of a part")
	}
	if said := string(f.b[p.length.Start:p.length.End]); said != "" && said != strconv.Itoa(len(content)) {
		return f.fail("a part has a Content-Length that is not its length")
	}
	p.value = Span{start, start + len(content)}
	return f.delimiter()
}

// header reads a header of a part.
func (f *formBody) header(p *part, line []byte) bool {
	name, value, ok := strings.Cut(string(line), ":")
	if !ok || name == "" || !isToken(name) {
		return f.fail("a part has a header that can't be read")
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return f.fail("a part's header has a control character")
		}
	}
	value = trim(value)
	switch strings.ToLower(name) {
	case "content-disposition":
		if p.disposed {
			return f.fail("a part has two Content-Dispositions")
		}
		p.disposed = true
		return f.disposition(p, value)
	case "content-type":
		if p.typed {
			return f.fail("a part has two Content-Types")
		}
		p.typed = true
		lower := strings.ToLower(value)
		if strings.HasPrefix(lower, "multipart/") {
			return f.fail("a part is a form itself")
		}
		p.other = lower != "text/plain" && strings.ReplaceAll(lower, " ", "") != "text/plain;charset=utf-8"
	case "content-transfer-encoding":
		switch strings.ToLower(value) {
		case "7bit", "8bit", "binary":
		default:
			return f.fail("a part has a Content-Transfer-Encoding")
		}
	case "content-encoding":
		return f.fail("a part has a Content-Encoding")
	case "content-length":
		if p.length != (Span{}) || value == "" {
			return f.fail("a part has two Content-Lengths, or an empty one")
		}
		p.length.Start = f.i - len("\r\n") - len(line) + bytes.LastIndex(line, []byte(value))
		p.length.End = p.length.Start + len(value)
	}
	return true
}

// disposition reads form-data; name="…"; filename="…".
func (f *formBody) disposition(p *part, value string) bool {
	kind, rest, _ := strings.Cut(value, ";")
	if !strings.EqualFold(trim(kind), "form-data") {
		return f.fail("a part's Content-Disposition is not form-data")
	}
	named := false
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return f.fail("a part's Content-Disposition can't be read")
		}
		var v string
		if quoted, ok := strings.CutPrefix(after, `"`); ok {
			v, after, ok = strings.Cut(quoted, `"`)
			if !ok || strings.IndexByte(v, '\\') >= 0 {
				return f.fail("a part's Content-Disposition has a quotation mark too few, or a backslash")
			}
		} else {
			n := strings.IndexByte(after+";", ';')
			v, after = trim(after[:n]), after[n:]
			if !isToken(v) {
				return f.fail("a part's Content-Disposition has a value that must be quoted")
			}
		}
		if after = trim(after); after != "" && after[0] != ';' {
			return f.fail("a part's Content-Disposition can't be read")
		}
		rest = strings.TrimPrefix(after, ";")
		switch strings.ToLower(trim(name)) {
		case "name":
			if named {
				return f.fail("a part has two names")
			}
			named = true
			p.name = v
		case "filename", "filename*":
			p.file = true
		default:
			return f.fail("a part's Content-Disposition has a parameter besides name and filename")
		}
	}
	switch {
	case !named || !utf8.ValidString(p.name):
		return f.fail("a part has no name")
	case strings.Contains(p.name, "=?"):
		return f.fail("a part's name is encoded as in mail")
	}
	if strings.EqualFold(p.name, "_charset_") {
		return f.fail("it has a field _charset_")
	}
	return true
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}
