//go:build !linux

package main

import "context"

// watchFolders does nothing: on this system, only the scans find changes.
func watchFolders(context.Context, []docsRoot, []string, func()) error { return nil }
