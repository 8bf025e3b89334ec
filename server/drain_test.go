package server_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
)

// readiness is what a node says at /readyz.
func readiness(t *testing.T, c *testcluster.Cluster, node int) (status int, reason string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Node(node).OpsAddr()+"/readyz", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var body struct{ Reason string }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&body))
	return response.StatusCode, body.Reason
}

// codeOf is the code that a node has refused with.
func codeOf(err error) identity.Code {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestDrainingNodeMintsNothingAndChecksOn(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	f := seed(t, c)
	token := mint(t, c, 1, f)
	status, _ := readiness(t, c, 1)
	require.Equal(t, 200, status)

	drained, err := c.Client().DrainMember(t.Context(), "n2", true)
	require.NoError(t, err)
	require.True(t, drained.Draining)
	at1 := c.Hasty(1)
	at1.Observe(drained.Index)
	_, err = at1.MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.True(t, isStatus(err, 503), "%v", err)
	require.ErrorContains(t, err, "this node is draining")
	require.True(t, active(t, c, 1, drained.Index, f, token), "what it signed is good, and it still checks")
	status, reason := readiness(t, c, 1)
	require.Equal(t, 503, status)
	require.Equal(t, "draining", reason)
	_, err = c.Client(0).MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.NoError(t, err, "others mint")

	c.Stop(1)
	c.Restart(1)
	status, _ = readiness(t, c, 1)
	require.Equal(t, 503, status, "a restart doesn't end it")

	undone, err := c.Client().DrainMember(t.Context(), "n2", false)
	require.NoError(t, err)
	require.False(t, undone.Draining)
	mint(t, c, 1, f)
	eventually(t, "ready again", func() bool { status, _ := readiness(t, c, 1); return status == 200 })
}

func TestDrainingNodeHandsLeadershipOverAgainAndAgain(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	first := c.Leader()
	drain := func(node int, draining bool) {
		t.Helper()
		_, err := c.Client().DrainMember(t.Context(), c.Node(node).ID, draining)
		require.NoError(t, err)
	}
	drain(first, true)
	eventually(t, "another leads", func() bool { return c.Leader() != first })
	second := c.Leader()

	drain(second, true)
	eventually(t, "the third leads", func() bool { l := c.Leader(); return l != first && l != second })
	third := c.Leader()

	handOver(t, c, c.Node(first).ID)
	eventually(t, "it comes back to the one that doesn't drain", func() bool { return c.Leader() == third })

	drain(third, true)
	_, err := c.Client().DrainMember(t.Context(), c.Node(third).ID, false)
	require.NoError(t, err, "where all are draining, somebody leads all the same")
	eventually(t, "back again", func() bool { return c.Leader() == third })
}

// handOver has leadership handed over, which raft gives up where the other has not taken it soon.
func handOver(t *testing.T, c *testcluster.Cluster, to string) {
	t.Helper()
	eventually(t, "leadership is handed over", func() bool {
		_, err := c.Client().TransferLeadership(t.Context(), to)
		require.True(t, err == nil || codeOf(err) == identity.CodeOutcomeUnknown, "%v", err)
		return err == nil
	})
}

func TestDrainAndRemoveOfTheLeaderLosesNoMint(t *testing.T) {
	t.Parallel()
	c := testcluster.NewWith(t, 4, unhurried)
	c.AwaitVoters(3)
	f := seed(t, c)
	leader := c.Leader()
	for node := range 4 {
		mint(t, c, node, f)
	}
	members, err := c.Client().Members(t.Context())
	require.NoError(t, err)
	for _, m := range members.Items {
		if m.Suffrage != cluster.SuffrageVoter {
			_, err := c.Client().TransferLeadership(t.Context(), m.ID)
			require.Equal(t, identity.CodeConflict, codeOf(err), "who has no vote can't take it: %v", err)
		}
	}
	var others []int
	for node := range 4 {
		if node != leader {
			others = append(others, node)
		}
	}
	l := startLoadAt(t, c, f, others)
	_, err = c.Client().DrainMember(t.Context(), c.Node(leader).ID, true)
	require.NoError(t, err)
	eventually(t, "another leads", func() bool { return c.Leader() != leader })
	_, err = c.Client(others...).RemoveMember(t.Context(), c.Node(leader).ID, "decommissioned")
	require.NoError(t, err)
	l.end()
	require.Zero(t, l.failed.Load(), "%d minted: %v", l.minted.Load(), l.first)
	require.Positive(t, l.minted.Load())
}
