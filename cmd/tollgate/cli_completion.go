package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// withoutBashCompletion is what cobra's script for bash needs of the package
// bash-completion, for a shell that hasn't got it, as in most containers: the words of
// the line up to the cursor. It defines nothing where the package is there.
const withoutBashCompletion = `
if ! declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
    _get_comp_words_by_ref()
    {
        # cur, prev, words and cword are the caller's. bash itself also splits at = and :,
        # which are parts of our words.
        local line=${COMP_LINE:0:COMP_POINT}
        read -ra words <<<"$line"
        if [[ -z $line || $line == *[[:space:]] ]]; then
            words+=("")
        fi
        cword=$((${#words[@]} - 1))
        cur=${words[cword]}
        prev=
        if ((cword > 0)); then
            prev=${words[cword-1]}
        fi
    }
fi
`

// standAlone makes the script for bash one that needs no other package.
func standAlone(completion *cobra.Command) {
	for _, cmd := range completion.Commands() {
		if cmd.Name() != "bash" {
			continue
		}
		cmd.Long = strings.Replace(cmd.Long, `This script depends on the 'bash-completion' package.
If it is not installed already, you can install it via your OS's package manager.
`, `The package bash-completion is used where it is installed, and not needed.
`, 1)
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			plain, err := cmd.Flags().GetBool("no-descriptions")
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := cmd.Root().GenBashCompletionV2(out, !plain); err != nil {
				return err
			}
			_, err = io.WriteString(out, withoutBashCompletion)
			return err
		}
	}
}
