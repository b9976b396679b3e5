package main

// What the build is: version, commit and Go version.

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// The linker sets these in builds outside a repository:
// -ldflags "-X main.stampedVersion=… -X main.stampedRevision=…".
var (
	stampedVersion  string
	stampedRevision string
)

// release is the version that CHANGELOG.md describes first.
const release = "1.0.0"

// version returns the stamped version, else release. Builds between two releases differ by their revision.
func version() string { return cmp.Or(stampedVersion, release) }

// revision returns the stamped commit, else that of the repository, else "unknown".
func revision() string {
	repositoryRevision := ""
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			repositoryRevision = setting.Value
		}
	}
	return cmp.Or(stampedRevision, repositoryRevision, "unknown")
}

func goVersion() string { return runtime.Version() }
