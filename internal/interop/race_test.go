//go:build race

package interop

// raceEnabled: the binary is built as the tests were, so that what is compiled for them serves for it too.
const raceEnabled = true
