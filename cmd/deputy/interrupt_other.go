//go:build !linux

package main

import "context"

// parentInterrupted has no way to look at another process's signals here; Ctrl-C and signals to this process
// work all the same.
func parentInterrupted(context.Context, func()) {}
