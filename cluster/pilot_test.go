package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
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
func TestAPlanEndsWhereTheVotersAreOthers(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	leader := leaderOf(t, nodes...)
	ids := []raft.ServerID{"n1", "n2", "n3"}
	other := ids[0]
	if leader.o.NodeID == string(other) {
		other = ids[1]
	}
	stale := &pilot{raft: leader.pilot.raft}
	stale.planFor(votersOf("n1", "n2"))
	require.ErrorContains(t, guardedRaft{stale.raft, stale}.DemoteVoter(other, 0, time.Minute).Error(), "before the last change")
	require.ErrorContains(t, guardedRaft{stale.raft, stale}.AddVoter(other, "", 0, time.Minute).Error(), "already")
	require.ErrorContains(t, guardedRaft{stale.raft, stale}.AddVoter("n9", "", 0, time.Minute).Error(), "no member")
	require.Len(t, voters(leader), 3)
}

func TestAPlanFollowsItsOwnChanges(t *testing.T) {
	t.Parallel()
	config := func(voters ...raft.ServerID) (c raft.Configuration) {
		for _, id := range []raft.ServerID{"n1", "n2", "n3", "n4"} {
			s := raft.Server{ID: id, Suffrage: raft.Nonvoter}
			if slices.Contains(voters, id) {
				s.Suffrage = raft.Voter
			}
			c.Servers = append(c.Servers, s)
		}
		return c
	}
	p := &pilot{}
	require.False(t, p.carriesOut(config("n1"), "n2", raft.Voter), "no plan yet")

	p.planFor(votersOf("n1", "n2", "n3"))
	require.False(t, p.carriesOut(config("n1", "n2"), "n2", raft.Nonvoter), "one fewer than planned for")
	require.False(t, p.carriesOut(config("n1", "n2", "n3", "n4"), "n2", raft.Nonvoter), "one more")
	require.False(t, p.carriesOut(config("n1", "n2", "n4"), "n2", raft.Nonvoter), "as many, and others")

	require.True(t, p.carriesOut(config("n1", "n2", "n3"), "n2", raft.Nonvoter))
	require.False(t, p.carriesOut(config("n1", "n2", "n3"), "n4", raft.Voter), "its own first change was undone")
	require.True(t, p.carriesOut(config("n1", "n3"), "n4", raft.Voter))
	require.True(t, p.carriesOut(config("n1", "n3", "n4"), "n2", raft.Voter))
}

func votersOf(ids ...raft.ServerID) (servers []standing) {
	for _, id := range ids {
		servers = append(servers, standing{id: id, voter: true})
	}
	return append(servers, standing{id: "another"})
}

// TestAVoteIsLentForADeathOnly: what counts is how long a voter has been dead, not how long it has been known.
func TestAVoteIsLentForADeathOnly(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := &pilot{
		node:    &Node{tuning: Tuning{ReplaceDeadAfter: time.Minute}, o: Options{Clock: func() time.Time { return now }}},
		members: map[string]memberReport{"removed": {}},
	}
	planned := func(n2 bool) autopilot.RaftChanges {
		server := func(state autopilot.RaftState, healthy bool) *autopilot.ServerState {
			return &autopilot.ServerState{State: state, Health: autopilot.ServerHealth{Healthy: healthy}}
		}
		state := &autopilot.State{Leader: "n1", Servers: map[raft.ServerID]*autopilot.ServerState{
			"n1": server(autopilot.RaftLeader, true), "n2": server(autopilot.RaftVoter, n2),
			"n3": server(autopilot.RaftVoter, true), "n4": server(autopilot.RaftNonVoter, true),
		}}
		integration{p}.NotifyState(state)
		return promoter{p}.CalculatePromotionsAndDemotions(&autopilot.Config{ServerStabilizationTime: time.Second}, state)
	}
	require.Empty(t, planned(true))
	require.NotContains(t, p.members, "removed")
	now = now.Add(time.Hour)
	require.Empty(t, planned(true))
	require.Empty(t, planned(false), "it misses an answer")
	now = now.Add(time.Minute - 1)
	require.Empty(t, planned(false))
	require.Empty(t, planned(true), "and is back")
	require.Empty(t, planned(false))
	now = now.Add(time.Minute)
	require.Equal(t, autopilot.RaftChanges{Promotions: []raft.ServerID{"n4"}, Demotions: []raft.ServerID{"n2"}}, planned(false))
	require.Equal(t, map[raft.ServerID]bool{"n1": true, "n2": true, "n3": true}, p.planned)
}
