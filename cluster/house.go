package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// Refresh has connections and peers.json held against the table now rather than at the next poll.
func (n *Node) Refresh() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// keepHouse follows the table of members: stores it, closes the connections of those who are gone, looks for
// those who are new.
func (n *Node) keepHouse(ctx context.Context) {
	ticker := time.NewTicker(n.tuning.MemberPoll)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-n.kick:
		}
		changed, err := n.roster.refresh()
		if err != nil && !failing {
			n.logger.Error("storing the members; this node may not find them after a restart", "error", err)
		}
		failing = err != nil
		if changed {
			n.logger.Info("members changed", "members", len(n.roster.members()))
			n.gossip.nudge()
		}
		if closed := n.port.conns.sweep(); closed > 0 {
			n.logger.Info("closed connections of members that were removed or have moved", "connections", closed)
		}
		n.client.tidy(time.Now())
	}
}

// findPeers helps a node that hears no leader. While it was away members may have been replaced by others that
// it doesn't know and therefore doesn't let in; the ones it does know tell it. They are pinned members, so
// their word is good: the fault model is crash and partition.
func (n *Node) findPeers(ctx context.Context) {
	const (
		every = time.Second
		most  = 5 // members asked in one round
	)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	lonely := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, ok := n.Leader(); ok || n.raft.Load().State() == raft.Leader {
			lonely = 0
			continue
		}
		if lonely++; lonely < 3 { // elections come and go
			continue
		}
		changed, err := n.roster.catchUp(ctx, n.o.NodeID, most, n.askPeers)
		if changed {
			n.logger.Info("learned of members from another member", "members", len(n.roster.members()))
			n.Refresh()
		}
		if err != nil && ctx.Err() == nil {
			n.logger.Debug("asking for the members", "error", err)
		}
	}
}

func (n *Node) askPeers(ctx context.Context, member string) (Peers, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := n.client.call(ctx, member, methodPeers, nil)
	if err != nil {
		return Peers{}, err
	}
	return decodePeers(answer)
}
