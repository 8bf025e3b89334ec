package sim

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// leadsIn mirrors cluster.Node.LeadsIn.
func (n *node) leadsIn() (term uint64, ok bool) {
	term = n.raft.CurrentTerm()
	return term, n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term
}

// leads mirrors server.proposer.IsLeader and settle.
func (n *node) leads() bool {
	term, leads := n.leadsIn()
	if !leads {
		return false
	}
	if n.settled.Load() == term {
		return true
	}
	if n.settling.CompareAndSwap(false, true) {
		go func() {
			defer n.settling.Store(false)
			if !n.barrier() {
				return
			}
			if now, leads := n.leadsIn(); leads && now == term {
				n.grants.Lead(term)
				n.settled.Store(term)
				n.lab.ledger.ledBy(n.id, term)
			}
		}()
	}
	return false
}

// barrier reports whether all that was committed before has been applied.
func (n *node) barrier() bool {
	n.proposing.RLock()
	if !n.alive() {
		n.proposing.RUnlock()
		return false
	}
	n.proposals.Add(1)
	future := n.raft.Barrier(5 * time.Second)
	n.proposing.RUnlock()
	defer n.proposals.Done()
	return future.Error() == nil
}

// callLeader mirrors cluster.Node.CallLeader.
func (n *node) callLeader(ctx context.Context, request any) (any, error) {
	_, leader := n.raft.LeaderWithID()
	if leader == "" {
		return nil, errNotLeading
	}
	return n.port.call(ctx, string(leader), request)
}

// propose mirrors server.proposer.Propose and cluster.Node.propose. The command's time is stamped here.
func (n *node) propose(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	if n.raft.State() != raft.Leader {
		return fsm.Result{}, errNotLeading
	}
	if c.Time.IsZero() {
		stamp, err := n.guard.Stamp(ctx)
		if err != nil {
			return fsm.Result{}, err
		}
		c.Time = identity.InstantOf(stamp)
	}
	encoded, err := fsm.Encode(c)
	if err != nil {
		return fsm.Result{}, err
	}
	future, ok := n.hand(encoded)
	if !ok {
		return fsm.Result{}, errClosed
	}
	done := make(chan error, 1)
	go func() {
		defer n.proposals.Done()
		done <- future.Error()
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return fsm.Result{}, errUnknown
	}
	switch {
	case err == nil:
		return future.Response().(fsm.Result), nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fsm.Result{}, errNotLeading
	}
	return fsm.Result{}, errUnknown
}

// hand gives a command to raft, unless the process has ended.
func (n *node) hand(command []byte) (raft.ApplyFuture, bool) {
	n.proposing.RLock()
	defer n.proposing.RUnlock()
	if !n.alive() {
		return nil, false
	}
	n.proposals.Add(1)
	return n.raft.Apply(command, time.Second), true
}

// commit mirrors server.proposer.commit.
func (n *node) commit(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	r, err := n.propose(ctx, fsm.Command{ID: n.lab.commandID(), By: n.id, Body: body})
	if err == nil && r.Err != nil {
		err = r.Err
	}
	return r, err
}

// tick is what the ticks of a leader propose. Between the commit and its being noticed the process may be
// scheduled away for a while.
func (n *node) tick(ctx context.Context) (uint64, error) {
	r, err := n.commit(ctx, fsm.Tick{})
	if n.lab.over.Err() == nil && n.lab.random.chance(n.lab.tuning.stalls) {
		time.Sleep(n.lab.random.between(50*time.Millisecond, 700*time.Millisecond))
	}
	return r.Index, err
}

// serveTick mirrors server.Server.serveTick.
func (n *node) serveTick(ctx context.Context, from string) (any, error) {
	term, leads := n.leadsIn()
	if !leads || !n.leads() {
		return nil, cluster.ErrNotLeader
	}
	if !n.isMember(from) {
		return nil, errors.New("not a member")
	}
	if err := n.grants.Asked(term, from); err != nil {
		return nil, err
	}
	return n.ticks.Commit(ctx)
}

func (n *node) isMember(id string) bool {
	m, ok := n.fsm.View().Member(id)
	return ok && m.Removed.IsZero()
}

// leaseOptions mirrors server.Server.leaseOptions.
func (n *node) leaseOptions() cluster.LeaseOptions {
	return cluster.LeaseOptions{
		Ask: func(ctx context.Context) (uint64, error) {
			answer, err := n.callLeader(ctx, tickRequest{})
			if err != nil {
				return 0, err
			}
			return answer.(uint64), nil
		},
		WaitApplied: n.fsm.WaitApplied,
		Applied:     n.fsm.Applied,
		Member: func() bool {
			view := n.fsm.View()
			m, ok := view.Member(n.id)
			return len(view.Members()) == 0 || (ok && m.Removed.IsZero() && m.Barred.IsZero())
		},
		CheckClock: n.guard.Agree,
		Duration: func() time.Duration {
			return time.Duration(n.fsm.View().Settings().LeaseMillis) * time.Millisecond
		},
		Now: n.clock.boot,
	}
}
