package dialect

import (
	"math"
	"net/url"
	"strings"
	"unicode/utf8"

	"tollgate/authz/key"
)

// Dialect is how one service speaks, as data. The dialects are fixed; nobody
// changes one.
type Dialect struct {
	Name string
	// Paths are all that the dialect has: what isn't here is route_unknown.
	Paths []Path
	// KeyHeader is the header, in lower case, in which the service's clients send a key
	// and nothing else; KeyScheme the scheme that they put before one in Authorization.
	// "": Authorization and Bearer. A key may be presented in any of these ways,
	// whatever the dialect; no upstream sees any of these headers.
	KeyHeader, KeyScheme string
	// Style is how a refusal is written.
	Style Style
	// Base is what all paths begin with where upstreams have another base in
	// its place: UpstreamBase. Both "": paths go on as they came.
	Base, UpstreamBase string
	// Root is what the dialect has for itself: an unknown path below it is refused
	// in its style. "": nothing.
	Root string
	// RootHeader is the name, in lower case, of a header that makes a request below Root
	// the dialect's where others have paths there too. "": it has Root alone.
	RootHeader string
}

// Has reports whether a path is below the dialect's root.
func (d *Dialect) Has(path string) bool {
	rest, ok := strings.CutPrefix(path, d.Root)
	return ok && d.Root != "" && (rest == "" || rest[0] == '/')
}

// Claims is how much speaks for it that a request to a path which no route has was
// meant for this dialect, in whose form it is then refused; 0: nothing. A header that
// the dialect has for that says more than any path, and of paths that the request's
// begins with the longest says most.
func (d *Dialect) Claims(path string, headers []Header) int {
	claim := 0
	switch {
	case !d.Has(path):
	case d.RootHeader == "":
		claim = len(d.Root)
	case has(headers, d.RootHeader):
		return math.MaxInt
	}
	for i := range d.Paths {
		p := &d.Paths[i]
		before, _, _ := p.split()
		before = strings.TrimSuffix(before, "/")
		if rest, ok := strings.CutPrefix(path, before); ok && (rest == "" || rest[0] == '/') && p.Wants(headers) {
			claim = max(claim, len(before))
		}
	}
	return claim
}

// Upstream is what an upstream has in place of a path, or of the beginning of
// one; "" where it is the same.
func (d *Dialect) Upstream(path string) string {
	rest, ok := strings.CutPrefix(path, d.Base)
	if d.Base == "" || !ok {
		return ""
	}
	return d.UpstreamBase + rest
}

// Path is one method on one path, and how a request to it is read.
type Path struct {
	Method string
	// Pattern is the whole path. It may hold one {model}, which stands for a
	// segment, or {model...}, for one or more, or {id}, for a segment that names an
	// object (see Mentions), or on a managed path what the management API has.
	Pattern string
	Action  key.Action
	// Header is the name, in lower case, of a header that a request must have to be
	// one to this path: see WantedHeaders. "": it needs none.
	Header string
	// Answer says that Tollgate answers by itself; AnswerNone: the upstream.
	Answer Answer
	// ModelIn is where a request names its model, as ModelField.
	ModelIn ModelIn
	// ModelField is the name of that member, field or parameter, in lower case;
	// "" where ModelIn needs none.
	ModelField string
	// ModelOptional says that a request may name no model.
	ModelOptional bool
	// Must are fields that a form must have, with one of these values.
	Must []Must
	// Body is how the body is read where the path names the model: ModelInJSON or
	// ModelInForm. It may name the model too, as ModelField, but no other one.
	// ModelNone: it is not read.
	Body ModelIn
	// Blocks says that messages are made of Anthropic's content blocks, see blocks.
	Blocks bool
	// Items says that the member input is a list of OpenAI's items, and that its tools
	// may be the upstream's own, see kept.go.
	Items bool
	// Free says that the upstream computes nothing for it that has tokens.
	Free bool
	// StreamUsage says that a stream tells its usage only when asked by
	// stream_options.include_usage.
	StreamUsage bool
	// MaxOutput are the members that bound the tokens of an answer; the largest
	// counts. Choices are those that say how many answers the request wants;
	// here too the largest counts. What only other paths read says nothing on
	// this one, because the upstream doesn't go by it: it must be unambiguous
	// all the same.
	MaxOutput, Choices []string
	// Prompts says that an array in the member prompt is several prompts, each
	// answered by itself.
	Prompts bool
	// WebSocket says that a request must ask for a WebSocket, which no other
	// path lets through. It is accounted by time: nobody looks into it.
	WebSocket bool
	// Refused are members of the body that may only be null or false: what they
	// name lives in the upstream's account, which tenants share. 64 at most.
	Refused []string
	// Stored is how a string in a JSON body begins that names what lives in the
	// upstream's account, such as mm_file://. A body with one is refused. "": none.
	Stored string

	// Success is where the answer itself says whether it succeeded; nil: its
	// status does.
	Success *Success
	// Stated is where the answer states its tokens, where it doesn't in the usual way;
	// nil: it does.
	Stated *Stated
	// Units are what a request is charged by beside tokens.
	Units []Unit
	// Creates is the object that a successful answer names, which then belongs to
	// the workspace that asked for it; nil: none.
	Creates *Object
	// Mentions are where a request names objects. It may name only those of its
	// own workspace.
	Mentions []Mention
	// Counts is the plan's counted resource of which there is one more, or one
	// less, once a request has succeeded; nil: none.
	Counts *Resource
}

