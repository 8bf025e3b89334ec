//go:build !race

package interop

const raceFlag = "-race=false"
