// Package racedetector tells tests whether they run under the race detector, where all takes five to fifteen times as
// long. What one goroutine does all by itself has nothing in it that the detector could find: there, tests do less of
// it, and the same tests do all of it without the detector.
package racedetector

import "flag"

// roundsUnder is how many random cases rapid draws under the detector for each property; otherwise it is rapid's own
// hundred.
const roundsUnder = "25"

// DrawFewer has rapid draw fewer cases for each property, under the race detector. It is called before flags are
// parsed, so that -rapid.checks on the command line still wins.
func DrawFewer() {
	if !Enabled {
		return
	}
	if err := flag.Set("rapid.checks", roundsUnder); err != nil {
		panic("BUG: a test without rapid asks for fewer of its draws: " + err.Error())
	}
}
