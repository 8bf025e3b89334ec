package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProposeSaysWhetherAnythingHappened(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)

	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := n.Propose(expired, note("late"))
	require.ErrorIs(t, err, ErrTimeout)
	_, err = n.Propose(t.Context(), make([]byte, MaxCommand+1))
	require.ErrorIs(t, err, ErrTooLarge)

	for range MaxProposals {
		n.proposals <- struct{}{}
	}
	_, err = n.Propose(t.Context(), note("one too many"))
	require.ErrorIs(t, err, ErrOverloaded)
	_, err = n.ProposeOn(t.Context(), Terms{Urgent: true}, note("one too many"))
	require.ErrorIs(t, err, ErrOverloaded)
	for range urgentProposals {
		<-n.proposals
	}
	_, err = n.Propose(t.Context(), note("one too many"))
	require.ErrorIs(t, err, ErrOverloaded)
	_, err = n.ProposeOn(t.Context(), Terms{Urgent: true}, note("urgent"))
	require.NoError(t, err, "there is room left for what stops something")
	for range MaxProposals - urgentProposals {
		<-n.proposals
	}

	_, err = n.Propose(t.Context(), note("fine"))
	require.NoError(t, err)
	require.Equal(t, []string{"urgent", "fine"}, n.table.notes())
	require.Empty(t, n.proposals, "every place is given back")
}

func TestWithoutAQuorumTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t, func(o *Options) { // it must still lead when the others have been killed
		const long = 2 * time.Second
		o.Tuning.HeartbeatTimeout, o.Tuning.ElectionTimeout, o.Tuning.LeaderLeaseTimeout = long, long, long
	})
	require.NoError(t, nodes[0].transferTo(nodes[0], nodes))
	nodes[1].kill()
	nodes[2].kill()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := nodes[0].Propose(ctx, encodeCommand(tableCommand{Note: "who knows"}))
	require.ErrorIs(t, err, ErrOutcomeUnknown)
	eventually(t, func() bool { return !nodes[0].IsLeader() }, "a leader without a quorum steps down")
	_, err = nodes[0].Propose(t.Context(), encodeCommand(tableCommand{Note: "refused"}))
	require.ErrorIs(t, err, ErrNotLeader)
	_, err = nodes[0].CallLeader(t.Context(), "echo", nil)
	require.ErrorIs(t, err, ErrNoLeader)
}

func TestANodeThatLagsFarIsSentASnapshot(t *testing.T) {
	t.Parallel()
	short := func(o *Options) { o.Tuning.TrailingLogs = 1 }
	n1 := newCluster(t, short)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("note ", i))
		n1.commit(tableCommand{Note: want[i]})
	}
	require.NoError(t, n1.Snapshot(t.Context()))
	require.NoError(t, n1.Snapshot(t.Context()), "nothing new is no error")

	// The joiner waits for nothing but what a log can't give it any more.
	n2 := newNode(t, "n2", short)
	m := n2.member()
	index := n1.commit(tableCommand{Admit: &m})
	require.NoError(t, n2.Seed(Peers{Index: index, Members: n1.table.Members(), GossipKeys: n1.GossipKeys()}))
	n2.start()
	require.NoError(t, n1.AddNonvoter(t.Context(), "n2", m.ClusterAddr))
	eventually(t, func() bool { return slices.Equal(want, n2.table.notes()) })
}

func TestGossipKeysRotate(t *testing.T) {
	t.Parallel()
	calm := func(o *Options) { o.Tuning.GossipProbe = time.Second } // who is slow to answer is not taken for dead
	n1 := newCluster(t, inMemory, calm)
	n2 := n1.join("n2", inMemory, calm)
	both := func(alive int) func() bool {
		return func() bool { return n1.Stats().Alive == alive && n2.Stats().Alive == alive }
	}
	eventually(t, both(2))
	require.Equal(t, n1.GossipKeys(), n2.GossipKeys())

	old := n1.GossipKeys()[0]
	fresh, err := newGossipKey()
	require.NoError(t, err)
	for _, step := range [][][]byte{{old, fresh}, {fresh, old}, {fresh}} { // add, use, drop
		for _, n := range []*testNode{n1, n2} {
			require.NoError(t, n.SetGossipKeys(step))
			require.Equal(t, step, n.GossipKeys())
		}
	}
	require.Never(t, func() bool { return !both(2)() }, 500*time.Millisecond, 50*time.Millisecond)
	require.Error(t, n1.SetGossipKeys(nil))
	require.Error(t, n1.SetGossipKeys([][]byte{{1, 2, 3}}))
}
