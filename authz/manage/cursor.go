package manage

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
)

// cursorSum is how many bytes of a cursor tell that it is one.
const cursorSum = 6

// cursorBehind makes a cursor of a list that is in the order of names: it goes on
// behind one, also when that is gone. A sum tells it from whatever else somebody may
// put there, and from a cursor of another list, which would silently skip entries.
func cursorBehind(list, name string) string {
	return base64.RawURLEncoding.EncodeToString(append(sumOf(list, name), name...))
}

func sumOf(list, name string) []byte {
	sum := sha256.Sum256([]byte(list + "\x00" + name))
	return sum[:cursorSum]
}

// behind reads the query's cursor of such a list; "": from the first.
func (c *call) behind(list string) (name string, err error) {
	from := c.query.Get("cursor")
	if from == "" {
		return "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(from)
	if err != nil || len(text) <= cursorSum || !bytes.Equal(text[:cursorSum], sumOf(list, string(text[cursorSum:]))) {
		return "", errCursor
	}
	return string(text[cursorSum:]), nil
}

var errCursor = invalid("cursor", "is not from a Link header of this list; start without it")

// between returns a place in the order of ids that is behind before and not behind the
// next, and tells no more of either than that order needs. Both are ids, and before
// comes first.
func between(before, next string) string {
	place := []byte(before)
	same := true
	for i := range place {
		switch {
		case same:
			same = i < len(next) && place[i] == next[i]
		case place[i] != '-':
			place[i] = 'f'
		}
	}
	return string(place)
}
