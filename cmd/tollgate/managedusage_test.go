package main

import (
	"encoding/json"
	"net/url"
	"reflect"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/manage"
	"tollgate/authz/money"
)

// TestUsageOfANode follows what a key used from the ledger, over the stream, into
// the totals that the API tells.
func TestUsageOfANode(t *testing.T) {
	n, operator := serveNode(t)
	if _, err := operator.Apply(t.Context(), []byte(oneModel("a/b")), url.Values{}); err != nil {
		t.Fatal(err)
	}
	made, err := operator.CreateKey(t.Context(), manage.KeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for i, model := range []string{"a/b", "a/b", "c/d"} {
		a := &authz.Admission{
			ID: "id-" + string(rune('0'+i)), Workspace: "demo", Key: made.Value.ID, Model: model, Dialect: "openai",
			Start: start, Deadline: start.Add(time.Hour), Multiplier: money.New(4, 1),
		}
		if err := n.ledger.Admit(a, a.AppendBinary(nil)); err != nil {
			t.Fatal(err)
		}
		// Costs that a float would not add up exactly.
		listCost, cost := money.New(1_000_000_000_000_000_003, 18), money.New(4_000_000_000_000_000_012, 19)
		tokens := authz.Tokens{Input: 10, CacheRead: 4, CacheCreation: 3, Output: 5, Reasoning: 2}
		if ok, err := n.ledger.Close(&authz.Usage{Admission: a, Outcome: authz.Completed, Measurement: authz.Reported, Tokens: tokens, ListCost: listCost, Cost: cost}); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	itself, err := manage.NewClient(n.settings.api.value, made.Value.Secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	var of manage.Answer[manage.KeyUsage]
	eventually(t, "the usage is not summed up", func() bool {
		of, err = itself.KeyUsage(t.Context(), made.Value.ID, nil)
		return err != nil || of.Value.Requests == 3 && of.Pending != nil && *of.Pending == 0
	})
	want := manage.UsageCounts{Requests: 3, InputTokens: 30, CacheReadInputTokens: 12, CacheCreationInputTokens: 9, OutputTokens: 15, ReasoningOutputTokens: 6,
		ListCost: money.New(3_000_000_000_000_000_009, 18), Cost: money.New(4_000_000_000_000_000_012, 19).MulInt(3)}
	if err != nil || !reflect.DeepEqual(of.Value.UsageCounts, want) || len(of.Value.ByModel) != 2 || of.Value.ByModel[0].Requests != 2 {
		t.Fatalf("%s, %v", of.Raw, err)
	}
	all, err := operator.Usage(t.Context(), url.Values{"groupBy": {"minute,workspace,key,user,model"}, "from": {"1h"}})
	if err != nil || len(all.Value) != 2 {
		t.Fatalf("%s, %v", all.Raw, err)
	}
	row := all.Value[1]
	minute := manage.Time(start.UTC().Truncate(time.Minute))
	wantRow := manage.UsageRow{
		Start: &minute, Workspace: new("demo"), Key: &made.Value.ID, User: new(""), Model: new("c/d"), LastUsedAt: row.LastUsedAt,
		UsageCounts: manage.UsageCounts{Requests: 1, InputTokens: 10, CacheReadInputTokens: 4, CacheCreationInputTokens: 3, OutputTokens: 5, ReasoningOutputTokens: 2,
			ListCost: money.New(1_000_000_000_000_000_003, 18), Cost: money.New(4_000_000_000_000_000_012, 19)},
	}
	got, _ := json.Marshal(row)
	expected, _ := json.Marshal(wantRow)
	if string(got) != string(expected) || row.LastUsedAt == nil {
		t.Errorf("%s, want %s", got, expected)
	}
	for _, by := range []string{"day", "hour"} {
		a, err := operator.Usage(t.Context(), url.Values{"groupBy": {by}})
		if err != nil || len(a.Value) != 1 || a.Value[0].Requests != 3 {
			t.Errorf("by %s: %s, %v", by, a.Raw, err)
		}
	}
}
