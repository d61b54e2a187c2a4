package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// TestWideCharactersLineUp: what stands behind a name stands below its head on a
// terminal, whatever the name is written in.
func TestWideCharactersLineUp(t *testing.T) {
	for name, want := range map[string]int{"": 0, "plain": 5, "カタカナ": 8, "😀😀": 4, "é": 1, "e\u0301": 1, "ﾊﾝｶｸ": 4, "Ｆ": 2, "❤\ufe0f": 1, "한국": 4, "مرحبا": 5} {
		if got := cells(name); got != want {
			t.Errorf("%q takes %d cells, want %d", name, got, want)
		}
	}
	var out bytes.Buffer
	cmd := newRoot()
	cmd.SetOut(&out)
	if err := newPrinter(cmd, false).table([]string{"ID", "NAME", "PREFIX"}, []string{"1", "カナ", "x"}, []string{"22", "😀", "x"}, []string{"3", "long name", "x"}); err != nil {
		t.Fatal(err)
	}
	want := "ID  NAME       PREFIX\n1   カナ       x\n22  😀         x\n3   long name  x\n"
	if out.String() != want {
		t.Errorf("a table is\n%s, want\n%s", out.String(), want)
	}
}

// TestTailLinesUp follows events that come one by one, as tail does: their cells
// stand below the heads, and one that is too wide moves those after it.
func TestTailLinesUp(t *testing.T) {
	var out bytes.Buffer
	cmd := newRoot()
	cmd.SetOut(&out)
	p := newPrinter(cmd, false)
	table := slices.Clone(eventColumns)
	event := func(model string) jsontext.Value {
		return jsontext.Value(`{"time":"2026-01-01T00:00:00.5Z","data":{"key":"k","model":"` + model + `","outcome":"completed","measurement":"reported","status":200}}`)
	}
	for i, page := range [][]jsontext.Value{nil, {event("short")}, {event("meta-llama/Llama-3.1-70B-Instruct")}, {event(strings.Repeat("é", 50))}, {event("after")}} {
		if err := p.events(&table, page, i == 0); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines:\n%s", len(lines), &out)
	}
	at := func(line, cell string) int {
		before, _, found := strings.Cut(line, cell)
		if !found {
			t.Fatalf("there is no %s in %q", cell, line)
		}
		return len([]rune(before))
	}
	for i, want := range []int{at(lines[0], "OUTCOME"), at(lines[0], "OUTCOME"), at(lines[3], "completed"), at(lines[3], "completed")} {
		if got := at(lines[i+1], "completed"); got != want {
			t.Errorf("line %d: the outcome stands at %d, want %d:\n%s", i+1, got, want, &out)
		}
	}
	if eventColumns[2] != 36 {
		t.Error("one tail changes the columns of the next")
	}
}
