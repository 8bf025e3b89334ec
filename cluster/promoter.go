package cluster

import (
	"cmp"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// maxVoters: beyond five, every commit waits for more disks and nothing is gained that operators ask for.
const maxVoters = 5

// evenPatience is how many times the stabilization an even number of voters is borne for somebody who is not ready.
const evenPatience = 10

// promoter decides who votes. The stock promoter of raft-autopilot gives every stable server a vote; this one
// keeps an odd number, at most five. DESIGN.md has the reasoning.
type promoter struct{ *pilot }

var _ autopilot.Promoter = promoter{}

// CalculatePromotionsAndDemotions is called by autopilot, which applies an unhealthy voter's demotion first,
// then promotions, and other demotions only in a round without promotions.
func (p promoter) CalculatePromotionsAndDemotions(config *autopilot.Config, state *autopilot.State) autopilot.RaftChanges {
	servers, now := p.standings(state), p.node.o.Clock()
	even := p.planFor(servers, now)
	promote, demote := plan(servers, now, even, config.ServerStabilizationTime, p.node.tuning.ReplaceDeadAfter)
	return autopilot.RaftChanges{Promotions: promote, Demotions: demote}
}

func (p promoter) standings(state *autopilot.State) []standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	servers := make([]standing, 0, len(state.Servers))
	for id, s := range state.Servers {
		report := p.members[string(id)]
		servers = append(servers, standing{
			id: id, leader: id == state.Leader, voter: s.HasVotingRights(), healthy: report.healthy, since: report.since,
		})
	}
	return servers
}

// standing is what matters of a server.
type standing struct {
	id      raft.ServerID
	leader  bool
	voter   bool
	healthy bool      // in contact with the leader, and caught up
	since   time.Time // of the last change of healthy
}

// plan is the whole policy.
//
//   - Grow by pairs. Raft changes one server at a time, so one voter becomes three by way of two; with two,
//     losing either stops all writes. The way is only taken when everybody who is to get a vote has been healthy
//     and caught up for a while, and then in one round.
//   - An even number is a change that was cut short, or follows a removal. It is completed by a promotion, else
//     undone by a demotion: four voters bear no more failures than three, and two bear fewer than one. Undoing waits
//     for a non-voter that has been healthy, or been ill, for a moment only, since it may soon be ready; but not for
//     longer than evenPatience times the stabilization, as it may go on like that.
//   - A voter that has been dead for long lends its vote to a healthy non-voter, if there is one. It stays a
//     member and may get its vote back later. Without a stand-in it keeps the vote: it may yet return.
//   - Nobody is ever removed.
func plan(servers []standing, now time.Time, even, stabilization, replaceAfter time.Duration) (promote, demote []raft.ServerID) {
	var voters, ready []standing
	healthy, coming := 0, false
	for _, s := range servers {
		lasts := now.Sub(s.since) >= stabilization
		switch {
		case s.voter:
			voters = append(voters, s)
			if s.healthy {
				healthy++
			}
		case s.healthy && lasts:
			ready = append(ready, s)
		case s.healthy || !lasts:
			coming = true // one answer missed is no illness yet
		}
	}
	// The longest healthy first, and the same order on every leader.
	slices.SortFunc(ready, func(a, b standing) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.id, b.id)) })
	slices.SortFunc(voters, dispensable)
	count := len(voters)

	if count%2 == 0 {
		switch {
		case count == 0 || voters[0].leader:
			return nil, nil // not a state that a leader sees
		case count < maxVoters && len(ready) > 0:
			return ids(ready[:1]), nil
		case count < maxVoters && coming && even < evenPatience*stabilization:
			return nil, nil // it may soon be ready
		default:
			return nil, ids(voters[:1])
		}
	}
	worst := voters[0]
	if dead := !worst.healthy && !worst.leader && now.Sub(worst.since) >= replaceAfter; dead && len(ready) > 0 {
		// In between, the voters are one fewer and those alive must still be a majority.
		if healthy >= (count-1)/2+1 {
			return ids(ready[:1]), ids(voters[:1])
		}
	}
	want := min(maxVoters, count+len(ready))
	want -= 1 - want%2
	switch {
	case want > count:
		return ids(ready[:want-count]), nil
	case count > maxVoters:
		return nil, ids(voters[:count-maxVoters])
	}
	return nil, nil
}

// dispensable sorts the voter that is missed the least first: the longest dead, then the latest to have become
// healthy. The leader comes last.
func dispensable(a, b standing) int {
	rank := func(s standing) int {
		switch {
		case s.leader:
			return 2
		case s.healthy:
			return 1
		default:
			return 0
		}
	}
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	if !a.healthy {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.id, b.id))
	}
	return cmp.Or(b.since.Compare(a.since), cmp.Compare(a.id, b.id))
}

func ids(servers []standing) []raft.ServerID {
	list := make([]raft.ServerID, len(servers))
	for i, s := range servers {
		list[i] = s.id
	}
	return list
}

// The rest of autopilot.Promoter says that there are no kinds of servers and that nobody is ever removed.

func (promoter) GetServerExt(*autopilot.Config, *autopilot.ServerState) any { return nil }

func (promoter) GetStateExt(*autopilot.Config, *autopilot.State) any { return nil }

func (promoter) GetNodeTypes(*autopilot.Config, *autopilot.State) map[raft.ServerID]autopilot.NodeType {
	return nil
}

func (promoter) FilterFailedServerRemovals(*autopilot.Config, *autopilot.State, *autopilot.FailedServers) *autopilot.FailedServers {
	return &autopilot.FailedServers{}
}

func (promoter) IsPotentialVoter(autopilot.NodeType) bool { return true }
