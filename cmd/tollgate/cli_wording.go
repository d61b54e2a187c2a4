package main

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tollgate/authz/manage"
)

// flagsOf are the flags of the API's fields that have another name there.
var flagsOf = map[string][]string{
	"from":        {"from", "since"},
	"to":          {"to", "until"},
	"keyDefaults": {"key-actions"},
	"resources":   {"resource"},
}

// atTerminal puts what the API tells a program to do into a person's words.
var atTerminal = strings.NewReplacer(
	"send null", "say none",
	"null is infer", "none is infer",
	"name one, by ?workspace= or --workspace", "name one; tollgate workspace list has them",
	"GET /api/v1/models lists them", "tollgate model list has them",
	`{"minds": 2}`, "minds=2",
	"GET /api/v1/api-keys lists them", "tollgate key list has them",
)

// worded says what the API refuses of a command line in its words, and makes it what
// it is for scripts: a value that was given is wrong usage; a workspace, user or plan
// that isn't there is not found. The API answers all of them by 400 and the name of
// the field; what it answers otherwise stays what it is.
func worded(cmd *cobra.Command, err error) error {
	e, ok := errors.AsType[*manage.Error](err)
	if !ok || !slices.Contains([]int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict}, e.Status) {
		return err
	}
	field, what, ok := strings.Cut(e.Message, ": ")
	if !ok {
		return err
	}
	said := nameOf(cmd, field)
	if said == "" {
		return err
	}
	if list, member, ok := strings.Cut(field, "."); ok && (list == "labels" || list == "resources") {
		what = member + " " + what // not a field, but a name of the caller's
	}
	told := *e
	switch what {
	case "is missing: it has no default":
		told.Message = said + " is missing"
		if said == "--plan" {
			told.Message += ": name a plan; tollgate catalog shows them"
		}
	case "must be after from":
		told.Message = said + ": must be after " + nameOf(cmd, "from")
	default:
		told.Message = said + ": " + atTerminal.Replace(what)
	}
	if slices.Contains([]string{"workspace", "user", "plan"}, field) &&
		(strings.HasPrefix(what, "there is no "+field+" ") || strings.HasPrefix(what, "there is none yet")) {
		told.Status = http.StatusNotFound
	}
	if told.Status != http.StatusBadRequest {
		return &told
	}
	return usageError{&told}
}

// nameOf is the flag or the argument of a command that a field of the API comes
// from, "" where there is none.
func nameOf(cmd *cobra.Command, field string) string {
	field, inner, _ := strings.Cut(field, ".")
	field, _, _ = strings.Cut(field, "[")
	if field == "limits" {
		field = inner
	}
	flags := flagsOf[field]
	if flags == nil {
		flags = []string{kebab(field)}
	}
	found := ""
	for _, name := range flags {
		if f := cmd.Flags().Lookup(name); f != nil && (found == "" || f.Changed) {
			found = "--" + name
		}
	}
	if argument := strings.ToUpper(strings.ReplaceAll(kebab(field), "-", "_")); found == "" && slices.Contains(strings.Fields(cmd.Use), argument) {
		return argument
	}
	return found
}

// flagError says what a flag takes, where its value is not of its type: the error of
// the flag is for programmers.
func flagError(cmd *cobra.Command, err error) error {
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usage(cmd, "%v", err)
	}
	takes, ok := map[string]string{
		"int": "a whole number", "int64": "a whole number", "uint64": "a whole number",
		"bool": "true or false", "duration": "a duration such as 2s",
		"stringToInt64": "a name and a whole number such as minds=2",
	}[e.GetFlag().Value.Type()]
	if !ok {
		return usage(cmd, "%v", err)
	}
	return usage(cmd, "--%s takes %s, not %q", e.GetFlag().Name, takes, e.GetValue())
}

// changes refuses an update that changes nothing.
func changes(cmd *cobra.Command) error {
	var can []string
	given := false
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			given = given || f.Changed
			can = append(can, "--"+f.Name)
		}
	})
	if given {
		return nil
	}
	return usage(cmd, "say what to change, by %s", strings.Join(can, ", "))
}
