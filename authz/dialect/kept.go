package dialect

import (
	"slices"
	"unicode/utf8"
)

// A guard says by which members, at any depth of the messages or the tools, a request
// names what is kept in the upstream's account, which all tenants share.
type guard struct {
	refused []string // they may only be null
	texts   []string // they may be anything but a text
	free    []string // what they hold is anybody's JSON, such as a tool's arguments
}

var (
	// messageGuard is for files in content parts, of OpenAI and Anthropic alike, of
	// whom the latter has a tool's arguments as JSON.
	messageGuard = guard{refused: []string{"file_id"}, free: []string{"input"}}
	// toolGuard is for tools that the upstream runs itself.
	toolGuard = guard{
		refused: []string{"file_id", "file_ids", "vector_store_ids", "container_id", "skill_id"}, texts: []string{"container"},
		free: []string{"parameters", "format"},
	}
)

// guarding is what a guard knows of the value that is read.
type guarding struct {
	*guard        // nil: nothing is looked for
	open   int    // depth of the free JSON that is open; 0: none
	found  string // the member that named something
	buf    [(foldedSize + 1) * utf8.UTFMax]byte
}

// guarded is told of a member whose value comes next. It returns false for one that
// names what is kept.
func (s *scanner) guarded(t token) bool {
	g := &s.guarding
	if g.open != 0 {
		return true
	}
	raw := s.raw(t)
	if slices.Contains(g.free, string(raw)) {
		g.open = s.depth + 1
		return true
	}
	if t.escaped {
		raw = unescape(g.buf[:0], leading(raw, foldedSize+1))
	}
	var f folded
	if !f.fold(raw) {
		return true
	}
	c := s.peek()
	for _, name := range g.refused {
		if f.is(name) && c != 'n' {
			g.found = name
		}
	}
	for _, name := range g.texts {
		if f.is(name) && c == '"' {
			g.found = name
		}
	}
	return g.found == "" || s.fail("what is kept can't be named")
}

// itemReference is the type of an item that stands for a stored one.
const itemReference = "item_reference"

// items reads the items of a Responses request. One that has an id and doesn't say
// what it is stands for what the upstream has stored under it.
func (j *jsonBody) items(name string) bool {
	j.open(false)
	for first := true; j.next(first); first = false {
		if j.peek() != '{' {
			if !j.value() {
				return false
			}
		} else if !j.item(name) {
			return false
		}
	}
	return j.err == ""
}

func (j *jsonBody) item(name string) bool {
	j.open(true)
	said, named := false, false
	for first := true; j.next(first); first = false {
		t, ok := j.scanner.name()
		if !ok || !j.guarded(t) {
			return false
		}
		named = named || j.fold(t) && j.name.is("id")
		if is := string(j.raw(t)); is != "type" && is != "role" || j.peek() != '"' {
			if !j.value() {
				return false
			}
			continue
		}
		if t, ok = j.str(); !ok {
			return false
		}
		raw := j.raw(t)
		j.text += int64(len(raw))
		if t.escaped {
			raw = unescape(j.buf[:0], leading(raw, foldedSize+1))
		}
		if string(raw) == itemReference {
			return j.kept(name, itemReference)
		}
		said = true
	}
	return j.err == "" && (said || !named || j.kept(name, "id"))
}

// kept refuses a body that names what is kept at the upstream.
func (j *jsonBody) kept(name, by string) bool {
	return j.invalid(name, "names by "+by+" what is kept at the upstream, which is not available here: send all that the model must know with each request")
}
