//go:build !unix

package main

import "io"

// terminalWidth is 0: nothing is redrawn where it isn't known how.
func terminalWidth(io.Writer) int { return 0 }
