package dialect

import (
	"slices"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"tollgate/authz/reason"
)

// role is what a member of the body tells.
type role uint8

const (
	streamRole   role = iota // whether the answer is a stream
	optionsRole              // stream_options
	outputRole               // the most tokens of an answer, on the paths that have it
	choicesRole              // how many answers, on the paths that have it
	textRole                 // part of the prompt: text only
	messagesRole             // part of the prompt: text and media
	schemaRole               // part of the prompt: text, with the names in it
	saidRole                 // what is to be said, on the paths that are charged by it
)

// members are those that are read besides the model. Each may stand in a body
// once, and none beside a twin in other letters: an upstream might read the
// other one.
var members = [...]struct {
	name string
	role role
}{
	{"stream", streamRole},
	{"stream_options", optionsRole},
	{"max_tokens", outputRole},
	{"max_completion_tokens", outputRole},
	{"max_output_tokens", outputRole},
	{"tokens_to_generate", outputRole},
	{"n", choicesRole},
	{"best_of", choicesRole},
	{"messages", messagesRole},
	{"prompt", textRole},
	{"input", messagesRole},
	{"instructions", textRole},
	{"system", textRole},
	{"text", saidRole},
	{"suffix", textRole},
	{"tools", schemaRole},
	{"functions", schemaRole},
}

// Texts of the edits that turn stream_options.include_usage on.
const (
	includeUsage  = "include_usage"
	usagePath     = "stream_options." + includeUsage
	usageMember   = `"` + includeUsage + `":true`
	usageOptions  = "{" + usageMember + "}"
	streamOptions = `"stream_options":` + usageOptions
)

// jsonBody is a JSON body while it is read.
type jsonBody struct {
	scanner
	call    *Call
	name    folded
	seen    [len(members)]bool
	refused uint64 // bit i: Path.Refused[i] was seen
	named   uint64 // bit i: the member that begins Path.Mentions[i] was seen
	created bool   // the member that names what is created was seen
	prompts int64

	// What was found wrong; with reason None, scanner.err is.
	reason        reason.Reason
	detail, param string
}

// readJSON reads the object that a JSON body is.
func (c *Call) readJSON(body []byte) (r reason.Reason, detail, param string) {
	j := jsonBody{scanner: scanner{b: body, marker: c.Path.Stored}, call: c, prompts: 1}
	switch {
	case j.object():
	case j.reason != reason.None:
		return j.reason, j.detail, j.param
	default:
		return reason.BodyInvalid, "The request's body is not valid JSON: at byte " + strconv.Itoa(j.i+1) + ": " + j.err + ".", ""
	}
	if j.stored {
		return reason.BodyInvalid, "The request names by " + c.Path.Stored + " what is kept at the upstream. That is not available here: send all that the model must know with each request.", ""
	}
	if c.ModelAt == (Span{}) && c.Path.ModelIn != ModelInPath && !c.Path.ModelOptional {
		return reason.ModelMissing, "", c.Path.ModelField
	}
	c.Choices = min(c.Choices*j.prompts, MaxChoices)
	c.PromptBytes = j.text
	j.usageOption()
	return reason.None, "", ""
}

// object reads the whole body.
func (j *jsonBody) object() bool {
	switch c := j.peek(); {
	case c == 0xef:
		return j.fail("it begins with a byte order mark, or with something else")
	case c != '{':
		return j.fail("expected an object")
	case !j.open(true):
		return false
	}
	for first := true; j.next(first); first = false {
		t, ok := j.scanner.name()
		if !ok || !j.member(t) {
			return false
		}
	}
	if j.err != "" {
		return false
	}
	if j.peek(); j.i < len(j.b) {
		return j.fail("something follows the object")
	}
	return true
}

// wrong refuses the body for a member.
func (j *jsonBody) wrong(r reason.Reason, param, detail string) bool {
	j.reason, j.param, j.detail = r, param, detail
	return false
}

