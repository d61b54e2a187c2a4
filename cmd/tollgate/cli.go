package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// group makes a command that only has others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: cobra.ArbitraryArgs,
		RunE: helpOrWrong,
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(commands...)
	return cmd
}

// helpOrWrong is what a command does that only has others: it was called alone, or
// with the name of one that it doesn't have.
func helpOrWrong(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	if args[0] == "help" {
		target, rest, err := cmd.Find(args[1:])
		if err == nil && len(rest) == 0 {
			return target.Help()
		}
	}
	return noCommand(cmd, args[0])
}

func noCommand(cmd *cobra.Command, name string) error {
	hint := ""
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		hint = "; did you mean " + strings.Join(s, " or ") + "?"
	}
	return usage(cmd, "there is no command %q%s", name, hint)
}

// strict makes cobra's own commands, help and completion, refuse what they don't know:
// by themselves they print something else, as if all were well.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Args, cmd.RunE = cobra.ArbitraryArgs, helpOrWrong
			standAlone(cmd)
		case "help":
			cmd.Run = nil
			cmd.RunE = func(_ *cobra.Command, args []string) error {
				target, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return noCommand(target, first(append(rest, args...)...))
				}
				return target.Help()
			}
		}
	}
}

// takes makes a command take exactly the named arguments.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return usage(cmd, "%q is too much", args[len(names)])
		}
		for i, arg := range args {
			switch {
			case arg == "":
				return usage(cmd, "%s is empty", names[i])
			case (arg == "." || arg == "..") && names[i] != "FILE":
				return usage(cmd, "%s: there is none called %q", names[i], arg) // in a path it would be another one's
			}
		}
		return nil
	}
}
