package server

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASmallHeapIsCollectedOnceItHasGrownByItsHeadroom(t *testing.T) {
	const room = 256 << 20
	require.Equal(t, mostGCPercent, gcPercent(0, room), "what lives is not known before the first collection")
	require.Equal(t, mostGCPercent, gcPercent(5<<20, room))
	require.Equal(t, 400, gcPercent(64<<20, room))
	require.Equal(t, 100, gcPercent(room, room))
	require.Equal(t, 100, gcPercent(10<<30, room))
	require.Equal(t, 100, gcPercent(64<<20, 0), "no memory to spare")
	for live := uint64(1); live < 1<<40; live *= 3 {
		grown := live * uint64(gcPercent(live, room)) / 100
		require.LessOrEqual(t, grown, max(live, room), "with %d bytes alive", live)
	}
}
