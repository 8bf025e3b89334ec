package server

import (
	"flag"
	"testing"
)

func TestMain(m *testing.M) {
	// These tests wait for elections and for the ends of leases most of the time, so more of them fit at once than
	// there are cores. A flag on the command line still wins.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	m.Run()
}
