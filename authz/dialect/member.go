package dialect

import (
	"bytes"
	"unicode/utf8"
)

// foldedSize is longer than every name that a fold is compared with.
const foldedSize = 32

// folded is a name of a member or field as the most lenient reader takes it: in
// lower case, as Unicode folds it (Go's encoding/json does so), and cut at a
// NUL (readers in C do so).
type folded struct {
	buf [foldedSize]byte
	n   int
	// exact: the name is its own fold, so that all readers take it the same.
	exact bool
}

func (f *folded) is(name string) bool { return string(f.buf[:f.n]) == name }

// fold folds a name, which is UTF-8. It returns false where the fold can't be
// one that matters: too long or not ASCII.
func (f *folded) fold(name []byte) bool {
	f.n, f.exact = 0, true
	for i := 0; i < len(name); {
		c, size := name[i], 1
		switch {
		case c == 0:
			f.exact = false
			return true
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
			f.exact = false
		case c >= utf8.RuneSelf:
			var r rune
			r, size = utf8.DecodeRune(name[i:])
			if c = asciiTwin(r); c == 0 {
				return false
			}
			f.exact = false
		}
		if f.n == len(f.buf) {
			return false
		}
		f.buf[f.n] = c
		f.n++
		i += size
	}
	return true
}

// asciiTwin is the ASCII letter that some reader takes for r, or 0: Unicode's
// simple case folding has the first two, upper-casing (Java's) and lower-casing
// the others.
func asciiTwin(r rune) byte {
	switch r {
	case 'ſ':
		return 's'
	case '\u212a': // the Kelvin sign
		return 'k'
	case 'ı', 'İ':
		return 'i'
	}
	return 0
}

// textSize is how many bytes a string (between its quotes, as it was written)
// adds to the estimate of the prompt. Images and sound don't count, which stand
// there as a data: URL in base64 or as base64 in a member named data: what they
// cost is not a matter of bytes.
func textSize(raw []byte, data bool) int64 {
	media := raw
	if rest, ok := bytes.CutPrefix(raw, []byte("data:")); ok {
		const longestType = 128
		head := rest[:min(len(rest), longestType)]
		if i := bytes.Index(head, []byte(";base64,")); i >= 0 {
			media, data = rest[i+len(";base64,"):], true
		}
	}
	if data && isBase64(media) {
		return 0
	}
	return int64(len(raw))
}

// base64Bytes are those of both alphabets and the padding. A backslash is
// there because some clients write the slash escaped.
var base64Bytes = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\\") {
		t[c] = true
	}
	return t
}()

func isBase64(b []byte) bool {
	for _, c := range b {
		if !base64Bytes[c] {
			return false
		}
	}
	return true
}
