package server_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/server"
)

// lost is a cluster of which all nodes but n2 are lost for good, and a token from before.
func lost(t *testing.T) (c *testcluster.Cluster, f fixture, token string) {
	t.Helper()
	c = testcluster.New(t, 3)
	c.AwaitVoters(3)
	f = seed(t, c)
	token = mint(t, c, 1, f)
	require.True(t, active(t, c, 1, c.Index(), f, token), "n2 has all of it")
	c.StopAll()
	return c, f, token
}

// requireClosed asserts that the node serves, and mints nothing until it is opened, and then without what was.
func requireClosed(t *testing.T, c *testcluster.Cluster, node int, f fixture, old string) {
	t.Helper()
	cl := c.Hasty(node)
	_, err := cl.MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.True(t, isStatus(err, 503), "%v", err)
	require.ErrorContains(t, err, "no tokens are minted")
	status, reason := readiness(t, c, node)
	require.Equal(t, 200, status, "it can be reached, to open it")
	require.Contains(t, reason, "minting is closed")
	require.False(t, active(t, c, node, 0, f, old), "a token from before")

	_, err = cl.OpenMinting(t.Context())
	require.NoError(t, err)
	fresh := mint(t, c, node, f)
	require.NotEqual(t, keyOf(t, old), keyOf(t, fresh))
	require.True(t, active(t, c, node, 0, f, fresh))
	require.False(t, active(t, c, node, 0, f, old), "nothing comes back by opening")
}

func TestOneNodeGoesOnAfterTheOthersAreLost(t *testing.T) {
	t.Parallel()
	c, f, token := lost(t)
	require.NoError(t, c.Recover(1))

	at := c.Client(1)
	members, err := at.Members(t.Context())
	require.NoError(t, err)
	require.Len(t, members.Items, 1)
	require.Equal(t, "n2", members.Items[0].ID)
	requireClosed(t, c, 1, f, token)
	keys := c.Node(1).GossipKeys()

	// Started again it is an ordinary node, and there is nothing to recover any more.
	c.Stop(1)
	require.ErrorIs(t, c.Recover(1), cluster.ErrNothingToRecover)
	c.Restart(1)
	require.Equal(t, keys, c.Node(1).GossipKeys())
	mint(t, c, 1, f)

	// It takes new nodes in, and a lost one that turns up again stays out.
	join, err := at.CreateJoinToken(t.Context(), wire.JoinTokenRequest{})
	require.NoError(t, err)
	require.NoError(t, c.TryJoin("n4", join.Token))
	require.True(t, active(t, c, 3, 0, f, mint(t, c, 3, f)))
	err = c.TryRestart(0)
	require.Equal(t, identity.CodeMemberRemoved, identity.CodeOf(err), "%v", err)
}

// Between the new log and the commit that says what that means the process may die: the mark in the folder has the
// next start, be it an ordinary one, go on before the node may speak.
func TestRecoveryGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	c, f, token := lost(t)
	s, err := server.New(server.Options{Config: c.Node(1).Config(), RecoverQuorum: true})
	require.NoError(t, err)
	require.NoError(t, s.Stop(context.Background()))

	c.Restart(1)
	members, err := c.Client(1).Members(t.Context())
	require.NoError(t, err)
	require.Len(t, members.Items, 1)
	requireClosed(t, c, 1, f, token)
}

func TestRecoveryOfAnEmptyFolderIsRefused(t *testing.T) {
	config := testcluster.Config("n1", t.TempDir())
	_, err := server.New(server.Options{Config: config, RecoverQuorum: true})
	require.ErrorContains(t, err, "recovering from lost quorum")
	_, err = server.New(server.Options{Config: testcluster.Config("n1", ""), Dev: true, RecoverQuorum: true})
	require.ErrorContains(t, err, "nothing to recover")
}
