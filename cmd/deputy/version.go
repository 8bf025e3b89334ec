package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the linker: -ldflags "-X main.buildVersion=v1.2.3 -X main.buildCommit=0123456789ab".
var (
	buildVersion string // a release
	buildCommit  string // where the go command does not stamp it by itself, such as in a second worktree
)

// version is the release, or else the commit that the binary was built from.
func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	switch {
	case len(revision) >= 12:
		return "dev-" + revision[:12] + changed
	case buildCommit != "":
		return "dev-" + buildCommit
	}
	return "dev"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this binary",
		Example: "  deputy version -o json",
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			a.started = true
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				System  string `json:"system"`
			}{version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return a.show(v, func(s *sheet) {
				s.field("Version", v.Version)
				s.field("Go", v.Go)
				s.field("System", v.System)
			})
		},
	}
}
