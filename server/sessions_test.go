package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/server"
)

// listSessions reads all pages at one node, and what the last of them says of the nodes.
func listSessions(t *testing.T, c *testcluster.Cluster, node int, f client.SessionFilter, limit int) (ids []string, last *client.SessionPage) {
	t.Helper()
	l := client.List{Limit: limit}
	cl := c.Client(node)
	cl.Observe(c.Index())
	for range 100 {
		p, err := cl.Sessions(t.Context(), f, l)
		require.NoError(t, err)
		for _, s := range p.Items {
			ids = append(ids, s.SessionID)
		}
		if p.Next == "" {
			return ids, p
		}
		l.After = p.Next
	}
	require.FailNow(t, "a list without end")
	return nil, nil
}

func nodeOf(t *testing.T, p *client.SessionPage, id string) wire.SessionNode {
	t.Helper()
	i := slices.IndexFunc(p.Nodes, func(n wire.SessionNode) bool { return n.ID == id })
	require.GreaterOrEqual(t, i, 0, "%s is not named", id)
	return p.Nodes[i]
}

// start begins one session at a node, which may not have heard of the agent yet.
func start(t *testing.T, c *testcluster.Cluster, node int, f fixture) (s *wire.Session) {
	t.Helper()
	cl := c.Client(node)
	cl.Observe(c.Index())
	eventually(t, "the node mints", func() (ok bool) {
		var err error
		s, err = cl.CreateSession(t.Context(), wire.SessionRequest{AgentID: f.agent.ID, TriggerReason: fmt.Sprint("at node ", node)}, &f.agent)
		return err == nil
	})
	return s
}

func TestSessionsOfEveryNodeAreListedAtEveryNode(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	f := seed(t, c)
	var ids []string
	tokens := map[string]string{}
	for range 3 {
		for node := range 3 {
			s := start(t, c, node, f)
			ids = append(ids, s.SessionID)
			tokens[s.SessionID] = s.AccessToken
		}
	}
	slices.Sort(ids)
	for node := range 3 {
		for _, limit := range []int{2, 4, 100} {
			got, last := listSessions(t, c, node, client.SessionFilter{Agent: f.agent.ID}, limit)
			require.Equal(t, ids, got, "in order, complete, without repeats")
			require.True(t, last.Complete)
			require.Len(t, last.Nodes, 3)
		}
		state, err := c.Client(node).Session(t.Context(), ids[4])
		require.NoError(t, err)
		require.True(t, state.Known)
		require.Equal(t, f.agent.ID, state.AgentID)
		require.Equal(t, "at node "+string(rune('0'+state.Node[1]-'1')), state.TriggerReason, "by the node that started it")
	}

	// One that ends shows as revoked, wherever it was started and whoever is asked.
	_, err := c.Client(2).EndSession(t.Context(), ids[0], "done", client.Fenced(0))
	require.NoError(t, err)
	for node := range 3 {
		active, _ := listSessions(t, c, node, client.SessionFilter{Active: true}, 100)
		require.Equal(t, ids[1:], active)
		p, err := c.Client(node).Sessions(t.Context(), client.SessionFilter{}, client.List{Limit: 1})
		require.NoError(t, err)
		require.True(t, p.Items[0].Revoked)
		require.Equal(t, identity.SessionHandle(ids[0]), p.Items[0].RevokedBy)
	}
	counted, err := c.Client(1).CountSessionsOf(t.Context(), client.SessionFilter{Agent: f.agent.ID})
	require.NoError(t, err)
	require.EqualValues(t, len(ids)-1, counted.Count.Sessions)

	// All that end make way for new ones.
	ended, err := c.Client(1).EndSessionsOf(t.Context(), client.SessionFilter{Agent: f.agent.ID}, "INC-42", client.Fenced(0))
	require.NoError(t, err)
	require.True(t, ended.Fenced)
	require.Equal(t, identity.StatusActive, ended.Status)
	again := start(t, c, 2, f)
	for node := range 3 {
		require.False(t, active(t, c, node, c.Index(), f, tokens[ids[5]]))
		left, _ := listSessions(t, c, node, client.SessionFilter{Active: true}, 100)
		require.Equal(t, []string{again.SessionID}, left)
	}
}

func TestListNamesTheNodesThatItLacks(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	f := seed(t, c)
	var ids []string
	for node := range 3 {
		ids = append(ids, start(t, c, node, f).SessionID)
	}
	c.Stop(2)
	got, last := listSessions(t, c, 0, client.SessionFilter{}, 2)
	require.ElementsMatch(t, ids[:2], got)
	require.False(t, last.Complete)
	silent := nodeOf(t, last, "n3")
	require.False(t, silent.Replied)
	require.NotEmpty(t, silent.Error)
	require.True(t, nodeOf(t, last, "n1").Complete)
	state, err := c.Client(0).Session(t.Context(), ids[2])
	require.NoError(t, err)
	require.False(t, state.Known)
	require.Len(t, state.Nodes, 3)

	// A node that restarts has forgotten what it started, and says since when it knows.
	began := identity.InstantOf(time.Now())
	c.Restart(2)
	later := start(t, c, 2, f).SessionID
	got, last = listSessions(t, c, 1, client.SessionFilter{}, 100)
	require.ElementsMatch(t, append(slices.Clone(ids[:2]), later), got)
	require.False(t, last.Complete, "nobody takes that for no sessions")
	back := nodeOf(t, last, "n3")
	require.True(t, back.Replied)
	require.False(t, back.Complete)
	require.GreaterOrEqual(t, back.Since, began)
	require.True(t, nodeOf(t, last, "n2").Complete)

	// A removed node's tokens stay good, so it is named as well, until they are revoked with its keys.
	_, err = c.Client(0).RemoveMember(t.Context(), "n3", "retired")
	require.NoError(t, err)
	_, last = listSessions(t, c, 0, client.SessionFilter{}, 100)
	require.Contains(t, nodeOf(t, last, "n3").Error, "was removed")
	require.False(t, last.Complete)
}

func TestSmallIndexSaysWhatItDropped(t *testing.T) {
	t.Parallel()
	c := testcluster.NewWith(t, 1, func(o *server.Options) { o.Config.Sessions.IndexMiB = 1 })
	f := seed(t, c)
	cl := c.Client(0)
	var minted int
	eventually(t, "the index is full", func() bool {
		for range 200 {
			minted++ // each has a reason of its own, which takes most of the room
			reason := fmt.Sprintf("ticket %d %s", minted, strings.Repeat(".", identity.MaxReasonLength-20))
			_, err := cl.MintToken(t.Context(), f.agent, client.TokenOptions{TriggerReason: reason})
			require.NoError(t, err)
		}
		p, err := cl.Sessions(t.Context(), client.SessionFilter{}, client.List{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, p.Complete, p.Nodes[0].Dropped == 0)
		return p.Nodes[0].Dropped > 0 && !p.Nodes[0].DroppedUntil.IsZero()
	})
}
