package main

// What the build is: version, commit and Go version.

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

// The linker sets these in builds outside a repository:
// -ldflags "-X main.stampedVersion=… -X main.stampedRevision=…".
var (
	stampedVersion  string
	stampedRevision string
)

// version returns the stamped version, else that of the module, else "devel".
var version = sync.OnceValue(func() string {
	info, _ := debug.ReadBuildInfo()
	moduleVersion := strings.Trim(info.Main.Version, "()") // "(devel)" outside a repository
	return cmp.Or(stampedVersion, moduleVersion, "devel")
})

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
