package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// MaxCommand bounds one command in the log.
const MaxCommand = 2 << 20

// Applied is what became of a command.
type Applied struct {
	Index    uint64
	Response any // what the state machine returned
}

// Propose appends a command to the log and returns once this node's state machine has applied it. Only the
// leader can. Without a deadline in ctx it takes at most Tuning.ProposeTimeout. Commands that are proposed at the same time
// may share an entry of the log, and then have one index.
//
// ErrNotLeader, ErrOverloaded, ErrTimeout, ErrTooLarge and ErrStopped mean that nothing was proposed.
// ErrOutcomeUnknown means that the command may still be applied: repeat it only under an id that the state
// machine recognises.
func (n *Node) Propose(ctx context.Context, command []byte) (Applied, error) {
	return n.ProposeOn(ctx, Terms{}, command)
}

// ProposeOn is Propose on terms.
func (n *Node) ProposeOn(ctx context.Context, terms Terms, command []byte) (Applied, error) {
	began := n.o.Clock()
	applied, err := n.propose(ctx, terms, command)
	n.metrics.proposed(err, n.o.Clock().Sub(began).Seconds())
	return applied, err
}

func (n *Node) propose(ctx context.Context, terms Terms, command []byte) (Applied, error) {
	r, err := n.active()
	if err != nil {
		return Applied{}, err
	}
	if len(command) > MaxCommand {
		return Applied{}, fmt.Errorf("%w: a command of %d bytes; at most %d are allowed", ErrTooLarge, len(command), MaxCommand)
	}
	if r.State() != raft.Leader {
		return Applied{}, ErrNotLeader
	}
	ctx, cancel := withDefaultTimeout(ctx, n.tuning.ProposeTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return Applied{}, fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	if !terms.Urgent && len(n.proposals) >= MaxProposals-urgentProposals {
		return Applied{}, fmt.Errorf("%w: %d commands wait to be applied", ErrOverloaded, MaxProposals-urgentProposals)
	}
	select {
	case n.proposals <- struct{}{}:
	default:
		return Applied{}, fmt.Errorf("%w: %d commands wait to be applied", ErrOverloaded, MaxProposals)
	}
	// From here on the lane gives the place back: once the command has left, a place is held until it is applied or
	// leadership ends, also when the caller has long gone.
	lane := &n.ordinary
	if terms.Urgent {
		lane = &n.urgent
	}
	p := &proposal{command: command, terms: terms, done: make(chan proposed, 1)}
	lane.add(p)
	select {
	case o := <-p.done:
		return o.Applied, o.err
	case <-ctx.Done():
	}
	if lane.withdraw(p) {
		<-n.proposals
		return Applied{}, fmt.Errorf("%w: waiting for earlier commands to be applied: %w", ErrTimeout, ctx.Err())
	}
	return Applied{}, fmt.Errorf("%w: waiting for the command to be applied: %w", ErrOutcomeUnknown, ctx.Err())
}

// proposeError says of raft's errors whether anything was proposed.
func proposeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", ErrOverloaded, err)
	default:
		// Leadership lost, shut down or restored in between: the entry may be in the log, and on other nodes.
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

func withDefaultTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// wait waits for a future that can't be cancelled. What raft has in a queue when it ends it never answers: ctx ends that.
func wait(ctx context.Context, future raft.Future) error {
	if given, err := answered(future, ctx.Done()); given {
		return err
	}
	return ctx.Err()
}

// answered waits for a future's answer, or until no one waits for it any more. An answer that is there by then counts.
func answered(future raft.Future, until <-chan struct{}) (given bool, err error) {
	answer := make(chan error, 1)
	go func() { answer <- future.Error() }()
	select {
	case err := <-answer:
		return true, err
	case <-until:
	}
	select {
	case err := <-answer:
		return true, err
	default:
		return false, nil
	}
}

// IsLeader reports whether this node believes to lead. Another node may lead already: see VerifyLeader.
func (n *Node) IsLeader() bool {
	r := n.raft.Load()
	return r != nil && r.State() == raft.Leader
}

// LeadsIn returns the term in which this node believes to lead.
func (n *Node) LeadsIn() (term uint64, ok bool) {
	r := n.raft.Load()
	if r == nil {
		return 0, false
	}
	term = r.CurrentTerm()
	return term, r.State() == raft.Leader && r.CurrentTerm() == term
}

// Members are the members as this node knows them: by the replicated table, or until that was replayed by the
// peers that it remembers.
func (n *Node) Members() []Member { return n.roster.members() }

// Leader returns the leader that this node follows, as far as it knows.
func (n *Node) Leader() (Member, bool) {
	id, ok := n.leaderID()
	if !ok {
		return Member{}, false
	}
	if m, ok := n.roster.member(id); ok {
		return m, true
	}
	if id == n.o.NodeID { // bootstrapped, and not yet in its own table
		return n.self, true
	}
	return Member{}, false
}

func (n *Node) leaderID() (string, bool) {
	r := n.raft.Load()
	if r == nil {
		return "", false
	}
	_, id := r.LeaderWithID()
	return string(id), id != ""
}

// Barrier returns once this node, the leader, has applied everything that was committed before the call.
func (n *Node) Barrier(ctx context.Context) error {
	r, err := n.active()
	if err != nil {
		return err
	}
	ctx, cancel := withDefaultTimeout(ctx, n.tuning.ProposeTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	return leaderError(wait(ctx, r.Barrier(max(time.Until(deadline), time.Nanosecond))))
}

// VerifyLeader returns nil if a quorum held this node for the leader after the call began. It is no proof that
// this node's state machine has caught up.
func (n *Node) VerifyLeader(ctx context.Context) error {
	r, err := n.active()
	if err != nil {
		return err
	}
	return leaderError(wait(ctx, r.VerifyLeader()))
}

// leaderError translates errors of requests that leave nothing behind.
func leaderError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrStopped
	default:
		return err
	}
}

