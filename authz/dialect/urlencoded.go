package dialect

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"tollgate/authz/reason"
)

// maxPairs is how many fields a form and the query may have together: fewer than
// any server drops.
const maxPairs = 256

// promptField is the field of a form that has the prompt.
const promptField = "prompt"

// checkURLFormHeaders says what is wrong with the headers of such a form. Without
// a content-type no server takes the body for one.
func checkURLFormHeaders(req *Request) (detail string) {
	const form = "application/x-www-form-urlencoded"
	contentType, detail := bodyHeaders(req)
	if detail != "" {
		return detail
	}
	mediaType, parameters, _ := strings.Cut(contentType, ";")
	mediaType = trim(mediaType)
	switch {
	case !strings.EqualFold(mediaType, form):
		return "This path takes a form, and the content-type is " + shown(mediaType) + ". Send content-type: " + form + "."
	case !isUTF8(parameters):
		return "This form is UTF-8, and the content-type has another charset. Send content-type: " + form + "."
	}
	return ""
}

// urlForm is an application/x-www-form-urlencoded body while it is read. Servers
// differ in what names mean (see meansField), in what separates fields, and in
// what they make of a percent sign that escapes nothing. So the fields that matter
// must stand there once, as they are, and there may be nothing in the form that two
// servers could split or decode in different ways.
type urlForm struct {
	call *Call
	// names are the fields that matter: the model's, the prompt's, and those of
	// Path.Must and Path.MaxOutput.
	names []string
	seen  []bool

	// What was found wrong.
	reason        reason.Reason
	detail, param string
}

// readURLForm reads a form: its model, what it must have, how long its prompt is and
// the bound of the answer. The query may name none of these: to some servers (PHP's
// $_REQUEST) it is one with the form.
func (c *Call) readURLForm(body []byte, query string) (r reason.Reason, detail, param string) {
	f := urlForm{call: c, names: []string{c.Path.ModelField, promptField}}
	for i := range c.Path.Must {
		f.names = append(f.names, c.Path.Must[i].Field)
	}
	f.names = append(f.names, c.Path.MaxOutput...)
	f.seen = make([]bool, len(f.names))
	if !f.body(string(body)) || !f.query(query) || !f.complete() {
		return f.reason, f.detail, f.param
	}
	return reason.None, "", ""
}

func (f *urlForm) wrong(r reason.Reason, param, detail string) bool {
	f.reason, f.param, f.detail = r, param, detail
	return false
}

func (f *urlForm) invalid(param, detail string) bool {
	return f.wrong(reason.BodyInvalid, param, detail)
}

// body reads the fields of the body.
func (f *urlForm) body(body string) bool {
	if strings.Count(body, "&") >= maxPairs {
		return f.invalid("", "The request's form has too many fields.")
	}
	at := 0 // where in body a pair begins
	for pair := range strings.SplitSeq(body, "&") {
		end := at + len(pair)
		name, value, _ := strings.Cut(pair, "=")
		plain, ok := f.unescape(name)
		text, valid := f.unescape(value)
		if !ok || !valid {
			return false
		}
		i := f.find(plain)
		if i >= 0 && (!f.once(i, name) || !f.read(f.names[i], text, Span{end - len(value), end})) {
			return false
		}
		at = end + 1
	}
	return true
}

// query looks that the query says nothing of what the form says.
func (f *urlForm) query(query string) bool {
	if strings.Count(query, "&") >= maxPairs {
		return f.invalid("", "The request's query has too many parameters.")
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		plain, ok := f.unescape(name)
		if !ok {
			return false
		}
		if strings.IndexByte(value, ';') >= 0 {
			return f.semicolon()
		}
		if i := f.find(plain); i >= 0 {
			return f.ambiguous(f.names[i], "The request names "+f.names[i]+" in its query. Name it once, in the form.")
		}
	}
	return true
}

// unescape is the text that a name or a value stands for.
func (f *urlForm) unescape(raw string) (text string, ok bool) {
	if strings.IndexByte(raw, ';') >= 0 {
		return "", f.semicolon()
	}
	text, err := url.QueryUnescape(raw)
	switch {
	case err != nil:
		return "", f.invalid("", "The request's form or query has a percent sign that escapes nothing. Write %25.")
	case !utf8.ValidString(text):
		return "", f.invalid("", "The request's form or query is not UTF-8.")
	case strings.IndexByte(text, 0) >= 0:
		return "", f.invalid("", "The request's form or query has a NUL, at which some servers end.")
	}
	return text, true
}

func (f *urlForm) semicolon() bool {
	return f.invalid("", "The request has a semicolon in its form or query, which not every server reads in the same way. Write %3B.")
}

// find is which of the fields that matter a name may mean, or -1.
func (f *urlForm) find(name string) int {
	return slices.IndexFunc(f.names, func(field string) bool { return meansField(name, field) })
}

// once refuses a field that stands there again, or not as it is.
func (f *urlForm) once(i int, raw string) bool {
	if f.seen[i] || raw != f.names[i] {
		return f.ambiguous(f.names[i], "The form names "+f.names[i]+" more than once, or in other letters. Name it once, as `"+f.names[i]+"`.")
	}
	f.seen[i] = true
	return true
}

func (f *urlForm) ambiguous(field, detail string) bool {
	if field == f.call.Path.ModelField {
		return f.wrong(reason.ModelAmbiguous, field, detail)
	}
	return f.invalid(field, detail)
}

// read takes the value of a field that matters.
func (f *urlForm) read(field, text string, at Span) bool {
	c := f.call
	switch {
	case field == c.Path.ModelField:
		if text != "" && !isModelText([]byte(text)) {
			return f.invalid(field, "The form's field "+field+" must be the name of a model: one line, 256 bytes at most.")
		}
		c.Model, c.ModelAt = text, at
	case field == promptField:
		c.PromptBytes = int64(len(text))
	case slices.Contains(c.Path.MaxOutput, field):
		n, ok := wholeNumber(text, MaxOutputTokens)
		if !ok {
			return f.invalid(field, "The form's field "+field+" must be a whole number, 0 or more.")
		}
		c.MaxOutput = max(c.MaxOutput, n)
	default:
		return f.meets(field, text)
	}
	return true
}

// meets checks a field of Path.Must.
func (f *urlForm) meets(field, text string) bool {
	for i := range f.call.Path.Must {
		if m := &f.call.Path.Must[i]; m.Field == field && !slices.Contains(m.Values, text) {
			return f.invalid(field, m.Else)
		}
	}
	return true
}

// complete checks that the form has all that it must have.
func (f *urlForm) complete() bool {
	for i := range f.call.Path.Must {
		if m := &f.call.Path.Must[i]; !f.seen[slices.Index(f.names, m.Field)] {
			return f.invalid(m.Field, m.Else)
		}
	}
	if f.call.Model == "" {
		return f.wrong(reason.ModelMissing, f.call.Path.ModelField, "")
	}
	return true
}

// wholeNumber is the value of decimal digits, cut at most.
func wholeNumber(digits string, most int64) (n int64, ok bool) {
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), most)
	}
	return n, digits != ""
}
