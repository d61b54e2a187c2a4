package dialect

import (
	"strings"
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

// likeUnderscore are what PHP writes as _ in the name of a field.
var likeUnderscore = strings.NewReplacer(" ", "_", ".", "_", "[", "_")

// unseen is what may stand before the first name of a form or a query and be no part
// of it: URLSearchParams, which Node's and browsers' readers of forms are made of, takes
// off a question mark, and who reads a body as a text takes off a byte order mark.
const unseen = "?\ufeff"

// meansField reports whether some server takes a decoded name of a form's field, or
// of a query's parameter, for field: in other letters, with blanks around it, as a
// list or an object (field[], field[x], field.x), as PHP writes it, or with what is
// unseen before it.
func meansField(name, field string) bool {
	name = strings.TrimLeft(name, unseen)
	list, _, _ := strings.Cut(name, "[")
	object, _, _ := strings.Cut(list, ".")
	return foldsTo(object, field) || foldsTo(list, field) || foldsTo(name, field)
}

func foldsTo(name, field string) bool {
	var f folded
	return f.fold([]byte(likeUnderscore.Replace(strings.TrimSpace(name)))) && f.is(field)
}
