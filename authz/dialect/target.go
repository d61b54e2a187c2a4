package dialect

import (
	"net/url"
	"slices"
	"strings"
)

// Retarget is a request's path and query with another model, where either names
// it; "" where neither does.
func (c *Call) Retarget(target, model string) string {
	switch c.Path.ModelIn {
	case ModelInPath:
		path, _ := SplitPath(target)
		before, rest, _ := strings.Cut(c.Path.Pattern, "{")
		_, after, _ := strings.Cut(rest, "}")
		segments := []string{model}
		if c.Path.many() {
			segments = strings.Split(model, "/")
		}
		for i := range segments {
			segments[i] = url.PathEscape(segments[i])
		}
		return before + strings.Join(segments, "/") + after + target[len(path):]
	case ModelInQuery:
		return target[:c.ModelAt.Start] + url.QueryEscape(model) + target[c.ModelAt.End:]
	}
	return ""
}

// many reports whether the pattern's model may have several segments.
func (p *Path) many() bool { return strings.Contains(p.Pattern, someSegments) }

// BodyIn is how the body is read.
func (p *Path) BodyIn() ModelIn {
	if p.ModelIn == ModelInPath {
		return p.Body
	}
	return p.ModelIn
}

// Wants reports whether a request with these headers has the one that the path
// needs.
func (p *Path) Wants(headers []Header) bool {
	return p.Header == "" || has(headers, p.Header)
}

func has(headers []Header, name string) bool {
	return slices.ContainsFunc(headers, func(h Header) bool { return h.Name == name })
}

// counting is how the text of messages counts.
func (p *Path) counting() counting {
	switch {
	case p.byLetters():
		return countLetters
	case p.Blocks:
		return countBlocks
	}
	return countMessages
}

// byLetters reports whether the request is charged by the characters of its text.
func (p *Path) byLetters() bool {
	for i := range p.Units {
		if u := &p.Units[i]; u.From == InRequest || u.From == InAnswer && u.Name == "character" {
			return true
		}
	}
	return false
}

// choicesField is the field of a form that says how many answers are wanted; "":
// none.
func (p *Path) choicesField() string {
	if len(p.Choices) == 0 {
		return ""
	}
	return p.Choices[0]
}
