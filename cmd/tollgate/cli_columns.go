package main

import (
	"strings"
	"time"
	"unicode/utf8"
)

// columns are the widths of a table that is written bit by bit, in characters. They
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
			(*c)[i] = max((*c)[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", (*c)[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		if err := p.linef("%s", line.String()); err != nil {
			return err
		}
	}
	return nil
}

// whenText is when for a time that is still a text; one that can't be read stays.
func whenText(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return t.UTC().Format(tableTime)
}
