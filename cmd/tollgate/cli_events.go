package main

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

// How tail follows: a request waits so many seconds for an event, and a server
// that doesn't answer is asked again after so long.
const (
	tailWait  = "25"
	tailRetry = time.Second
)

func newEvents() *cobra.Command {
	s := &server{}
	return s.flags(group("events", "Read the stored usage events", newEventsList(s), newEventsTail(s), newEventsCopy(s)))
}

func newEventsList(s *server) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use: "list", Short: "Print the stored usage events, and end", Args: takes(),
		Long: "Prints the stored usage events. With -o json one CloudEvent a line.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			var table columns
			query := url.Values{"since": {since}, "limit": {"1000"}}
			for query != nil {
				page, err := c.Events(cmd.Context(), query)
				if err != nil {
					return err
				}
				if len(page.Value) == 0 { // a short page may be one of large events
					break
				}
				if err := p.events(&table, page.Value, table == nil); err != nil {
					return err
				}
				query = page.Next
			}
			if table == nil && !p.json {
				p.advisef("There are no events since then.")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&since, "since", "24h", "a time (2030-01-31T12:00:00Z), a day (2030-01-31, UTC), or how long ago (90m, 24h, 7d)")
	return cmd
}

func newEventsTail(s *server) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use: "tail", Short: "Print usage events as they come, until Ctrl-C", Args: takes(),
		Long: "Prints usage events as they come, until Ctrl-C. With -o json one CloudEvent a line.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			if err = tail(cmd.Context(), c, p, since); errors.Is(err, context.Canceled) {
				return nil // Ctrl-C is how it ends
			}
			return err
		},
	}
	cmd.Flags().StringVar(&since, "since", "0s", "where to begin: a time or how long ago")
	return cmd
}

// tail prints events until ctx ends. Once it has had an answer, it survives a
// server that is away: its place in the stream is kept here.
func tail(ctx context.Context, c *manage.Client, p *printer, since string) error {
	query := url.Values{"since": {since}}
	table := slices.Clone(eventColumns)
	head, answered, away := true, false, false
	for {
		page, err := c.Events(ctx, query)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && answered && isPassing(err):
			if !away {
				p.advisef("tollgate: %v; still trying", err)
				away = true
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(tailRetry):
			}
			continue
		case err != nil:
			return err
		}
		answered, away = true, false
		if head || len(page.Value) > 0 {
			if err := p.events(&table, page.Value, head); err != nil {
				return err
			}
			head = false
		}
		if page.Next == nil {
			return errors.New("the answer does not say where it goes on")
		}
		query = page.Next
		query.Set("wait", tailWait)
	}
}

// isPassing reports whether an error may be over when one tries again.
func isPassing(err error) bool {
	e, refused := errors.AsType[*manage.Error](err)
	return errors.Is(err, manage.ErrUnreachable) || refused && e.Status >= 500
}

// usageEvent is what of an event the table shows. Numbers are printed as they
// stand.
type usageEvent struct {
	Time string `json:"time"`
	Data struct {
		Key          string         `json:"key"`
		Model        string         `json:"model"`
		Outcome      string         `json:"outcome"`
		Measurement  string         `json:"measurement"`
		Status       jsontext.Value `json:"status"`
		InputTokens  jsontext.Value `json:"inputTokens"`
		OutputTokens jsontext.Value `json:"outputTokens"`
		DurationMs   jsontext.Value `json:"durationMs"`
	} `json:"data"`
}

func (p *printer) events(table *columns, list []jsontext.Value, head bool) error {
	if p.json {
		return p.lines(list)
	}
	var rows [][]string
	if head {
		rows = append(rows, []string{"TIME", "KEY", "MODEL", "OUTCOME", "MEASUREMENT", "STATUS", "IN", "OUT", "MS"})
	}
	for _, v := range list {
		var e usageEvent
		if err := json.Unmarshal(v, &e); err != nil {
			return err
		}
		rows = append(rows, []string{whenText(e.Time), text(&e.Data.Key), text(&e.Data.Model), e.Data.Outcome, e.Data.Measurement,
			value(e.Data.Status), value(e.Data.InputTokens), value(e.Data.OutputTokens), value(e.Data.DurationMs)})
	}
	return table.write(p, rows...)
}

func value(v jsontext.Value) string {
	if len(v) == 0 {
		return "-"
	}
	return string(v)
}
