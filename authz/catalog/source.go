package catalog

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// position is a place in a text: line and column from 1.
type position struct{ line, column int }

// source is a text that is being read, and the problems found so far. Values
// are known by their path, such as models[0].id.
type source struct {
	name  string
	lines []string
	at    map[string]position // of each value that was written
	// broken are the paths of values that could not be read, and of the objects
	// that hold them: that something is missing there may only follow from it.
	broken map[string]bool
	// private counts, per line, problems that don't show all of it: nothing
	// else may show it either.
	private  map[int]int
	problems []Problem
	more     int
}

func newSource(name string, data []byte) *source {
	return &source{
		name: name, lines: strings.Split(string(data), "\n"),
		at: make(map[string]position), broken: make(map[string]bool), private: make(map[int]int),
	}
}

// visibility is how much of its line a problem shows.
type visibility uint8

const (
	showLine visibility = iota
	showName            // up to the first colon behind the column
	showNone
)

// problemf notes a problem.
func (s *source) problemf(at position, path string, v visibility, format string, args ...any) {
	if v != showLine {
		s.private[at.line]++
	}
	if len(s.problems) >= maxProblems {
		s.more++
		return
	}
	p := Problem{Path: path, Message: fmt.Sprintf(format, args...)}
	if at.line > 0 {
		at.line = min(at.line, len(s.lines))
		line := s.lines[at.line-1]
		at.column = min(max(at.column, 1), utf8.RuneCountInString(line)+1)
		p.File, p.Line, p.Column = s.name, at.line, at.column
		switch v {
		case showLine:
			p.Text = show(line, at.column)
		case showName:
			before := string([]rune(line)[:at.column-1])
			if name, _, ok := strings.Cut(line[len(before):], ":"); ok {
				p.Text, p.cut = show(before+name+": …", at.column), true
			}
		case showNone:
		}
	}
	s.problems = append(s.problems, p)
}

// unreadablef is problemf for a value that can't be used at all.
func (s *source) unreadablef(at position, path string, v visibility, format string, args ...any) {
	s.broken[path], s.broken[parentPath(path)] = true, true
	s.problemf(at, path, v, format, args...)
}

// find returns where a value is or, if it was not written, what should hold it.
func (s *source) find(path string) position {
	for {
		if at, ok := s.at[path]; ok || path == "" {
			return at
		}
		path = parentPath(path)
	}
}

// parentPath cuts the last .name or [index] off a path. (A dot or bracket
// inside of a quoted name makes it cut too little, which costs another step.)
func parentPath(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

func (s *source) err() error {
	if len(s.problems) == 0 {
		return nil
	}
	for i := range s.problems {
		p := &s.problems[i]
		if n := s.private[p.Line]; n > 1 || n == 1 && !p.cut {
			p.Text = ""
		}
	}
	slices.SortStableFunc(s.problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return &Error{Problems: s.problems, More: s.more}
}

// utf8Error finds the first byte that isn't UTF-8.
func utf8Error(data []byte) (at position, ok bool) {
	if utf8.Valid(data) {
		return position{}, false
	}
	at.line = 1
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		if !utf8.Valid(line) {
			for at.column = 1; ; at.column++ {
				r, n := utf8.DecodeRune(line)
				if r == utf8.RuneError && n == 1 {
					return at, true
				}
				line = line[n:]
			}
		}
		data = rest
		at.line++
	}
	return at, true
}
