package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// TestOnlyRecentAnswersSayThatAllReadSharedEntries: who answered so and is gone may come back as an older build.
func TestOnlyRecentAnswersSayThatAllReadSharedEntries(t *testing.T) {
	t.Parallel()
	reads := func(entries uint64, ago time.Duration) memberReport {
		return memberReport{memberStats: memberStats{entries: entries}, at: time.Now().Add(-ago)}
	}
	config := raft.Configuration{Servers: []raft.Server{{ID: "n1"}, {ID: "n2"}}}
	for _, c := range []struct {
		name   string
		second memberReport
		share  bool
	}{
		{"both have said so", reads(entriesShared, time.Second), true},
		{"one can't", reads(0, time.Second), false},
		{"one has not said so for long", reads(entriesShared, time.Hour), false},
		{"one has never answered", memberReport{}, false},
	} {
		p := &pilot{node: &Node{tuning: Tuning{AutopilotUpdate: 10 * time.Second}}}
		p.members = map[string]memberReport{"n1": reads(entriesShared, 0), "n2": c.second}
		require.Equal(t, c.share, p.allShare(config), c.name)
	}
}

// Autopilot acts by what it gathered some time ago. A plan of when there were two voters is not carried out once there are
// three.
func TestAHealthyVoterOfThreeKeepsItsVote(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	leader := leaderOf(t, nodes...)
	p := leader.pilot
	var other raft.ServerID
	for _, n := range nodes {
		if n != leader {
			other = raft.ServerID(n.o.NodeID)
		}
	}
	eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.members[string(other)].healthy
	})
	err := guardedRaft{p.raft, p}.DemoteVoter(other, 0, time.Minute).Error()
	require.ErrorContains(t, err, "one of 3 voters")
	require.Len(t, voters(leader), 3)

	seesItDead := &pilot{raft: p.raft, members: map[string]memberReport{string(other): {}}}
	require.NoError(t, seesItDead.spares(other), "a dead one may lend its vote")
}

func TestWhoseVoteIsNeeded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		count   int
		healthy bool
		needed  bool
	}{
		{3, true, true},
		{maxVoters, true, true},
		{3, false, false},             // lends it to one that is alive
		{2, true, false},              // a change that was cut short is undone
		{4, true, false},              // likewise
		{maxVoters + 2, true, false},  // too many
		{maxVoters + 2, false, false}, // likewise
	} {
		require.Equal(t, c.needed, needed(c.count, c.healthy), "%+v", c)
	}
}
