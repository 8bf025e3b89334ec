package sim

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
)

// removeBy mirrors server.clusterAdmin.RemoveMember at one leader: no more leases, silence, out of the
// configuration, out of the table. It may be repeated, at any leader, and reports whether the member is out.
func (l *lab) removeBy(n *node, id string) bool {
	switch {
	case n == nil:
		return false
	case n.id == id:
		_ = n.raft.LeadershipTransfer().Error() // server.stepAside: the next leader is asked again
		return false
	}
	ctx, cancel := context.WithTimeout(n.port.ctx, clientWait)
	defer cancel()
	barred, err := n.commit(ctx, fsm.BarMember{ID: id, Reason: "a drill"})
	if err != nil {
		return false
	}
	report, err := n.silence(ctx, id, barred.Index)
	if err != nil || !report.Done || !n.alive() {
		return false
	}
	l.ledger.silence(n.id, id, &report)
	if n.raft.RemoveServer(raft.ServerID(id), 0, time.Second).Error() != nil {
		return false
	}
	if _, err := n.commit(ctx, fsm.RemoveMember{ID: id, Reason: "a drill"}); err != nil {
		return false
	}
	l.history.add("%s removed %s", n.id, id)
	return true
}

// silence mirrors server.Server.silence.
func (n *node) silence(ctx context.Context, id string, index uint64) (cluster.FenceReport, error) {
	bound := n.fsm.View().LeaseBound()
	ctx, cancel := context.WithTimeout(ctx, bound+cluster.LeaseDrift(bound)+5*time.Second)
	defer cancel()
	return n.raise(ctx, fenceRequest{index: index}, id)
}
