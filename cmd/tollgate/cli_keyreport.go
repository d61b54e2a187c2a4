package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// chunk is how many keys one request imports.
const chunk = 1000

// tellEvery is how often a long import says how far it is.
const tellEvery = 10 * time.Second

// importReport is what became of each row of a file.
type importReport struct {
	rows     []importRow
	DryRun   bool         `json:"dryRun"`
	Imported int          `json:"imported"`
	Refused  int          `json:"refused"`
	Rows     []reportLine `json:"rows"`
}

// reportLine is what became of one row.
type reportLine struct {
	Line int `json:"line"`
	manage.ImportRow
}

// check finds what is wrong with the rows before any of them is sent: what can't
// be read, and what stands twice, which the server sees of one request only.
func (r *importReport) check() {
	r.Rows = make([]reportLine, len(r.rows))
	first := make(map[key.Digest]int, len(r.rows))
	for i, row := range r.rows {
		line := reportLine{Line: row.line, ImportRow: manage.ImportRow{Status: "new"}}
		switch {
		case row.err != nil:
			line.refuse("invalid", row.err.Error())
		case first[*row.req.SHA256] != 0:
			line.refuse("conflict", fmt.Sprintf("the key of line %d again", first[*row.req.SHA256]))
		default:
			first[*row.req.SHA256] = row.line
		}
		if line.Status != "new" {
			r.Refused++
		}
		r.Rows[i] = line
	}
}

func (l *reportLine) refuse(status, why string) { l.Status, l.Message = status, &why }

// send imports all rows, or says what an import would do, request by request. It
// ends behind the first request in which something is refused, unless it only
// asks. Of what takes long it tells how far it is.
func (r *importReport) send(ctx context.Context, c *manage.Client, p *printer, dryRun bool) error {
	r.Imported = 0
	done := "Imported"
	if dryRun {
		done = "Checked"
	}
	told := time.Now()
	for at := 0; at < len(r.rows); at += chunk {
		end := min(at+chunk, len(r.rows))
		keys := make([]manage.KeyRequest, 0, chunk)
		for _, row := range r.rows[at:end] {
			keys = append(keys, row.req)
		}
		answer, err := c.ImportKeys(ctx, "", keys, dryRun) // each row names its workspace
		if err != nil {
			if at > 0 && !dryRun {
				return fmt.Errorf("%w. The keys of lines up to %d are imported; import the same file again for the others", err, r.rows[at-1].line)
			}
			return err
		}
		for i, row := range answer.Value.Rows {
			r.Rows[at+i].ImportRow = row
		}
		r.Imported += answer.Value.Imported
		r.Refused += answer.Value.Refused
		if answer.Value.Refused > 0 && !dryRun {
			return nil
		}
		if end < len(r.rows) && time.Since(told) > tellEvery {
			p.advisef("%s %d of %d …", done, end, len(r.rows))
			told = time.Now()
		}
	}
	return nil
}

// print tells what became of each row, and is an error where any was refused.
func (r *importReport) print(p *printer) error {
	if p.json {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := p.raw(text); err != nil {
			return err
		}
	} else {
		rows := [][]string{{"LINE", "STATUS", "ID", "NAME", "MESSAGE"}}
		for i, line := range r.Rows {
			rows = append(rows, []string{strconv.Itoa(line.Line), line.Status, text(line.ID), text(r.rows[i].req.Name.To), atTerminal.Replace(text(line.Message))})
		}
		if err := p.table(rows...); err != nil {
			return err
		}
	}
	switch {
	case r.Refused > 0 && r.Imported > 0 && !r.DryRun:
		return errors.New("the import broke off; import the same file again, what is imported already stays as it is")
	case r.Refused > 0:
		return fmt.Errorf("%d of %d rows can't be imported, so none was", r.Refused, len(r.Rows))
	case r.DryRun:
		p.advisef("%d would be imported; nothing was.", r.Imported)
	default:
		p.advisef("Imported %d; %d were there already.", r.Imported, len(r.Rows)-r.Imported)
	}
	return nil
}
