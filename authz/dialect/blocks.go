package dialect

// Anthropic's messages are lists of content blocks. Media stand in a block's source,
//
//	{"type": "base64", "media_type": "image/png", "data": "iVBORw0…"}
//
// The arguments of a tool (input) are anybody's JSON: whatever is in them is text.

// blocks is what is known of the content blocks while they are read.
type blocks struct {
	// at is where the source begins that was looked at last, and media what was
	// found there: a second member data doesn't look again.
	at    int
	media bool
}

// blockMedia reports whether a string, the value of the member name in the object
// parent that begins at, is an image or a PDF in base64.
func (s *scanner) blockMedia(parent, name, raw []byte, at int) bool {
	b := &s.blocks
	if string(parent) != "source" || string(name) != "data" || s.guarding.open != 0 || !isBase64(raw) {
		return false
	}
	if b.at != at {
		b.at, b.media = at, s.mediaSource(at)
	}
	return b.media
}

// mediaSource reads the source at i: its type and the type of its media, each once.
func (s *scanner) mediaSource(i int) bool {
	source := scanner{b: s.b, i: i}
	if !source.open(true) {
		return false
	}
	kinds, media := 0, 0
	for first := true; source.next(first); first = false {
		t, ok := source.name()
		if !ok {
			return false
		}
		name := string(source.raw(t))
		if name != "type" && name != "media_type" || source.peek() != '"' {
			if !source.value() {
				return false
			}
			continue
		}
		if t, ok = source.str(); !ok {
			return false
		}
		switch value := source.raw(t); {
		case name == "type" && string(value) == "base64":
			kinds++
		case name == "media_type" && isMediaType(value):
			media++
		default:
			return false
		}
	}
	return source.err == "" && kinds == 1 && media == 1
}
