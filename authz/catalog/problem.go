package catalog

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxProblems is how many problems are told at once.
const maxProblems = 20

// Error is what is wrong with a catalog.
type Error struct {
	// Problems are in the order of the text, at most 20; More were left out.
	Problems []Problem
	More     int
}

// Problem is one thing that is wrong, and what to do.
type Problem struct {
	File string // "" where there is no text
	// Line and Column count from 1, columns in characters; 0 where there is no
	// text.
	Line, Column int
	Path         string // such as models[0].upstreams[1].url; "": the whole
	Message      string
	// Text is the line at fault, "" where it might show a secret.
	Text string

	cut bool // Text ends before what might be a secret
}

// Error is one paragraph per problem.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n… and %d more", e.More)
	}
	return b.String()
}

// String is file:line:column, path and message, and below them the line with a
// mark at the column.
func (p Problem) String() string {
	s := p.Message
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Line == 0 {
		return s
	}
	s = fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, s)
	if p.Text == "" {
		return s
	}
	number := fmt.Sprintf("%5d | ", p.Line)
	// A mark lines up only if what is before it is as wide: tabs stay tabs.
	var pad strings.Builder
	for i, r := range []rune(p.Text) {
		if i >= p.Column-1 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		pad.WriteRune(r)
	}
	return s + "\n" + number + p.Text + "\n" + strings.Repeat(" ", len(number)-2) + "| " + pad.String() + "^"
}

// maxShown is how many characters of a line are shown.
const maxShown = 120

// show cuts a line to what fits on a screen, as long as the column is in it.
func show(line string, column int) string {
	line = strings.TrimRight(line, "\r\n")
	if utf8.RuneCountInString(line) <= maxShown {
		return line
	}
	if column > maxShown {
		return ""
	}
	return string([]rune(line)[:maxShown]) + "…"
}

// closest returns the name that a misspelt one was probably meant to be, or "".
func closest(name string, names []string) string {
	if len(name) < 3 {
		return "" // almost everything is near
	}
	best, distance := "", len(name)/3+2
	for _, n := range names {
		d := editDistance(strings.ToLower(name), strings.ToLower(n))
		if strings.HasPrefix(n, name) {
			d = min(d, 1)
		}
		if d < distance {
			best, distance = n, d
		}
	}
	return best
}

// editDistance is how many letters to insert, drop or replace make a of b.
func editDistance(a, b string) int {
	if len(a) > maxLabelName || len(b) > maxLabelName {
		return maxLabelName
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