func (j *jsonBody) invalid(param, must string) bool {
	return j.wrong(reason.BodyInvalid, param, "The member "+param+" "+must+".")
}

// fold folds a name that was scanned, and undoes its escapes. It returns false
// where the name can't be one that matters.
func (j *jsonBody) fold(t token) bool {
	raw := j.raw(t)
	if !t.escaped {
		return j.name.fold(raw)
	}
	// However long the name is, it matters if a NUL cuts it to one that does.
	// One character more than a fold has room for decides.
	var buf [(foldedSize + 1) * utf8.UTFMax]byte
	return j.name.fold(unescape(buf[:0], leading(raw, foldedSize+1)))
}

// member reads the value of a member of the body.
func (j *jsonBody) member(t token) bool {
	if !j.fold(t) {
		return j.value()
	}
	p := j.call.Path
	if j.name.is(p.ModelField) {
		if !j.name.exact || j.call.ModelAt != (Span{}) {
			return j.wrong(reason.ModelAmbiguous, p.ModelField, "")
		}
		return j.model()
	}
	if found, ok := j.objects(); found {
		return ok
	}
	for i, refused := range p.Refused {
		if j.name.is(refused) {
			return j.once(refused, j.refused&(1<<i) != 0) && j.none(i)
		}
	}
	for i := range members {
		if m := &members[i]; j.name.is(m.name) {
			seen := j.seen[i]
			j.seen[i] = true
			return j.once(m.name, seen) && j.read(m.name, m.role)
		}
	}
	return j.value()
}

// once refuses the second of two members that are one to some reader.
func (j *jsonBody) once(name string, seen bool) bool {
	if seen {
		return j.invalid(name, "stands there more than once")
	}
	if !j.name.exact {
		return j.invalid(name, "must be written in lower-case letters")
	}
	return true
}

// none goes over a member of Path.Refused.
func (j *jsonBody) none(i int) bool {
	j.refused |= 1 << i
	if c := j.peek(); c == 'n' || c == 'f' {
		return j.value()
	}
	return j.invalid(j.call.Path.Refused[i], "is not available here, because what it needs is kept at the upstream: send all that the model must know with each request")
}

// model reads the model's name.
func (j *jsonBody) model() bool {
	c, field := j.call, j.call.Path.ModelField
	if j.peek() != '"' {
		return j.invalid(field, "must be a string")
	}
	t, ok := j.str()
	if !ok {
		return false
	}
	raw := j.raw(t)
	switch {
	case t.escaped && len(raw) <= len(`\u0000`)*MaxModelSize:
		var buf [MaxModelSize]byte // more only for what is refused
		c.Model = string(unescape(buf[:0], raw))
	case len(raw) > 0:
		// The name aliases the body, as Call.Model says, to save a copy.
		c.Model = unsafe.String(&raw[0], len(raw)) //nolint:gosec // the body does not change while the call is read
	default:
		return j.invalid(field, "is empty")
	}
	if len(c.Model) > MaxModelSize {
		c.Model = ""
		return j.invalid(field, "has more than "+strconv.Itoa(MaxModelSize)+" bytes")
	}
	c.ModelAt = Span{t.Start - 1, t.End + 1}
	return true
}

