package cluster

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestThreeNodesReplicateAndForward(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	n3 := nodes[2]

	// What the leader proposes, all apply.
	onLeader(t, nodes, func(leader *testNode) error {
		applied, err := leader.Propose(t.Context(), encodeCommand(tableCommand{Note: "one"}))
		if err == nil {
			require.Equal(t, 1, applied.Response)
			require.GreaterOrEqual(t, leader.table.Applied(), applied.Index)
		}
		return err
	})
	haveNotes(t, []string{"one"}, nodes...)

	// A follower refuses to propose, and forwards in one hop; the leader forwards to itself.
	require.NoError(t, n3.transferTo(nodes[0], nodes))
	_, err := n3.Propose(t.Context(), encodeCommand(tableCommand{Note: "lost"}))
	require.ErrorIs(t, err, ErrNotLeader)
	_, err = nodes[1].Call(t.Context(), "n3", "propose", encodeCommand(tableCommand{Note: "lost"}))
	require.ErrorIs(t, err, ErrNotLeader, "what the other end refuses keeps its meaning")
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	require.Equal(t, "n3", remote.Member)
	nodes[0].commit(tableCommand{Note: "two"})
	n3.commit(tableCommand{Note: "three"})
	haveNotes(t, []string{"one", "two", "three"}, nodes...)

	// Everybody has applied what was committed, and says so.
	index := nodes[0].commit(tableCommand{Note: "four"})
	require.Empty(t, n3.WaitMembersApplied(t.Context(), index))
	for _, n := range nodes {
		require.GreaterOrEqual(t, n.table.Applied(), index)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Equal(t, []string{"n1", "n2", "n3"}, n3.WaitMembersApplied(ctx, index+1000))

	// Gossip finds them all, and the leader knows how they are.
	for _, n := range nodes {
		eventually(t, func() bool { return n.Stats().Alive == 3 }, "gossip of %s", n.o.NodeID)
	}
	eventually(t, func() bool {
		for _, s := range leaderOf(t, nodes...).Servers() {
			if !s.Healthy || s.Applied < index {
				return false
			}
		}
		return true
	})
	leader := leaderOf(t, nodes...)
	followed, ok := n3.Leader()
	require.True(t, ok)
	require.Equal(t, leader.ClusterAddr(), followed.ClusterAddr)
	onLeader(t, nodes, func(l *testNode) error { return l.VerifyLeader(t.Context()) })
	onLeader(t, nodes, func(l *testNode) error { return l.Barrier(t.Context()) })

	// Leadership moves on request, and writes go on.
	require.NoError(t, leader.transferTo(nodes[1], nodes))
	nodes[0].commit(tableCommand{Note: "five"})
	haveNotes(t, []string{"one", "two", "three", "four", "five"}, nodes...)
}

// transferTo makes to the leader.
func (n *testNode) transferTo(to *testNode, nodes []*testNode) error {
	n.t.Helper()
	eventually(n.t, func() bool {
		leader := leaderOf(n.t, nodes...)
		if leader == to {
			return true
		}
		_ = leader.TransferLeadership(n.t.Context(), to.o.NodeID)
		return false
	}, "leadership for %s", to.o.NodeID)
	return nil
}

func TestLeadershipThatNobodyTakesIsKept(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	nodes[2].stop()
	eventually(t, func() bool {
		err := leaderOf(t, nodes[:2]...).TransferLeadership(t.Context(), "n3")
		if errors.Is(err, ErrNotLeader) { // an election came in between
			return false
		}
		require.ErrorIs(t, err, ErrNotHandedOver)
		return true
	})
	nodes[0].commit(tableCommand{Note: "on"})
	err := leaderOf(t, nodes[:2]...).TransferLeadership(t.Context(), "n9")
	require.True(t, errors.Is(err, ErrUnknownMember) || errors.Is(err, ErrNotLeader), "%v", err)
}

func TestEverySeriesIsThereFromBoot(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n1")
	families, err := n.o.Registerer.(*prometheus.Registry).Gather()
	require.NoError(t, err)
	names := make(map[string]int)
	for _, f := range families {
		names[f.GetName()] = len(f.GetMetric())
	}
	require.Equal(t, map[string]int{
		"deputy_cluster_rejected_connections_total": 3, "deputy_cluster_proposals_total": 3,
		"deputy_cluster_propose_seconds": 1, "deputy_cluster_disk_stalls_total": 1,
		"deputy_cluster_entries_total":       1,
		"deputy_cluster_deny_messages_total": 10, "deputy_cluster_deny_overflow_total": 3,
		"deputy_cluster_term": 1, "deputy_cluster_last_index": 1, "deputy_cluster_commit_index": 1,
		"deputy_cluster_applied_index": 1, "deputy_cluster_is_leader": 1, "deputy_cluster_has_leader": 1,
		"deputy_cluster_servers": 2, "deputy_cluster_members": 1, "deputy_cluster_members_alive": 1,
		"deputy_cluster_proposals_in_flight": 1, "deputy_cluster_connections": 1,
	}, names)
}

func TestAnyNodeRestartsFromItsFolder(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	nodes[0].commit(tableCommand{Note: "before"})

	for _, n := range nodes {
		n.restart()
		require.True(t, n.HasState())
		leaderOf(t, nodes...)
	}
	leader := leaderOf(t, nodes...)
	leader.commit(tableCommand{Note: "after"})
	haveNotes(t, []string{"before", "after"}, nodes...)
}

func TestAllNodesRestartAtOnce(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	nodes[0].commit(tableCommand{Note: "before"})
	// A snapshot makes the restart start from state rather than from the log.
	require.NoError(t, nodes[0].Snapshot(t.Context()))
	for _, n := range nodes {
		eventually(t, func() bool { return len(n.roster.seed.Load().Members) == 3 }, "peers.json of %s", n.o.NodeID)
	}
	for _, n := range nodes {
		n.stop()
	}
	for _, n := range nodes {
		n.open()
		require.Zero(t, n.table.Applied())
		require.Len(t, n.roster.members(), 3, "the file stands in for the table")
	}
	for _, n := range nodes {
		n.start()
	}
	nodes[2].commit(tableCommand{Note: "after"})
	haveNotes(t, []string{"before", "after"}, nodes...)
	leader := nodes[2]
	require.ErrorIs(t, leader.Bootstrap(t.Context()), ErrHasState)
}

func TestWritesResumeWhenTheLeaderDies(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	nodes[0].commit(tableCommand{Note: "one"})
	nodes[0].kill()
	rest := nodes[1:]
	leader := rest[0]
	leader.commit(tableCommand{Note: "two"})
	haveNotes(t, []string{"one", "two"}, rest...)

	// The dead one keeps its vote, as nobody can stand in for it, and comes back.
	require.Len(t, voters(leader), 3)
	eventually(t, func() bool { return leader.Stats().Alive == 2 }, "gossip misses the dead node")
	nodes[0].open()
	nodes[0].start()
	haveNotes(t, []string{"one", "two"}, nodes...)
	eventually(t, func() bool { return leader.Stats().Alive == 3 })
}

func TestADeadVoterLendsItsVoteToAHealthyNonvoter(t *testing.T) {
	t.Parallel()
	// Soon for a test, and longer than a busy machine keeps a live one from answering.
	soon := func(o *Options) { o.Tuning.ReplaceDeadAfter = 5 * time.Second }
	nodes := threeNodes(t, soon)
	n1 := nodes[0]
	n4 := n1.join("n4", soon)
	nodes = append(nodes, n4)
	require.Equal(t, []string{"n1", "n2", "n3"}, voters(n1), "four servers, three votes")

	nodes[1].kill()
	eventually(t, func() bool { return slices.Equal(voters(n1), []string{"n1", "n3", "n4"}) }, "n4 votes for n2")
	n1.commit(tableCommand{Note: "on"})

	// Back again it listens, and need not vote.
	nodes[1].open()
	nodes[1].start()
	haveNotes(t, []string{"on"}, nodes...)
	require.Equal(t, []string{"n1", "n3", "n4"}, voters(n1))
}

func TestRemovedMemberGetsNowhere(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	_, err := n3.Call(t.Context(), "n2", "echo", nil)
	require.NoError(t, err)

	require.NoError(t, n1.transferTo(n1, nodes))
	require.ErrorIs(t, n1.RemoveServer(t.Context(), "n1", false), ErrIsLeader)
	require.ErrorIs(t, n2.RemoveServer(t.Context(), "n3", false), ErrNotLeader)
	onLeader(t, nodes[:2], func(leader *testNode) error { return leader.RemoveServer(t.Context(), "n3", false) })
	onLeader(t, nodes[:2], func(leader *testNode) error { return leader.RemoveServer(t.Context(), "n3", false) })
	index := n1.commit(tableCommand{Remove: "n3"})
	require.NoError(t, n2.table.WaitApplied(t.Context(), index))

	// The connection that was open is deaf from that index on, and no new one is let in.
	_, err = n3.Call(t.Context(), "n2", "echo", nil)
	require.Error(t, err)
	eventually(t, func() bool { return !connectedTo(n1, n3) && !connectedTo(n2, n3) }, "connections are closed")
	for range 3 {
		_, err = n3.Call(t.Context(), "n2", "echo", nil)
		require.Error(t, err)
	}
	_, err = n2.Call(t.Context(), "n3", "echo", nil)
	require.ErrorIs(t, err, ErrUnknownMember)

	// Of two servers one votes: with two votes neither could be lost.
	eventually(t, func() bool { return len(voters(n1)) == 1 })
	n1.commit(tableCommand{Note: "on"})
	haveNotes(t, []string{"on"}, n1, n2)
}

func TestRemovalIsRefusedWhereItWouldLoseQuorum(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	nodes[2].kill()
	rest := nodes[:2]
	eventually(t, func() bool {
		leader := leaderOf(t, rest...)
		return leader.Stats().Alive == 2 && !leader.pilot.answers("n3")
	})
	leader := leaderOf(t, rest...)
	other := rest[0]
	if other == leader {
		other = rest[1]
	}
	require.ErrorIs(t, leader.RemoveServer(t.Context(), other.o.NodeID, false), ErrWouldLoseQuorum)
	onLeader(t, rest, func(leader *testNode) error { return leader.RemoveServer(t.Context(), "n3", false) })
}

func TestForcedRemovalTrustsTheOperatorAboutWhoIsAlive(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	require.NoError(t, nodes[0].transferTo(nodes[0], nodes))
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	n3.kill()
	eventually(t, func() bool { return n1.IsLeader() && n1.Stats().Alive == 2 && !n1.pilot.answers("n3") })
	require.ErrorIs(t, n1.RemoveServer(t.Context(), "n2", false), ErrWouldLoseQuorum)

	// What it risks: of n1 and n3 one is down, so the change is in the log and undecided.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	require.ErrorIs(t, n1.RemoveServer(ctx, "n2", true), ErrOutcomeUnknown)

	// The operator knew that n3 would be back.
	n2.kill()
	n3.open()
	n3.start()
	eventually(t, func() bool {
		_, err := n1.CallLeader(t.Context(), "propose", encodeCommand(tableCommand{Note: "on"}))
		return err == nil
	})
	eventually(t, func() bool { return !slices.Contains(serverIDs(n1), "n2") })
	haveNotes(t, []string{"on"}, n1, n3)
}

func serverIDs(n *testNode) (ids []string) {
	for _, s := range n.Servers() {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestANodeWithANewAddressIsFoundAgain(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	n1, n3 := nodes[0], nodes[2]
	eventually(t, func() bool { return len(n3.roster.seed.Load().Members) == 3 })
	n3.stop()
	n3.o.ClusterBind, n3.o.GossipBind = "127.0.0.1:0", "127.0.0.1:0"
	n3.open()
	n3.start()

	// It knows no leader, as the leader can't reach it, and still its call gets there.
	moved := n3.member()
	index := n3.commit(tableCommand{Admit: &moved})
	require.NoError(t, n1.table.WaitApplied(t.Context(), index))
	require.NoError(t, n1.ReplaceAddress(t.Context(), "n3", moved.ClusterAddr))
	require.Error(t, n1.ReplaceAddress(t.Context(), "n3", "127.0.0.1:1"), "the table comes first")
	require.ErrorIs(t, n1.ReplaceAddress(t.Context(), "n9", "127.0.0.1:1"), ErrUnknownMember)
	require.Len(t, voters(n1), 3, "its vote stays")
	n1.commit(tableCommand{Note: "found"})
	haveNotes(t, []string{"found"}, nodes...)
	for _, s := range n1.Servers() {
		if s.ID == "n3" {
			require.Equal(t, moved.ClusterAddr, s.Addr)
		}
	}
}

// A node was away while the members it knew were replaced by others: one that it still knows tells it.
func TestANodeThatMissedChangesLearnsOfTheOthers(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	n3.stop()
	n4 := n1.join("n4")
	n5 := n1.join("n5")
	eventually(t, func() bool { return contains(voters(n1), "n4") && n4.table.Applied() >= n5.table.Applied() })
	require.NoError(t, n1.transferTo(n4, []*testNode{n1, n2, n4, n5}))

	n3.open()
	require.Len(t, n3.roster.members(), 3)
	n3.start()
	n4.commit(tableCommand{Note: "hello"})
	haveNotes(t, []string{"hello"}, n1, n2, n3, n4, n5)
}

func TestFiveVoteAndTheSixthDoesNot(t *testing.T) {
	t.Parallel()
	n1 := newCluster(t, inMemory)
	n1.join("n2", inMemory)
	require.Len(t, voters(n1), 1, "two servers, one vote")
	n1.join("n3", inMemory)
	eventually(t, func() bool { return len(voters(n1)) == 3 })
	for _, id := range []string{"n4", "n5", "n6"} {
		n1.join(id, inMemory)
	}
	eventually(t, func() bool { return len(voters(n1)) == 5 })
	n1.commit(tableCommand{Note: "all"})
	require.Never(t, func() bool { return len(voters(n1)) > 5 }, 500*time.Millisecond, 20*time.Millisecond)
}
