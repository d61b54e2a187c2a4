package main

import (
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"
)

// columns are the widths of a table that is written bit by bit, in cells of a terminal. They
// only grow: a cell that is wider than its column so far widens it from there on.
type columns []int

// eventColumns are wide enough for what events usually have: those that come later
// are not known when the first one is written.
var eventColumns = columns{20, 36, 36, 14, 11, 6, 6, 6, 6}

// write writes rows in the columns, the last of which is as wide as it is.
func (c *columns) write(p *printer, rows ...[]string) error {
	for _, row := range rows {
		for i := range row {
			row[i] = plain(row[i])
			if i == len(*c) {
				*c = append(*c, 0)
			}
			(*c)[i] = max((*c)[i], cells(row[i]))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", (*c)[i]-cells(cell)+2))
			}
		}
		if err := p.linef("%s", line.String()); err != nil {
			return err
		}
	}
	return nil
}

// cells is how many cells of a terminal a text takes: an ideograph and most emoji take
// two, and what only changes the character before it none.
func cells(s string) (n int) {
	for _, r := range s {
		switch kind := width.LookupRune(r).Kind(); {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case kind == width.EastAsianWide, kind == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

// whenText is when for a time that is still a text; one that can't be read stays.
func whenText(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return t.UTC().Format(tableTime)
}
