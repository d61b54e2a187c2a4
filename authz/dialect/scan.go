package dialect

import "unicode/utf8"

// maxDepth is how deep a JSON body may be nested: above what tool schemas need,
// and about where the upstreams' own readers give up.
const maxDepth = 1024

// scanner goes once over a JSON text, without recursion and without building
// anything. It is stricter than most readers, so that whatever it accepts means
// the same to all of them: RFC 8259, UTF-8 without a byte order mark, no lone
// surrogates. Its methods return false once err is set.
type scanner struct {
	b   []byte
	i   int    // the next byte
	err string // what is wrong at i, for the caller

	depth   int
	objects [maxDepth/64 + 1]uint64 // bit d: what is open at depth d is an object

	// What is added up while a member of the prompt is read.
	counting counting
	text     int64 // bytes of text

	// marker is what a string may not begin with, see Path.Stored; "": anything.
	// stored says that one did.
	marker string
	stored bool
	blocks blocks
	guarding
}

// counting says which strings count as text of the prompt.
type counting uint8

const (
	countNothing counting = iota
	countText
	countMessages // but not the media in them, see isMedia
	countBlocks   // but not the media in them, see blocks
	countLetters  // characters in place of bytes, see InRequest
	countAll      // names of members too: those of a schema are part of the prompt
)

// tokenBytes is how many bytes of text a number in a prompt stands for: it is a
// token's id.
const tokenBytes = 4

// token is a string's place in the text, without its quotes.
type token struct {
	Span
	escaped bool // it has a backslash
}

func (s *scanner) raw(t token) []byte { return s.b[t.Start:t.End] }

func (s *scanner) fail(what string) bool {
	s.err = what
	return false
}

// peek skips white space and returns the next byte; 0 at the end, which no
// JSON text has.
func (s *scanner) peek() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// open goes into the object or array at i.
func (s *scanner) open(isObject bool) bool {
	if s.depth == maxDepth {
		return s.fail("nested too deep")
	}
	s.depth++
	s.i++
	word, bit := s.depth/64, uint64(1)<<(s.depth%64)
	if isObject {
		s.objects[word] |= bit
	} else {
		s.objects[word] &^= bit
	}
	return true
}

func (s *scanner) inObject() bool { return s.objects[s.depth/64]&(1<<(s.depth%64)) != 0 }

// next goes to the next element of what is open, over its comma unless it is
// the first; at the end it closes and returns false.
func (s *scanner) next(first bool) bool {
	end := byte(']')
	if s.inObject() {
		end = '}'
	}
	switch c := s.peek(); {
	case c == end:
		s.i++
		s.depth--
		return false
	case first:
		return true
	case c == ',':
		s.i++
		return true
	case end == '}':
		return s.fail("expected a comma or }")
	}
	return s.fail("expected a comma or ]")
}

// name reads a member's name and the colon behind it.
func (s *scanner) name() (t token, ok bool) {
	if s.peek() != '"' {
		return token{}, s.fail("expected the name of a member")
	}
	if t, ok = s.str(); !ok {
		return token{}, false
	}
	if s.peek() != ':' {
		return token{}, s.fail("expected a colon")
	}
	s.i++
	return t, true
}

// value goes over any value and adds up its text.
func (s *scanner) value() bool {
	base := s.depth
	// name is that of the member whose value comes next; nil in an array. parent
	// is the name that the value opened last had, which made the depth opened.
	var name, parent []byte
	opened, openedAt := 0, 0
	for {
		done := true
		switch c := s.peek(); {
		case c == '"':
			t, ok := s.str()
			if !ok {
				return false
			}
			if s.marker != "" && begins(s.raw(t), s.marker) {
				s.stored = true
			}
			if s.counting != countNothing {
				if s.depth != opened {
					parent = nil // it was closed
				}
				s.text += s.textSize(t, parent, name, openedAt)
			}
		case c == '{' || c == '[':
			openedAt = s.i
			if !s.open(c == '{') {
				return false
			}
			parent, opened = name, s.depth
			done = !s.next(true)
		case c == '-' || '0' <= c && c <= '9':
			if !s.number() {
				return false
			}
			if s.counting != countNothing {
				s.text += tokenBytes
			}
		case !s.literal(c):
			return false
		}
		for done { // so is all that ends here
			if s.guarding.open > s.depth {
				s.guarding.open = 0
			}
			if s.depth == base {
				return true
			}
			if done = !s.next(false); s.err != "" {
				return false
			}
		}
		name = nil
		if s.inObject() {
			t, ok := s.name()
			if !ok {
				return false
			}
			if s.counting == countAll {
				s.text += int64(t.End - t.Start)
			}
			if s.guard != nil && !s.guarded(t) {
				return false
			}
			name = s.raw(t)
		}
	}
}

