package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBashCompletesWithoutItsPackage: the script completes commands, and what the program
// offers, in a bash that has read nothing else.
func TestBashCompletesWithoutItsPackage(t *testing.T) {
	dir := t.TempDir()
	var script bytes.Buffer
	root := newRoot()
	root.SetOut(&script)
	root.SetArgs([]string{"completion", "bash"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	// It stands in for the program, and tells what it was asked.
	program := "#!/bin/sh\necho \"$@\" >>" + dir + "/asked\nprintf 'show\\tShow a key\\nshort\\n:4\\n'\n"
	for name, text := range map[string]string{"script": script.String(), "tollgate": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const ask = `. "$1/script"
complete -p tollgate
for COMP_LINE in 'tollgate key s' 'tollgate key create --budget=1' 'tollgate key '; do
	COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMPREPLY=()
	read -ra COMP_WORDS <<<"$COMP_LINE"
	COMP_CWORD=$((${#COMP_WORDS[@]}-1))
	__start_tollgate
	echo "$COMP_LINE: ${#COMPREPLY[@]} ${COMPREPLY[0]}"
done`
	bash := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "-c", ask, "bash", dir)
	bash.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := bash.CombinedOutput()
	if err != nil || strings.Contains(string(out), "not found") || !strings.Contains(string(out), "tollgate key s: 2 sho") {
		t.Errorf("bash says %v: %s", err, out)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if want := "__complete key s\n__complete key create --budget=1\n__complete key \n"; err != nil || string(asked) != want {
		t.Errorf("the program was asked %q, want %q (%v)", asked, want, err)
	}
}
