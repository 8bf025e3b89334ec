package server_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/server"
)

// disks are the free MiB of each node.
type disks struct {
	mu   sync.Mutex
	free map[string]uint64
}

func (d *disks) set(id string, mib uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free[id] = mib
}

func (d *disks) of(id string) func(string) (uint64, error) {
	return func(string) (uint64, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if mib, known := d.free[id]; known {
			return mib << 20, nil
		}
		return 1 << 40, nil
	}
}

func TestNodeWithLittleDiskLeavesLeadershipToOthersAndEndsBeforeTheLogDoes(t *testing.T) {
	t.Parallel()
	d := &disks{free: map[string]uint64{}}
	c := testcluster.NewWith(t, 3, func(o *server.Options) { o.FreeBytes = d.of(o.Config.NodeID) })
	c.AwaitVoters(3)
	f := seed(t, c)
	token := mint(t, c, 0, f)

	leader := c.Leader()
	d.set(c.Node(leader).ID, 100)
	eventually(t, "one with room leads", func() bool { return c.Leader() != leader })
	_, err := c.Client().CreatePrincipal(t.Context(), wire.PrincipalRequest{ID: "first@company.com"})
	require.NoError(t, err, "writes go on by way of the others")

	for node := range 3 {
		d.set(c.Node(node).ID, 100)
	}
	eventually(t, "where all are short of room, none takes an ordinary write", func() bool {
		_, err := c.Client().CreatePrincipal(t.Context(), wire.PrincipalRequest{ID: "second@company.com"})
		return codeOf(err) == identity.CodeDiskFull && isStatus(err, 503)
	})
	kill, err := c.Client().KillAgent(t.Context(), f.agent.ID, wire.KillRequest{Reason: "INC-42"}, false)
	require.NoError(t, err)
	require.True(t, kill.Committed, "a stop goes through")
	require.False(t, active(t, c, 1, c.Index(), f, token))

	d.set("n3", 63)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.ErrorContains(t, c.Node(2).Wait(ctx), "63 MiB free")
	c.Stop(2)
	require.ErrorContains(t, c.TryRestart(2), "63 MiB free", "nor does it start like that")

	for node := range 3 {
		d.set(c.Node(node).ID, 1000)
	}
	c.Restart(2)
	eventually(t, "with room all is as before", func() bool {
		_, err := c.Client().CreatePrincipal(t.Context(), wire.PrincipalRequest{ID: "third@company.com"})
		return err == nil
	})
}