// literal goes over true, false or null.
func (s *scanner) literal(c byte) bool {
	word := ""
	switch c {
	case 't':
		word = "true"
	case 'f':
		word = "false"
	case 'n':
		word = "null"
	}
	if word == "" || !s.take(word) {
		return s.fail("expected a value")
	}
	return true
}

// take goes over word if it stands at i.
func (s *scanner) take(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// number goes over a number.
func (s *scanner) number() bool {
	if s.b[s.i] == '-' {
		s.i++
	}
	switch {
	case s.digit() && s.b[s.i] == '0':
		s.i++
	case !s.digits():
		return s.fail("expected a digit")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return s.fail("expected a digit")
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.fail("expected a digit")
		}
	}
	if s.digit() {
		return s.fail("a number begins with 0")
	}
	return true
}

func (s *scanner) digit() bool { return s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' }

func (s *scanner) digits() bool {
	start := s.i
	for s.digit() {
		s.i++
	}
	return s.i > start
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// str goes over the string at i.
func (s *scanner) str() (t token, ok bool) {
	b := s.b
	i := s.i + 1
	t.Start = i
	for {
		for i < len(b) && plain[b[i]] {
			i++
		}
		if i >= len(b) {
			s.i = i
			return t, s.fail("a string has no end")
		}
		switch c := b[i]; {
		case c == '"':
			t.End = i
			s.i = i + 1
			return t, true
		case c == '\\':
			t.escaped = true
			n := escape(b[i:])
			if n == 0 {
				s.i = i
				return t, s.fail("an escape that is not one, or half of a surrogate pair")
			}
			i += n
		case c < ' ':
			s.i = i
			return t, s.fail("a control character in a string: escape it")
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				s.i = i
				return t, s.fail("not UTF-8")
			}
			i += n
		}
	}
}

// escape is the length of the escape that b begins with, of both halves of a
// surrogate pair; 0 if it is not one.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		switch u := hex4(b); {
		case u < 0 || 0xdc00 <= u && u < 0xe000:
			return 0
		case u < 0xd800 || u >= 0xe000:
			return 6
		}
		if low := hex4(b[6:]); 0xdc00 <= low && low < 0xe000 {
			return 12
		}
	}
	return 0
}

// hex4 is the value of the \uXXXX that b begins with, or -1.
func hex4(b []byte) int {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	u := 0
	for _, c := range b[2:6] {
		d := unhex(c)
		if d < 0 {
			return -1
		}
		u = u<<4 | d
	}
	return u
}

// leading is the beginning of a string that str accepted, with n characters or
// all that it has.
func leading(raw []byte, n int) []byte {
	i := 0
	for ; n > 0 && i < len(raw); n-- {
		if raw[i] == '\\' {
			i += escape(raw[i:])
			continue
		}
		_, size := utf8.DecodeRune(raw[i:])
		i += size
	}
	return raw[:i]
}

// unescape appends the text of a string that str accepted.
func unescape(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		n := escape(raw[i:])
		switch c = raw[i+1]; c {
		case 'u':
			u := rune(hex4(raw[i:]))
			if n == 12 {
				u = (u-0xd800)<<10 + rune(hex4(raw[i+6:])) - 0xdc00 + 0x10000
			}
			dst = utf8.AppendRune(dst, u)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		default:
			dst = append(dst, c)
		}
		i += n
	}
	return dst
}
