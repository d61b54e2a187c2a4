package dialect

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// objects reads the member whose name is in j.name if it names what the request
// creates, or what it mentions; found is false where it doesn't.
func (j *jsonBody) objects() (found, ok bool) {
	p := j.call.Path
	if p.Creates != nil && p.Creates.Field != "" && j.name.is(p.Creates.Field) {
		seen := j.created
		j.created = true
		if !j.once(p.Creates.Field, seen) {
			return true, false
		}
		j.call.Creating, ok = j.objectID(p.Creates.Field)
		return true, ok
	}
	for i := range p.Mentions {
		m := &p.Mentions[i]
		head, _, nested := strings.Cut(m.Field, ".")
		if m.In != ModelInJSON || !j.name.is(head) {
			continue
		}
		seen := j.named&(1<<i) != 0
		j.named |= 1 << i
		switch {
		case !j.once(head, seen):
			return true, false
		case nested:
			return true, j.within(head)
		}
		return true, j.mention(m)
	}
	return false, true
}

// within reads an object, or a list of them, with members that are mentioned as
// head.member.
func (j *jsonBody) within(head string) bool {
	switch j.peek() {
	case '{':
		return j.withinObject(head)
	case '[':
	default:
		return j.value()
	}
	if !j.open(false) {
		return false
	}
	for first := true; j.next(first); first = false {
		var ok bool
		if j.peek() == '{' {
			ok = j.withinObject(head)
		} else {
			ok = j.value()
		}
		if !ok {
			return false
		}
	}
	return j.err == ""
}

func (j *jsonBody) withinObject(head string) bool {
	if !j.open(true) {
		return false
	}
	seen := uint64(0)
	for first := true; j.next(first); first = false {
		t, ok := j.scanner.name()
		if !ok {
			return false
		}
		i := -1
		if j.fold(t) {
			i = j.mentionOf(head)
		}
		if i < 0 {
			if !j.value() {
				return false
			}
			continue
		}
		m := &j.call.Path.Mentions[i]
		again := seen&(1<<i) != 0
		seen |= 1 << i
		if !j.once(m.Field, again) || !j.mention(m) {
			return false
		}
	}
	return j.err == ""
}

// mentionOf is which of Path.Mentions the member in j.name of head is, or -1.
func (j *jsonBody) mentionOf(head string) int {
	for i := range j.call.Path.Mentions {
		m := &j.call.Path.Mentions[i]
		parent, member, _ := strings.Cut(m.Field, ".")
		if m.In == ModelInJSON && parent == head && j.name.is(member) {
			return i
		}
	}
	return -1
}

// mention reads the id of a mentioned object.
func (j *jsonBody) mention(m *Mention) bool {
	id, ok := j.objectID(m.Field)
	if !ok || id == "" {
		return ok
	}
	if len(j.call.Mentioned) == MaxMentioned {
		return j.invalid(m.Field, "is one too many: a request may name 16 objects")
	}
	j.call.Mentioned = append(j.call.Mentioned, Mentioned{Kind: m.Kind, ID: id, Field: m.Field, Open: m.Open})
	return true
}

// objectID reads an id: a string or a whole number, which is its digits; "" for
// null and the empty string, which name nothing.
func (j *jsonBody) objectID(field string) (id string, ok bool) {
	switch c := j.peek(); {
	case c == 'n':
		return "", j.literal(c)
	case c == '"':
		t, ok := j.str()
		if !ok {
			return "", false
		}
		raw := j.raw(t)
		if len(raw) > len(`\u0000`)*MaxObjectID {
			return "", j.invalid(field, idRule)
		}
		id = string(unescape(nil, raw))
	case '0' <= c && c <= '9':
		start := j.i
		if !j.number() {
			return "", false
		}
		id = string(j.b[start:j.i])
		if strings.ContainsAny(id, ".eE") {
			return "", j.invalid(field, idRule)
		}
	default:
		return "", j.invalid(field, idRule)
	}
	if id != "" && !isObjectID(id) {
		return "", j.invalid(field, idRule)
	}
	return id, true
}

// begins reports whether a string begins with prefix to some reader: in other
// letters, or behind blanks.
func begins(raw []byte, prefix string) bool {
	var buf [64 * utf8.UTFMax]byte
	text := bytes.TrimLeft(unescape(buf[:0], leading(raw, 64)), " \t\r\n")
	return len(text) >= len(prefix) && strings.EqualFold(string(text[:len(prefix)]), prefix)
}