// Call has a member run a method. Errors: ErrUnknownMember, ErrUnreachable, ErrOverloaded, ErrTooLarge and
// ErrStopped mean that nothing was asked; ErrOutcomeUnknown that no answer came; *RemoteError is the answer of
// the other node's handler. Without a deadline in ctx it takes at most MaxRPCTime. A call to this node itself
// runs here.
func (n *Node) Call(ctx context.Context, member, method string, body []byte) ([]byte, error) {
	if _, err := n.active(); err != nil {
		return nil, err
	}
	if member != n.o.NodeID {
		return n.client.call(ctx, member, method, body)
	}
	self := n.self
	if m, ok := n.roster.member(n.o.NodeID); ok {
		self = m
	}
	return n.server.dispatch(ctx, self, method, body)
}

// CallLeader has the leader run a method: one hop, and none where this node leads. Besides what Call reports
// it fails with ErrNoLeader. It doesn't try again when leadership moves on meanwhile: only the caller knows
// whether the request may be repeated.
func (n *Node) CallLeader(ctx context.Context, method string, body []byte) ([]byte, error) {
	if _, err := n.active(); err != nil {
		return nil, err
	}
	id, ok := n.leaderID()
	if !ok {
		if id, ok = n.askLeader(ctx); !ok {
			return nil, ErrNoLeader
		}
	}
	return n.Call(ctx, id, method, body)
}

// askLeader asks the others who leads. A node whose address has changed is in this place: the leader can't
// reach it to say so, and it must be told the new address.
func (n *Node) askLeader(ctx context.Context) (string, bool) {
	const most = 5
	for _, m := range n.roster.someOthers(n.o.NodeID, most) {
		if ctx.Err() != nil {
			break
		}
		one, cancel := context.WithTimeout(ctx, time.Second)
		answer, err := n.client.call(one, m.ID, methodLeader, nil)
		cancel()
		if err == nil && len(answer) > 0 {
			return string(answer), true
		}
	}
	return "", false
}