// ModelIn is where a request names its model.
type ModelIn uint8

// The places of a model's name.
const (
	ModelNone      ModelIn = iota // none is named, the body is not read
	ModelInPath                   // the pattern's {model}; see Path.Body
	ModelInJSON                   // a member of a JSON object
	ModelInForm                   // a field of multipart/form-data
	ModelInQuery                  // a parameter of the query; the body is not read
	ModelInURLForm                // a field of application/x-www-form-urlencoded
)

// Must is a field of a form that must be there.
type Must struct {
	Field  string   // in lower case
	Values []string // one of them, exactly
	// Else is the sentence for the caller where it isn't.
	Else string
}

// Answer is what Tollgate answers by itself.
type Answer uint8

// The answers.
const (
	AnswerNone   Answer = iota // none: the request goes upstream
	AnswerModels               // the list of models, see Dialect.ModelsAnswer
	AnswerModel                // one model, see Dialect.ModelAnswer
	// AnswerManaged is the management API's, which looks at keys by itself: Envoy
	// brings it the request without a Check. Action is not looked at.
	AnswerManaged
)

// MaxModelSize is how many bytes the name of a model may have.
const MaxModelSize = 256

// Lookup returns the dialect of this name.
func Lookup(name string) (*Dialect, bool) {
	for _, d := range dialects {
		if d.Name == name {
			return d, true
		}
	}
	return nil, false
}

// Names lists the dialects.
func Names() []string {
	names := make([]string, len(dialects))
	for i, d := range dialects {
		names[i] = d.Name
	}
	return names
}

// SplitPath takes the query, without its question mark, off a :path.
func SplitPath(target string) (path, query string) {
	path, query, _ = strings.Cut(target, "?")
	return path, query
}

// Match finds the path that a request is for. path has no query. tail is the
// model that the path names, decoded, where its pattern has one. The comparison
// is exact: a trailing slash, another case, a percent-encoded letter or another
// method is another path, and a tail that two servers could read differently
// (dot segments, empty ones, control characters) matches nothing. Match
// allocates only where a tail is percent-encoded.
func (d *Dialect) Match(method, path string) (p *Path, tail string, ok bool) {
	for i := range d.Paths {
		p = &d.Paths[i]
		if p.Method != method {
			continue
		}
		if tail, ok = p.match(path); ok {
			return p, tail, true
		}
	}
	return nil, "", false
}

// Route is Match that begins a call: it fills in what the path says of it. It
// returns false, and leaves c as it is, where the dialect has no such path.
func (d *Dialect) Route(c *Call, method, path string) bool {
	p, tail, ok := d.Match(method, path)
	if ok {
		*c = Call{Dialect: d, Path: p, Action: p.Action, Answer: p.Answer, Choices: 1}
		if p.ModelIn == ModelInPath {
			c.Model = tail
		}
	}
	return ok
}

// Placeholders of a pattern.
const (
	oneSegment   = "{model}"
	someSegments = "{model...}"
)

func (p *Path) match(path string) (tail string, ok bool) {
	before, rest, variable := strings.Cut(p.Pattern, "{")
	if !variable {
		return "", path == p.Pattern
	}
	_, after, _ := strings.Cut(rest, "}")
	if len(path) <= len(before)+len(after) || !strings.HasPrefix(path, before) || !strings.HasSuffix(path, after) {
		return "", false
	}
	tail = path[len(before) : len(path)-len(after)]
	if strings.IndexByte(tail, '%') >= 0 {
		var err error
		if tail, err = url.PathUnescape(tail); err != nil {
			return "", false
		}
	}
	many := len(p.Pattern)-len(before)-len(after) == len(someSegments)
	return tail, plainTail(tail, many)
}

// plainTail reports whether every server reads this as the same name of a model.
func plainTail(tail string, many bool) bool {
	if len(tail) > MaxModelSize || !utf8.ValidString(tail) || !many && strings.IndexByte(tail, '/') >= 0 {
		return false
	}
	for i := range len(tail) {
		if c := tail[i]; c <= ' ' || c == 0x7f || c == '\\' || c == '%' || c == '?' || c == '#' || c == ';' {
			return false
		}
	}
	for segment := range strings.SplitSeq(tail, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
