package api

import (
	"flag"
	"testing"
)

func TestMain(m *testing.M) {
	// These tests wait for elections in vain and for servers to hang up most of the time, so more of them fit at once
	// than there are cores. A flag on the command line still wins.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	m.Run()
}
