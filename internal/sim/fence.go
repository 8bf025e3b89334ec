package sim

import (
	"context"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// newFences mirrors server.Server.newFences.
func (n *node) newFences() *cluster.Fences {
	return cluster.NewFences(cluster.FenceOptions{
		Self: n.id,
		Members: func() []string {
			var ids []string
			for _, m := range n.fsm.View().Members() {
				ids = append(ids, m.ID)
			}
			return ids
		},
		Send: func(ctx context.Context, member string, _ uint64, payload []byte) error {
			request, err := n.lab.payload(payload)
			if err != nil {
				return err
			}
			_, err = n.port.call(ctx, member, request)
			return err
		},
		Latest: func(member string) (time.Duration, bool) {
			term, leads := n.leadsIn()
			if !leads {
				return 0, false
			}
			return n.grants.LatestIn(term, member)
		},
		Bound: func() time.Duration { return n.fsm.View().LeaseBound() },
		Now:   n.clock.boot,
	})
}

// raise mirrors server.Server.raise.
func (n *node) raise(ctx context.Context, f fenceRequest, members ...string) (cluster.FenceReport, error) {
	if err := n.fsm.WaitApplied(ctx, f.index); err != nil {
		return cluster.FenceReport{}, err
	}
	if !n.leads() {
		return cluster.FenceReport{}, errNotLeading
	}
	payload := n.lab.post(f)
	if len(members) > 0 {
		return n.fences.RaiseFor(ctx, members, f.index, payload)
	}
	return n.fences.Raise(ctx, f.index, payload)
}

// serveFence mirrors server.Server.serveFence and yieldIfBarred.
func (n *node) serveFence(ctx context.Context, f fenceRequest) error {
	for _, e := range f.entries {
		n.revoked.Add(e)
	}
	if err := n.fsm.WaitApplied(ctx, f.index); err != nil {
		return err
	}
	if m, ok := n.fsm.View().Member(n.id); ok && !m.Barred.IsZero() {
		n.lease.Surrender()
	}
	return nil
}

// serveWrite mirrors the leader's half of an admin route: commit, then the fence of clusterAdmin.Fence.
func (n *node) serveWrite(ctx context.Context, w writeRequest) (any, error) {
	if !n.leads() {
		return nil, errNotLeading
	}
	result, err := n.propose(ctx, w.command)
	if err != nil {
		return nil, err
	}
	answer := writeAnswer{result: result}
	if result.Err != nil || !w.fence || !n.alive() {
		return answer, nil
	}
	handles := handlesOf(result.Value)
	f := fenceRequest{index: result.Index, entries: n.fsm.View().EntriesOf(handles)}
	if len(f.entries) < len(handles) {
		n.lab.ledger.broken("%s: %d of %d handles of index %d are in the set's entries after their commit", n.id, len(f.entries), len(handles), result.Index)
	}
	ctx, cancel := context.WithTimeout(ctx, fenceWait)
	defer cancel()
	report, err := n.raise(ctx, f)
	if err != nil || !report.Done || !n.alive() {
		return answer, nil
	}
	// From here on the promise holds, whether or not the client hears of it.
	n.lab.ledger.fenced(n.id, result.Index, handles, &report)
	answer.fenced = true
	return answer, nil
}

// fenceWait is how long a client waits for a fence.
const fenceWait = 6 * time.Second

func handlesOf(value any) []identity.Handle {
	switch v := value.(type) {
	case *fsm.AgentChange:
		return v.Handles
	case *fsm.PrincipalChange:
		return v.Handles
	case *fsm.DelegationChange:
		return v.Handles
	case *fsm.Revoked:
		return v.Handles
	}
	return nil
}
