package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is this build's; releases set it by the linker's -X.
var version = "dev"

func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(cmd, output)
			if err != nil {
				return err
			}
			p := newPrinter(cmd, asJSON)
			if !asJSON {
				return p.linef("%s", versionLine())
			}
			text, err := json.Marshal(map[string]string{
				"version": version, "commit": commit(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
			})
			if err != nil {
				return err
			}
			return p.raw(text)
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// versionLine is what people are told of this build.
func versionLine() string {
	return fmt.Sprintf("tollgate %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commit is the one that was built, "" where the build doesn't know.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