// read reads the value of a member by its role.
func (j *jsonBody) read(name string, role role) bool {
	c := j.call
	switch role {
	case streamRole:
		on, _, ok := j.boolean(name)
		c.Stream = on
		return ok
	case optionsRole:
		return j.options(name)
	case outputRole:
		if !slices.Contains(c.Path.MaxOutput, name) {
			return j.value()
		}
		n, ok := j.integer(name, MaxOutputTokens)
		c.MaxOutput = max(c.MaxOutput, n)
		return ok
	case choicesRole:
		if !slices.Contains(c.Path.Choices, name) {
			return j.value()
		}
		present := j.peek() != 'n'
		n, ok := j.integer(name, MaxChoices)
		if ok && present && n < 1 {
			return j.invalid(name, "must be at least 1")
		}
		c.Choices = max(c.Choices, n)
		return ok
	case messagesRole:
		j.counting, j.guard = c.Path.counting(), &messageGuard
	case textRole:
		if !c.Path.byLetters() {
			j.counting = countText
		}
	case schemaRole:
		j.counting = countAll
		if c.Path.Items {
			j.guard = &toolGuard
		}
	case saidRole:
		if c.Path.byLetters() {
			j.counting = countLetters
		}
	}
	var ok bool
	switch list := j.peek() == '['; {
	case list && name == "prompt" && c.Path.Prompts:
		ok = j.promptList()
	case list && name == "input" && c.Path.Items:
		ok = j.items(name)
	default:
		ok = j.value()
	}
	j.counting, j.guard = countNothing, nil
	if j.found != "" {
		return j.kept(name, j.found)
	}
	return ok
}

// promptList reads an array of prompts: strings, or arrays of tokens. Numbers
// are the tokens of a single one.
func (j *jsonBody) promptList() bool {
	j.open(false)
	n := int64(0)
	for first := true; j.next(first); first = false {
		if c := j.peek(); c == '"' || c == '[' {
			n++
		}
		if !j.value() {
			return false
		}
	}
	j.prompts = min(max(n, 1), MaxChoices)
	return j.err == ""
}

// boolean reads true, false or null, which is false.
func (j *jsonBody) boolean(name string) (on bool, at Span, ok bool) {
	c := j.peek()
	at.Start = j.i
	if c != 't' && c != 'f' && c != 'n' {
		return false, at, j.invalid(name, "must be true or false")
	}
	ok = j.literal(c)
	at.End = j.i
	return c == 't', at, ok
}

// integer reads a whole number, cut at most, or null, which is 0.
func (j *jsonBody) integer(name string, most int64) (n int64, ok bool) {
	c := j.peek()
	if c == 'n' {
		return 0, j.literal(c)
	}
	start := j.i
	if c != '-' && (c < '0' || c > '9') {
		return 0, j.invalid(name, "must be a whole number")
	}
	if !j.number() {
		return 0, false
	}
	for _, c := range j.b[start:j.i] {
		if c < '0' || c > '9' {
			return 0, j.invalid(name, "must be a whole number, 0 or more")
		}
		n = min(n*10+int64(c-'0'), most)
	}
	return n, true
}

// options reads stream_options, and notes how include_usage is turned on.
func (j *jsonBody) options(name string) bool {
	u := &j.call.UsageOption
	switch j.peek() {
	case 'n':
		start := j.i
		ok := j.literal('n')
		u.Edit, u.Text = Span{start, j.i}, usageOptions
		return ok
	case '{':
		if !j.open(true) {
			return false
		}
	default:
		return j.invalid(name, "must be an object")
	}
	inside, found := j.i, false
	first := true
	for ; j.next(first); first = false {
		t, ok := j.scanner.name()
		if !ok {
			return false
		}
		if !j.fold(t) || !j.name.is(includeUsage) {
			if !j.value() {
				return false
			}
			continue
		}
		if !j.once(usagePath, found) {
			return false
		}
		found = true
		if u.Asked, u.Edit, ok = j.boolean(usagePath); !ok {
			return false
		}
		u.Text = "true"
	}
	if !found {
		u.Edit, u.Text = Span{inside, inside}, usageMember+","
		if first {
			u.Text = usageMember
		}
	}
	return j.err == ""
}

// usageOption completes the option once the whole body is known.
func (j *jsonBody) usageOption() {
	u := &j.call.UsageOption
	switch {
	case !j.call.Stream || !j.call.Path.StreamUsage:
		*u = UsageOption{}
	case u.Asked:
		u.Edit, u.Text = Span{}, ""
	case u.Text == "":
		// The body has a member at least: its model.
		inside := 1
		for j.b[inside-1] != '{' {
			inside++
		}
		u.Edit, u.Text = Span{inside, inside}, streamOptions+","
	}
}
