package testcluster

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoOtherProcessHandsOutThePortsOfThisOne(t *testing.T) {
	mine := Addresses(t, 4)
	other := new(ports)
	t.Cleanup(func() {
		for _, o := range other.own {
			require.NoError(t, o.guard.Close())
		}
	})
	theirs := map[string]bool{}
	for range 3 * ownRanges * rangeSize {
		port, err := other.take()
		require.NoError(t, err, "however often tests run again")
		theirs[fmt.Sprintf("127.0.0.1:%d", port)] = true
	}
	require.Len(t, theirs, ownRanges*(rangeSize-1))
	for _, address := range mine {
		require.NotContains(t, theirs, address)
	}
}
