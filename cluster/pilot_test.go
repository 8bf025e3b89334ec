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
	stale.planFor(votersOf("n1", "n2"), time.Time{})
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

	p.planFor(votersOf("n1", "n2", "n3"), time.Time{})
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

// pilotAt is a pilot that looks at servers whose health is made up: n1 leads, n2 and n3 vote, n4 does not.
type pilotAt struct {
	*pilot
	now     time.Time
	healthy map[raft.ServerID]bool
	voters  []raft.ServerID
}

func newPilotAt() *pilotAt {
	p := &pilotAt{now: time.Now(), voters: []raft.ServerID{"n2", "n3"}, healthy: map[raft.ServerID]bool{"n1": true, "n2": true, "n3": true, "n4": true}}
	p.pilot = &pilot{
		node:    &Node{tuning: Tuning{ReplaceDeadAfter: time.Minute}, o: Options{Clock: func() time.Time { return p.now }}},
		members: map[string]memberReport{"removed": {}},
	}
	return p
}

// look is what autopilot does at each update and then at each reconciliation.
func (p *pilotAt) look() autopilot.RaftChanges {
	state := &autopilot.State{Leader: "n1", Servers: make(map[raft.ServerID]*autopilot.ServerState)}
	for id, healthy := range p.healthy {
		role := autopilot.RaftNonVoter
		switch {
		case id == state.Leader:
			role = autopilot.RaftLeader
		case slices.Contains(p.voters, id):
			role = autopilot.RaftVoter
		}
		state.Servers[id] = &autopilot.ServerState{State: role, Health: autopilot.ServerHealth{Healthy: healthy}}
	}
	integration{p.pilot}.NotifyState(state)
	return promoter{p.pilot}.CalculatePromotionsAndDemotions(&autopilot.Config{ServerStabilizationTime: time.Second}, state)
}

// TestAVoteIsLentForADeathOnly: what counts is how long a voter has been dead, not how long it has been known.
func TestAVoteIsLentForADeathOnly(t *testing.T) {
	t.Parallel()
	p := newPilotAt()
	require.Empty(t, p.look())
	require.NotContains(t, p.members, "removed")
	p.now = p.now.Add(time.Hour)
	require.Empty(t, p.look())
	p.healthy["n2"] = false
	require.Empty(t, p.look(), "it misses an answer")
	p.now = p.now.Add(time.Minute - 1)
	require.Empty(t, p.look())
	p.healthy["n2"] = true
	require.Empty(t, p.look(), "and is back")
	p.healthy["n2"] = false
	require.Empty(t, p.look())
	p.now = p.now.Add(time.Minute)
	require.Equal(t, autopilot.RaftChanges{Promotions: []raft.ServerID{"n4"}, Demotions: []raft.ServerID{"n2"}}, p.look())
	require.Equal(t, map[raft.ServerID]bool{"n1": true, "n2": true, "n3": true}, p.planned)
}

// A new leader knows nothing of how long a server has been as it finds it.
func TestANewLeaderCountsADeathFromItsFirstLook(t *testing.T) {
	t.Parallel()
	p := newPilotAt()
	p.healthy["n2"] = false
	require.Empty(t, p.look())
	p.now = p.now.Add(time.Minute - 1)
	require.Empty(t, p.look())
	p.now = p.now.Add(1)
	require.Equal(t, []raft.ServerID{"n2"}, p.look().Demotions)
}

// A non-voter that misses an answer now and then is never ready, and not waited for for ever.
func TestAnEvenNumberOfVotersIsBorneForAWhile(t *testing.T) {
	t.Parallel()
	p := newPilotAt()
	p.voters = []raft.ServerID{"n2"}
	delete(p.healthy, "n3")
	var changes autopilot.RaftChanges
	began := p.now
	for n := 0; len(changes.Demotions) == 0; n++ {
		require.Less(t, n, 100)
		p.now = p.now.Add(time.Second / 2)
		p.healthy["n4"] = n%2 == 0
		changes = p.look()
		require.Empty(t, changes.Promotions)
	}
	require.Equal(t, []raft.ServerID{"n2"}, changes.Demotions)
	require.Equal(t, evenPatience*time.Second+time.Second/2, p.now.Sub(began))

	p.voters = nil // which makes the number odd, and the next wait another
	require.Empty(t, p.look())
	p.voters = []raft.ServerID{"n2"}
	require.Empty(t, p.look())
}

func TestWhoNeverAnsweredHasNoLastContact(t *testing.T) {
	t.Parallel()
	p := newPilotAt()
	p.look()
	s := Server{ID: "n4", LastContact: -1}
	p.describe(&s)
	require.Equal(t, Server{ID: "n4", LastContact: -1}, s)
	p.members["n4"] = memberReport{memberStats: memberStats{lastContact: time.Second}, at: p.now, healthy: true}
	p.describe(&s)
	require.Equal(t, Server{ID: "n4", LastContact: time.Second, Healthy: true}, s)
}
