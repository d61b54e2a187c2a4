package dialect

import (
	"bytes"
	"unicode/utf8"
)

// mediaDepth is how deep the body's objects and arrays are where media stand at
// most: body, messages, message, content, part, image_url. The arguments of a
// tool call begin below it; they are text, whatever they look like.
const mediaDepth = 6

// textSize is how many bytes the string t, the value of the member name in the
// member parent (nil where there is none), adds to the estimate of the prompt:
// as many as were written, and 0 where it is media. parent begins at at.
func (s *scanner) textSize(t token, parent, name []byte, at int) int64 {
	raw := s.raw(t)
	switch {
	case s.counting == countMessages && s.depth <= mediaDepth && isMedia(parent, name, raw),
		s.counting == countBlocks && s.blockMedia(parent, name, raw, at):
		return 0
	case s.counting == countLetters:
		return letters(raw)
	}
	return int64(len(raw))
}

// letters is how many characters a string has.
func letters(raw []byte) (n int64) {
	for len(raw) > 0 {
		size := 1
		switch {
		case raw[0] == '\\':
			size = escape(raw)
		case raw[0] >= utf8.RuneSelf:
			_, size = utf8.DecodeRune(raw)
		}
		raw = raw[size:]
		n++
	}
	return n
}

// isMedia reports whether a string is an image, sound, video or PDF, whose cost
// is not a matter of bytes. It is one only in the members from which OpenAI's
// API, and the servers that follow it, decode media. Anywhere else a model may
// get to read it, so that it must count however much it looks like media.
func isMedia(parent, name, raw []byte) bool {
	switch string(name) {
	case "image_url", "file_data":
		return isMediaURL(raw)
	case "url":
		switch string(parent) {
		case "image_url", "audio_url", "video_url":
			return isMediaURL(raw)
		}
	case "data":
		return string(parent) == "input_audio" && isBase64(raw)
	}
	return false
}

// isMediaURL reports whether raw is a data: URL of media in base64. One of text
// isn't: an upstream that takes it gives the text to the model.
func isMediaURL(raw []byte) bool {
	const longestType = 128
	rest, ok := bytes.CutPrefix(raw, []byte("data:"))
	kind, _, inBase64 := bytes.Cut(rest[:min(len(rest), longestType)], []byte(";base64,"))
	if !ok || !inBase64 {
		return false
	}
	return isMediaType(kind) && isBase64(rest[len(kind)+len(";base64,"):])
}

// isMediaType reports whether a type, as written in JSON, is of media.
func isMediaType(kind []byte) bool {
	class, format, _ := bytes.Cut(kind, []byte("/"))
	switch string(bytes.TrimSuffix(class, []byte(`\`))) {
	case "image", "audio", "video":
		return true
	case "application":
		return string(format) == "pdf"
	}
	return false
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
