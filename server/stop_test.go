package server_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
)

func mint(t *testing.T, c *testcluster.Cluster, node int, f fixture) string {
	t.Helper()
	cl := c.Client(node)
	cl.Observe(c.Index())
	var token *wire.Token
	eventually(t, "the node mints", func() (ok bool) {
		var err error
		token, err = cl.MintToken(t.Context(), f.agent, client.TokenOptions{})
		return err == nil
	})
	return token.AccessToken
}

func TestFencedKillIsFeltAtEveryNodeAtOnce(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	f := seed(t, c)
	for asked := range 3 {
		_, err := c.Client().AgentLifecycle(t.Context(), f.agent.ID, client.Activate, "")
		require.NoError(t, err)
		token := mint(t, c, asked, f)
		kill, err := c.Client(asked).KillAgent(t.Context(), f.agent.ID, wire.KillRequest{Reason: "INC-42"}, false, client.Fenced(10*time.Second))
		require.NoError(t, err)
		require.True(t, kill.Committed)
		require.True(t, kill.Fenced)
		require.Len(t, kill.Nodes, 3)
		for _, n := range kill.Nodes {
			require.Equal(t, "fenced", n.State, n.ID)
		}
		require.Equal(t, 3, kill.Denied.Nodes)
		require.Equal(t, 3, kill.Denied.Of)
		for node := range 3 {
			require.False(t, active(t, c, node, 0, f, token), "node %d, asked %d", node, asked)
		}
	}
}

func TestFenceNamesTheNodeThatIsMissingAndEndsWithItsLease(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	f := seed(t, c)
	_, err := c.Client().PatchSettings(t.Context(), map[string]any{"lease_milliseconds": 2000})
	require.NoError(t, err)
	c.Stop(2)
	kill, err := c.Client(0).KillAgent(t.Context(), f.agent.ID, wire.KillRequest{}, false, client.Fenced(30*time.Second))
	require.NoError(t, err)
	require.True(t, kill.Fenced, "a stopped node's lease has an end")
	states := map[string]string{}
	for _, n := range kill.Nodes {
		states[n.ID] = n.State
	}
	require.Equal(t, map[string]string{"n1": "fenced", "n2": "fenced", "n3": "lease-expired"}, states)
}

func TestRevocationWithoutAMajorityIsKeptThroughARestartAndCommittedLater(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	f := seed(t, c)
	token := mint(t, c, 0, f)
	c.Stop(1)
	c.Stop(2)
	kill, err := c.Client(0).KillAgent(t.Context(), f.agent.ID, wire.KillRequest{Reason: "INC-42"}, false)
	require.NoError(t, err)
	require.False(t, kill.Committed)
	require.Equal(t, 1, c.Node(0).Pending())

	c.Stop(0)
	c.RestartAll()
	eventually(t, "what was kept is committed", func() bool { return c.Node(0).Pending() == 0 })
	for node := range 3 {
		cl := c.Client(node)
		eventually(t, "every node has it", func() bool {
			agent, err := cl.Agent(t.Context(), f.agent.ID)
			return err == nil && agent.Status == identity.StatusSuspended
		})
		require.False(t, active(t, c, node, 0, f, token))
	}
}

func TestRemovalTakesTheRightToSpeakFirst(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 4)
	f := seed(t, c)
	good, bad := mint(t, c, 2, f), mint(t, c, 3, f)

	gone := c.Node(3)
	_, err := c.Client(0).RemoveMember(t.Context(), "n4", "INC-42", client.Compromised())
	require.NoError(t, err)
	_, err = c.Client(3).MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.Error(t, err, "a removed node is silent from the moment that the removal is answered")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.Equal(t, identity.CodeMemberRemoved, identity.CodeOf(gone.Wait(ctx)))
	for node := range 3 {
		require.False(t, active(t, c, node, c.Index(), f, bad), "its keys are compromised")
		require.True(t, active(t, c, node, 0, f, good))
	}

	_, err = c.Client(0).RemoveMember(t.Context(), "n3", "decommissioned")
	require.NoError(t, err)
	for node := range 2 {
		require.True(t, active(t, c, node, 0, f, good), "what it signed verifies until it ends")
	}
}

func TestLeaderIsRemovedByTheNextOne(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	members, err := c.Client().Members(t.Context())
	require.NoError(t, err)
	var leader string
	for _, m := range members.Items {
		if m.Leader {
			leader = m.ID
		}
	}
	require.NotEmpty(t, leader)
	removed, err := c.Client().RemoveMember(t.Context(), leader, "decommissioned")
	require.NoError(t, err)
	require.Equal(t, leader, removed.ID)
}
