package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

// printer writes what a command has to say: results to standard output, advice
// to standard error. It uses no colours.
type printer struct {
	cmd  *cobra.Command
	json bool
}

func newPrinter(cmd *cobra.Command, asJSON bool) *printer { return &printer{cmd, asJSON} }

// raw writes JSON as it came, and a newline.
func (p *printer) raw(text []byte) error {
	_, err := fmt.Fprintf(p.cmd.OutOrStdout(), "%s\n", bytes.TrimRight(text, "\n"))
	return err
}

// linef writes a result for people.
func (p *printer) linef(format string, args ...any) error {
	_, err := fmt.Fprintf(p.cmd.OutOrStdout(), format+"\n", args...)
	return err
}

// advisef tells people what to do with a result.
func (p *printer) advisef(format string, args ...any) {
	fmt.Fprintf(p.cmd.ErrOrStderr(), format+"\n", args...)
}

// table writes rows in aligned columns; the first one is the head.
func (p *printer) table(rows ...[]string) error {
	return new(columns).write(p, rows...)
}

// list writes a table of what a list has, or says in words that it has nothing.
func (p *printer) list(nothing string, rows [][]string) error {
	if len(rows) == 1 {
		p.advisef("%s", nothing)
		return nil
	}
	return p.table(rows...)
}

// plain takes out of a text what a terminal would act on: names and labels are
// whatever somebody sent.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// tableTime is a time for people, in UTC.
const tableTime = "2006-01-02 15:04:05Z"

// when writes a time for people.
func when(t *manage.Time, never string) string {
	if t == nil {
		return never
	}
	return time.Time(*t).UTC().Format(tableTime)
}

// text is what p points to, or a dash.
func text(p *string) string {
	if p == nil || *p == "" {
		return "-"
	}
	return *p
}

// number is what p points to, or a dash.
func number(p *int64) string {
	if p == nil {
		return "-"
	}
	return strconv.FormatInt(*p, 10)
}

// words joins a list, and says what an absent one means.
func words[S ~string](list []S, absent string) string {
	if list == nil {
		return absent
	}
	s := make([]string, len(list))
	for i, w := range list {
		s[i] = string(w)
	}
	return strings.Join(s, ",")
}

// pages are the answers to a list that came in pages.
type pages[T any] struct {
	items []T
	raw   [][]byte
}

// readPages reads a list to its end. query is the first page's, without its limit.
func readPages[T any](ctx context.Context, query url.Values, list func(context.Context, url.Values) (manage.Answer[[]T], error)) (*pages[T], error) {
	all := new(pages[T])
	query.Set("limit", "1000")
	for query != nil {
		page, err := list(ctx, query)
		if err != nil {
			return nil, err
		}
		all.items = append(all.items, page.Value...)
		all.raw = append(all.raw, page.Raw)
		query = page.Next
	}
	return all, nil
}

// join writes the pages as one list, whose elements are as they came.
func (p *pages[T]) join() []byte {
	if len(p.raw) == 1 {
		return p.raw[0]
	}
	var out bytes.Buffer
	out.WriteByte('[')
	for _, page := range p.raw {
		inner := bytes.TrimSpace(page)
		inner = bytes.TrimSpace(inner[1 : len(inner)-1])
		if len(inner) > 0 {
			if out.Len() > 1 {
				out.WriteByte(',')
			}
			out.Write(inner)
		}
	}
	out.WriteByte(']')
	return out.Bytes()
}

// lines writes JSON values, one a line.
func (p *printer) lines(list []jsontext.Value) error {
	for _, v := range list {
		line, err := oneLine(v)
		if err != nil {
			return err
		}
		if err := p.raw(line); err != nil {
			return err
		}
	}
	return nil
}

// oneLine takes the white space out of a JSON value.
func oneLine(v jsontext.Value) ([]byte, error) {
	v = v.Clone()
	if err := v.Compact(); err != nil {
		return nil, err
	}
	return v, nil
}
