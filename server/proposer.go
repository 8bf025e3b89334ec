package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// Methods of the cluster port.
const (
	methodForward    = "forward"     // a client's write, with the client's own credential
	methodJoin       = "join"        // a joiner's request, passed on to the leader
	methodTick       = "tick"        // a lease round
	methodPublishKey = "publish-key" // a node's token key, before its first use
	methodRetireKey  = "retire-key"  // a node's token key, after its last use
	methodReadmit    = "readmit"     // a node's changed addresses
	methodDeny       = "deny"        // handles that are revoked, and perhaps not yet committed
	methodSettle     = "settle"      // a revocation that a node has kept while there was no majority
	methodFence      = "fence"       // a committed change that nobody may act against any more
	methodStatus     = "status"      // how a node is
	methodClock      = "clock"       // what a node's clock says
	methodGossipKeys = "gossip-keys" // whether a node uses the gossip keys as of an index
	methodMayLead    = "may-lead"    // whether a voter would take leadership
	methodSessions   = "sessions"    // what a node remembers of the sessions that it has started
	methodPolicyHits = "policy-hits" // what policies have denied at a node
	methodAudit      = "audit"       // what a node has recorded

	methodAuditCheckpoint = "audit-checkpoint" // a node's signature over its audit log
)

// proposer speaks the domain to the cluster, which only knows bytes and indexes.
type proposer struct {
	node  *cluster.Node
	clock *cluster.ClockGuard
	leads func(term uint64)    // told once the first commit of a term in which this node leads has been seen
	admit func(fsm.Body) error // refuses what the disk has no room for

	settled  atomic.Uint64 // the term in which this node leads and has applied all that came before
	settling atomic.Bool
}

// Propose commits a command through this node, which must be the leader. Its time is stamped here.
func (p *proposer) Propose(ctx context.Context, c fsm.Command) (_ fsm.Result, err error) {
	if err := p.admit(c.Body); err != nil {
		return fsm.Result{}, err
	}
	stamp, err := p.clock.Stamp(ctx)
	if err != nil {
		return fsm.Result{}, clockError(err)
	}
	c.Time = identity.InstantOf(stamp)
	encoded, err := fsm.Encode(c)
	if err != nil {
		return fsm.Result{}, err
	}
	terms := termsOf(c.Body)
	applied, err := p.node.ProposeOn(ctx, terms, encoded)
	if err != nil {
		return fsm.Result{}, proposalError(err, terms, p.node.IsLeader())
	}
	result, ok := applied.Response.(fsm.Result)
	if !ok {
		return fsm.Result{}, fmt.Errorf("BUG: the state machine answered %T", applied.Response)
	}
	return result, nil
}

// termsOf is in what company a command may travel. What is not known here to bear any has an entry of its own.
func termsOf(b fsm.Body) cluster.Terms {
	object, shares := fsm.Shares(b)
	return cluster.Terms{Urgent: fsm.Urgent(b), Alone: !shares, Object: object}
}

// IsLeader reports whether this node leads and has applied everything that was committed in earlier terms. Until
// then its view may lack acknowledged writes, such as the deletion of the very token that a request comes with.
func (p *proposer) IsLeader() bool {
	term, leads := p.node.LeadsIn()
	if !leads {
		return false
	}
	if p.settled.Load() == term {
		return true
	}
	if p.settling.CompareAndSwap(false, true) {
		go p.settle(term)
	}
	return false
}

// settleWait bounds a barrier; the next request tries again.
const settleWait = 5 * time.Second

func (p *proposer) settle(term uint64) {
	defer p.settling.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), settleWait)
	defer cancel()
	if p.node.Barrier(ctx) != nil {
		return
	}
	if now, leads := p.node.LeadsIn(); leads && now == term {
		p.leads(term)
		p.settled.Store(term)
	}
}

// Forward has the leader serve a client's request.
func (p *proposer) Forward(ctx context.Context, request []byte) ([]byte, error) {
	ctx, release := p.whileLed(ctx)
	defer release()
	answer, err := p.node.CallLeader(ctx, methodForward, request)
	if err != nil {
		return nil, clusterError(err)
	}
	return answer, nil
}

// deposedEvery is how often a request that is under way looks whether the leader it went to still is one.
const deposedEvery = 250 * time.Millisecond

// whileLed returns a context that ends when this node follows another leader than now. A leader that hangs holds
// its connections open, and would hold up whoever waits for its answer for as long as they are ready to wait.
func (p *proposer) whileLed(ctx context.Context) (_ context.Context, release func()) {
	asked, known := p.node.Leader()
	if !known {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var look *time.Timer
	armed := make(chan struct{})
	look = time.AfterFunc(deposedEvery, func() {
		<-armed
		if now, known := p.node.Leader(); known && now.ID != asked.ID {
			cancel()
			return
		}
		if ctx.Err() == nil {
			look.Reset(deposedEvery)
		}
	})
	close(armed)
	return ctx, func() {
		cancel()
		look.Stop()
	}
}

// commit proposes a command of this node's own and folds a refusal into the error.
func (p *proposer) commit(ctx context.Context, by string, body fsm.Body) (fsm.Result, error) {
	var id fsm.CommandID
	if _, err := rand.Read(id[:]); err != nil {
		return fsm.Result{}, fmt.Errorf("making a command id: %w", err)
	}
	result, err := p.Propose(ctx, fsm.Command{ID: id, By: by, Body: body})
	if err != nil {
		return result, err
	}
	if result.Err != nil {
		return result, result.Err
	}
	return result, nil
}

// proposalError is clusterError for a command that was to be proposed at this node, which leads or does not.
//
// Whose time ran out while the command waited for its turn, at a node that still leads, waited for no leader but for the
// commands before it. Not so what stops something, which is kept where no leader is to be had, and what stands alone, such
// as the admission of a node, which goes on asking until there is one: neither is refused for a crowd that may be gone.
func proposalError(err error, terms cluster.Terms, leads bool) error {
	if errors.Is(err, cluster.ErrTimeout) && leads && !terms.Urgent && !terms.Alone {
		return overloaded(err)
	}
	return clusterError(err)
}

func overloaded(err error) error {
	return identity.Errorf(identity.CodeOverloaded, "too many writes are under way").WithHint("try again in a second").WithCause(err)
}

// clusterError translates what the cluster reports into the one error vocabulary.
func clusterError(err error) error {
	switch {
	case errors.Is(err, cluster.ErrNotLeader), errors.Is(err, cluster.ErrNoLeader),
		errors.Is(err, cluster.ErrUnreachable), errors.Is(err, cluster.ErrTimeout), errors.Is(err, cluster.ErrStopped):
		return identity.Errorf(identity.CodeNoLeader, "no leader could be reached; an election may be under way").
			WithHint("try again in a second").WithCause(err)
	case errors.Is(err, cluster.ErrOutcomeUnknown), errors.Is(err, context.DeadlineExceeded):
		return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost or time ran out while the write was under way; it may or may not have been made").
			WithHint("read the object, or repeat the request with the same Idempotency-Key").WithCause(err)
	case errors.Is(err, cluster.ErrOverloaded):
		return overloaded(err)
	}
	return err
}
