package main

import (
	"fmt"
	"runtime/debug"
)

// version is the release; the build stamps it with -ldflags "-X main.version=…".
var version = "dev"

type versionCommand struct{}

// Run prints the version, the commit it was built from where the build knows it, and the Go release.
func (versionCommand) Run(p process) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		_, err := fmt.Fprintln(p.stdout, "portico", version)
		return err
	}
	commit := ""
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			commit = " " + setting.Value
		}
	}
	_, err := fmt.Fprintf(p.stdout, "portico %s%s %s\n", version, commit, info.GoVersion)
	return err
}
