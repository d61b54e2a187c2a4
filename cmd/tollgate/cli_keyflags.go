package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// keyFlags are the fields of a key as flags: the API's names in kebab case.
type keyFlags struct {
	name, expiresAt, budget, environment, externalID string
	requests, tokens, concurrent                     string
	actions, models, labels                          []string
}

// none is what a flag says to remove a field.
const none = "none"

func (k *keyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&k.name, "name", "", "1 to 100 characters")
	f.StringSliceVar(&k.actions, "actions", nil, "what it may do: infer,wake,manage,metrics")
	f.StringSliceVar(&k.models, "models", nil, "ids or prefix/*, with commas between them; none: all models")
	f.StringVar(&k.expiresAt, "expires-at", "", "a time (2030-01-31T12:00:00Z), a day (2030-01-31, UTC), or how long from now (90d, 12h); none: never")
	f.StringVar(&k.requests, "requests-per-minute", "", "limit of its own, or none")
	f.StringVar(&k.tokens, "tokens-per-minute", "", "limit of its own, or none")
	f.StringVar(&k.concurrent, "concurrent-requests", "", "limit of its own, or none")
	f.StringVar(&k.budget, "budget", "", "USD per day, month or total, such as 10.00/month; or none")
	f.StringVar(&k.environment, "environment", "", "such as Production; or none")
	f.StringVar(&k.externalID, "external-id", "", "an id of yours, copied into usage events; or none")
	f.StringSliceVar(&k.labels, "labels", nil, "name=value, with commas between them, copied into usage events; name= removes one")
	_ = cmd.RegisterFlagCompletionFunc("actions", cobra.FixedCompletions([]string{"infer", "wake", "manage", "metrics"}, cobra.ShellCompDirectiveNoFileComp))
}

// read makes a request of the flags that were given. What the API checks is
// left to the API.
func (k *keyFlags) read(cmd *cobra.Command) (f manage.KeyFields, err error) {
	set := cmd.Flags().Changed
	if set("name") {
		f.Name = manage.To(k.name)
	}
	if set("actions") {
		actions := make([]key.Action, len(k.actions))
		for i, a := range k.actions {
			actions[i] = key.Action(strings.TrimSpace(a))
		}
		f.Actions = manage.To(actions)
	}
	if set("models") {
		f.Models = manage.To(k.models)
		if len(k.models) == 0 || slices.Equal(k.models, []string{none}) {
			f.Models = manage.Remove[[]string]()
		}
	}
	if set("environment") {
		f.Environment = orRemove(k.environment)
	}
	if set("external-id") {
		f.ExternalID = orRemove(k.externalID)
	}
	if set("expires-at") {
		if f.ExpiresAt, err = expiry(cmd, k.expiresAt); err != nil {
			return f, err
		}
	}
	if set("budget") {
		if f.Budget, err = budget(cmd, k.budget); err != nil {
			return f, err
		}
	}
	if set("labels") {
		if f.Labels, err = labels(cmd, k.labels); err != nil {
			return f, err
		}
	}
	var l manage.LimitFields
	for _, limit := range []struct {
		flag, value string
		to          *manage.Change[int64]
	}{
		{"requests-per-minute", k.requests, &l.RequestsPerMinute},
		{"tokens-per-minute", k.tokens, &l.TokensPerMinute},
		{"concurrent-requests", k.concurrent, &l.ConcurrentRequests},
	} {
		if !set(limit.flag) {
			continue
		}
		f.Limits.Said, f.Limits.To = true, &l
		if limit.value == none {
			*limit.to = manage.Remove[int64]()
			continue
		}
		n, err := strconv.ParseInt(limit.value, 10, 64)
		if err != nil {
			return f, usage(cmd, "--%s takes a whole number or none, not %q", limit.flag, limit.value)
		}
		*limit.to = manage.To(n)
	}
	return f, nil
}

func orRemove(s string) manage.Change[string] {
	if s == "" || s == none {
		return manage.Remove[string]()
	}
	return manage.To(s)
}

func expiry(cmd *cobra.Command, s string) (c manage.Change[manage.Time], err error) {
	if s == "" || s == none || s == "never" {
		return manage.Remove[manage.Time](), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return manage.To(manage.Time(t)), nil
		}
	}
	d, err := manage.ParseDuration(s)
	if err != nil {
		return c, usage(cmd, "--expires-at takes 2030-01-31T12:00:00Z, 2030-01-31, a duration such as 90d, or none, not %q", s)
	}
	return manage.To(manage.Time(time.Now().Add(d))), nil
}

func budget(cmd *cobra.Command, s string) (c manage.Change[key.Budget], err error) {
	if s == "" || s == none {
		return manage.Remove[key.Budget](), nil
	}
	amount, period, ok := strings.Cut(s, "/")
	if !ok {
		return c, usage(cmd, "--budget takes an amount and a period such as 10.00/month, not %q", s)
	}
	return manage.To(key.Budget{Period: period, Amount: amount}), nil
}

func labels(cmd *cobra.Command, pairs []string) (c manage.Change[map[string]*string], err error) {
	all := make(map[string]*string, len(pairs))
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return c, usage(cmd, "--labels takes name=value, not %q", pair)
		}
		all[name] = nil
		if value != "" {
			all[name] = &value
		}
	}
	return manage.To(all), nil
}
