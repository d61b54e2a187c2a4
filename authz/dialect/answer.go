package dialect

import (
	"net/http"
	"slices"
	"time"
)

// What a path's answer tells of its request beside tokens. The proxy is asked to
// watch for the members named here (see Path.Watched), and what it saw comes back
// with the settlement.

// Success is how an answer says that it succeeded whatever its status: the member
// has this value. An answer in which the member was not seen goes by its status.
type Success struct{ Member, Value string }

// Unit is something that a request is charged by, under the name that a rate has.
type Unit struct {
	Name string // request, second, character, image, video, song
	From UnitSource
	// Member is where the answer states it, for InAnswer.
	Member string
	// Per is how many of what is stated make one unit, such as 1000 where
	// milliseconds are stated and seconds are charged. 0: 1.
	Per int64
}

// Stated is where an answer states its tokens that has no usage as OpenAI or
// Anthropic have it: members with a number, of which the first that is there counts.
type Stated struct{ Input, Output []string }

// UnitSource is where the number of units comes from.
type UnitSource uint8

// The sources.
const (
	EachRequest UnitSource = iota // one for a request that succeeded
	EachChoice                    // as many answers as the request wants
	OfDuration                    // the seconds that the request took
	InAnswer                      // Unit.Member of the answer
	InRequest                     // the characters of the text that the request has, which Call.PromptBytes then is
)

// Object is something in the upstream's account that outlives the request which
// made it: a task, a file, a voice.
type Object struct {
	Kind string // what its ids are told apart by: two kinds may have the same id
	// Member is where the answer states its id; "": the request names it, as
	// Field of its JSON.
	Member, Field string
	// Else is where the answer states it that has no Member; "": nowhere.
	Else string
	// Keep is for how long it is remembered whose it is.
	Keep time.Duration
}

// Mention is where a request names an object.
type Mention struct {
	Kind string
	In   ModelIn // ModelInPath: the pattern's {id}
	// Field is the member (dotted, such as voice_setting.voice_id), or the
	// parameter of the query.
	Field string
	// Open says that an id which nobody here has made is the service's own, such as a
	// voice that all have. Otherwise it is unknown.
	Open bool
}

// Resource is something that a plan counts.
type Resource struct {
	Name  string // as in the plan's resources
	Delta int64  // 1 or -1
}

// NamesObjects reports whether requests name objects of the upstream.
func (d *Dialect) NamesObjects() bool {
	return slices.ContainsFunc(d.Paths, func(p Path) bool { return len(p.Mentions) > 0 })
}

// ListsObjects returns a path that lists what others of the dialect make; nil where
// there is none. Its answers are the upstream's, which tells tenants apart or doesn't.
func (d *Dialect) ListsObjects() *Path {
	for i := range d.Paths {
		p := &d.Paths[i]
		if p.Method == http.MethodGet && slices.ContainsFunc(d.Paths, func(made Path) bool {
			return made.Creates != nil && made.Method == http.MethodPost && made.Pattern == p.Pattern
		}) {
			return p
		}
	}
	return nil
}

// watched works out what Watched returns.
func (p *Path) watched() []string {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if p.Success != nil {
		add(p.Success.Member)
	}
	for i := range p.Units {
		add(p.Units[i].Member)
	}
	if p.Creates != nil {
		add(p.Creates.Member)
		add(p.Creates.Else)
	}
	if p.Stated != nil {
		for _, name := range p.Stated.Input {
			add(name)
		}
		for _, name := range p.Stated.Output {
			add(name)
		}
	}
	return names
}
