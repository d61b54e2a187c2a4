package main

import (
	"errors"
	"net/http"
	"time"

	"tollgate/authz/manage"
	"tollgate/events/totals"
)

// managedUsage is where the management API sums usage up.
type managedUsage struct{ folder *totals.Folder }

func (u managedUsage) Usage(q *manage.UsageQuery) (*manage.UsageSums, error) {
	answer, asOf, err := u.folder.Totals(totals.Query{
		Workspace: q.Workspace, Key: q.Key, User: q.User, Model: q.Model, Only: q.Only,
		From: q.From, To: q.To, GroupBy: usageGroup(q.Group),
	})
	if errors.Is(err, totals.ErrTooLarge) || errors.Is(err, totals.ErrQuery) {
		return nil, &manage.Error{Status: http.StatusBadRequest, StatusMessage: http.StatusText(http.StatusBadRequest), Message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	sums := &manage.UsageSums{Rows: make([]manage.UsageSum, len(answer.Rows)), From: answer.From, To: answer.To, Pending: int64(asOf.Pending), Current: asOf.Current}
	if asOf.Pending == 0 && !asOf.Current { // the stream was not asked yet, or can't be
		sums.Pending = -1
	}
	for i := range answer.Rows {
		r := &answer.Rows[i]
		sums.Rows[i] = manage.UsageSum{
			Start: r.Start, Workspace: r.Workspace, Key: r.Key, User: r.User, Model: r.Model,
			UsageCounts: manage.UsageCounts{
				Requests: r.Requests, InputTokens: r.InputTokens, OutputTokens: r.OutputTokens,
				CacheReadInputTokens: r.CacheReadInputTokens, CacheCreationInputTokens: r.CacheCreationInputTokens,
				ReasoningOutputTokens: r.ReasoningOutputTokens,
				ListCost:              r.ListCost, Cost: r.Cost,
			},
		}
	}
	return sums, nil
}

func usageGroup(by manage.UsageGroup) (g totals.Group) {
	for _, one := range []struct {
		is bool
		g  totals.Group
	}{
		{by.Workspace, totals.ByWorkspace},
		{by.Key, totals.ByKey},
		{by.User, totals.ByUser},
		{by.Model, totals.ByModel},
		{by.Every == 24*time.Hour, totals.ByDay},
		{by.Every == time.Hour, totals.ByHour},
		{by.Every == time.Minute, totals.ByMinute},
	} {
		if one.is {
			g |= one.g
		}
	}
	return g
}
