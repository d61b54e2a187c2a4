// Command tollgate gates API keys in front of model backends and tells what was
// used. It is the server (up, serve) and the command line of its management API.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

// What the process exits with, for scripts.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitRefused     = 3
	exitNotFound    = 4
	exitUnreachable = 5
)

// commands make what the root has, one each.
var commands = []func() *cobra.Command{
	newUp, newServe, newEnvoy, newNATS, newKey, newWorkspace, newUser, newExplain,
	newUsage, newEvents, newAudit, newConsumer, newModel, newCatalog, newApply, newBackup, newRestore, newVersion,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	cmd, err := newRoot().ExecuteContextC(ctx)
	if ctx.Err() != nil && errors.Is(err, manage.ErrUnreachable) {
		err = errInterrupted // it is not known whether one answers
	}
	stop()
	err = worded(cmd, err)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tollgate: %s\n", explain(err))
	}
	os.Exit(exitCode(err))
}

// errInterrupted is what a command ends with that was asked to end before it had an
// answer.
var errInterrupted = errors.New("interrupted before there was an answer; a change may have been made all the same")

// newRoot makes the whole command tree.
func newRoot() *cobra.Command {
	root := group("tollgate", "API keys, limits and usage for model backends behind Envoy")
	root.Long = `Tollgate gates API keys, and limits and meters what they use, for model backends behind Envoy.

Commands that manage a running Tollgate find it by --api-addr or TOLLGATE_API_ADDR, else by the
file ` + addressesFile + ` in the data directory (--data or TOLLGATE_DATA, by default ` + defaultDataDir + `), else at ` + defaultAPI + `.
They present TOLLGATE_OPERATOR_KEY, else the key in the file ` + operatorKeyFile + ` in the data directory.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (key or rights), 4 not found, 5 no Tollgate answers.`
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetFlagErrorFunc(flagError)
	for _, command := range commands {
		root.AddCommand(command())
	}
	strict(root)
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	return root
}

// usageError is a command line that can't be understood.
type usageError struct{ error }

// usage says what is wrong with a command line, and where its help is.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return usageError{fmt.Errorf("%s; see %s --help", fmt.Sprintf(format, args...), cmd.CommandPath())}
}

// exitCode is what a command's error is for scripts.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if e, ok := errors.AsType[*manage.Error](err); ok {
		switch e.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return exitRefused
		case http.StatusNotFound:
			return exitNotFound
		}
	}
	if errors.Is(err, manage.ErrUnreachable) {
		return exitUnreachable
	}
	return exitFailure
}

// explain is a command's error with what to do next, where the error alone
// doesn't say.
func explain(err error) string {
	if e, ok := errors.AsType[*manage.Error](err); ok && e.Status == http.StatusUnauthorized {
		return e.Message + "; set TOLLGATE_OPERATOR_KEY, or TOLLGATE_DATA to the data directory of the Tollgate that is asked"
	}
	if errors.Is(err, manage.ErrUnreachable) {
		return err.Error() + "\nStart one with tollgate up, or say where it is by --api-addr or TOLLGATE_API_ADDR"
	}
	return err.Error()
}
