//go:build race

package interop

// raceFlag builds the binary as the tests were built, so that what is compiled for them serves for it too.
const raceFlag = "-race=true"
