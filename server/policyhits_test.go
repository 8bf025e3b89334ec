package server_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
)

// A change of a policy is in force at every node that is handed its index, and any node knows what all of them denied.
func TestPoliciesChangeAtOnceAndTheirHitsAreOfAllNodes(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	f := seed(t, c)
	for node := range 3 {
		start(t, c, node, f)
	}
	admin := c.Client()
	// each asks every node for a session, from the state on that the admin knows of.
	each := func(want identity.Code) {
		for node := range 3 {
			cl := c.Client(node)
			cl.Observe(admin.Index())
			_, err := cl.CreateSession(t.Context(), wire.SessionRequest{AgentID: f.agent.ID}, &f.agent)
			require.Equal(t, want, identity.CodeOf(err), "%v", err)
		}
	}
	_, err := admin.CreatePolicy(t.Context(), wire.PolicyRequest{
		ID: "nobody", Mode: identity.PolicyMonitor, Text: `forbid (principal is Agent, action == Action::"CreateSession", resource);`,
	})
	require.NoError(t, err)
	each("")
	_, err = admin.SetPolicyMode(t.Context(), "nobody", identity.PolicyEnforce)
	require.NoError(t, err)
	each(identity.CodePolicyDenied)
	for node := range 3 {
		hits, err := c.Client(node).PolicyHits(t.Context(), "nobody")
		require.NoError(t, err)
		require.True(t, hits.Complete)
		require.Len(t, hits.Nodes, 3)
		require.EqualValues(t, 3, hits.Monitored)
		require.EqualValues(t, 3, hits.Denied)
		require.Len(t, hits.Agents, 1)
		list, err := c.Client(node).AllPolicyHits(t.Context())
		require.NoError(t, err)
		require.Len(t, list.Policies, 1)
	}
}
