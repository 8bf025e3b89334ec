package bench

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A node that hangs while the fixture is made would refuse its agent afterwards: the load begins when it knows it.
func TestNoLoadBeginsBeforeEveryNodeKnowsWhatItIsFor(t *testing.T) {
	nodes, err := startOwnCluster(t.Context(), ownClusterOptions{binary: deputy(t), parent: t.TempDir(), nodes: 3})
	require.NoError(t, err)
	defer func() { require.NoError(t, nodes.close()) }()
	leader, err := nodes.leader(t.Context())
	require.NoError(t, err)
	var follower *ownNode
	for _, n := range nodes.live() {
		if n != leader {
			follower = n
		}
	}
	api, err := nodes.client()
	require.NoError(t, err)

	var goesOn atomic.Bool
	require.NoError(t, follower.cmd.Process.Signal(syscall.SIGSTOP))
	time.AfterFunc(500*time.Millisecond, func() {
		goesOn.Store(true)
		_ = follower.cmd.Process.Signal(syscall.SIGCONT) // gone: the test has failed by then
	})
	f, err := newFixture(t.Context(), api)
	require.NoError(t, err)
	require.True(t, goesOn.Load(), "the fixture was there while a node could not know it")
	f.api, err = nodes.clientOf(follower.address.Public)
	require.NoError(t, err)
	_, err = f.mint(t.Context(), 1)
	require.NoError(t, err)
}
