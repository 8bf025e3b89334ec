package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAFollowerThatLagsCatchesUpOverASlowLink: a request that does not arrive in time is sent again from its beginning.
func TestAFollowerThatLagsCatchesUpOverASlowLink(t *testing.T) {
	t.Parallel()
	const slow = 5_000_000 / 8 // bytes a second
	request := Tuning{}.RaftConfig("n1", 3).MaxAppendEntries * maxSharedBytes
	require.Less(t, float64(request)/slow, TransportConfig().Timeout.Seconds())
}

// TestRaftHasAPlaceForAllThatLanesHaveOnTheirWay, so that a command that may share an entry never waits for one.
func TestRaftHasAPlaceForAllThatLanesHaveOnTheirWay(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, Tuning{}.RaftConfig("n1", 3).MaxAppendEntries, 2*mostEntries)
}
