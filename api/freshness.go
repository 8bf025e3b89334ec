package api

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	// readWait is how long a request waits for this node to reach an index that the client has seen.
	readWait = 500 * time.Millisecond
	// maxAhead is how far ahead of this node such an index may be for waiting to make sense: far more than a
	// cluster writes in readWait, and than an honest client can have seen.
	maxAhead = 1_000_000
	// maxWaiters bounds the requests that wait at a time. Each holds a goroutine and its buffers.
	maxWaiters = 1024
	// maxStrangers is how many of them may be of callers that this node does not know, or not yet.
	maxStrangers = maxWaiters / 4
)

// look notes the lease, and then takes the time and the state that the request is answered from. The order is
// what makes the lease prove something of them.
func (a *API) look(c *call) {
	c.lease = a.Freshness.Lease()
	c.now = a.now()
	c.view = a.FSM.View()
}

// fresh holds the call to the lease that it noted. Without that lease neither yes nor no may be said, so it is
// asked as the last thing.
func (a *API) fresh(c *call) error { return a.Freshness.Fresh(c.lease) }

// vouch holds what run made of the request to the lease. A refusal that was decided from the state of a node
// that can't vouch for it is none: a client would take "unknown" or "forbidden" as final, where another node
// knows better. An answer of a node that can't vouch for it goes out with a mark; those that may not go out at
// all, the handlers keep back themselves.
func (a *API) vouch(c *call, refusal error) error {
	if !c.consulted || c.settled {
		return refusal
	}
	if c.tellsState(refusal) && len(c.ctx.Response.Header.PeekBytes(headerIndex)) == 0 {
		c.setIndex(c.view.Index())
	}
	if refusal == nil {
		if (c.route.Kind == KindRead || c.route.Kind == KindWrite) && a.fresh(c) != nil {
			c.ctx.Response.Header.Set(wire.HeaderFresh, "false")
		}
		return nil
	}
	if !restsOnState(asError(refusal).Code) {
		return refusal
	}
	if lapsed := a.fresh(c); lapsed != nil {
		return lapsed
	}
	return refusal
}

// tellsState reports whether the answer is one by which the client learns of the state: what was read, or why a write
// was not made. Whoever hands its index on to the next request never goes back behind it, be it yes or no.
func (c *call) tellsState(refusal error) bool {
	if c.caller.id() == "" {
		return false
	}
	if refusal == nil {
		return c.route.Kind == KindRead
	}
	return (c.route.Kind == KindRead || c.route.Kind == KindWrite) && restsOnState(asError(refusal).Code)
}

// restsOnState reports whether a refusal with the code may come out otherwise at a node that knows more. What
// is not named here does.
func restsOnState(code identity.Code) bool {
	switch code {
	case identity.CodeInvalid, identity.CodeValidation, identity.CodeTooLarge, identity.CodeHeadersTooLarge,
		identity.CodeMethodNotAllowed, identity.CodeUnsupportedMedia, // the request's own fault
		identity.CodeRateLimited, identity.CodeOverloaded, identity.CodeStaleIndex, identity.CodeNoLeader, identity.CodeNotLeader,
		identity.CodeProofInvalid, identity.CodeProofNonce,
		identity.CodeNotFresh, identity.CodeOutcomeUnknown, identity.CodeKeysUnavailable, identity.CodeAuditUnavailable, identity.CodeInternal: // to be tried again anyway
		return false
	}
	return true
}

// reach has the call's view be as new as the index that the client has seen, if it names one. Moved says that
// the view is another one than before. Only who showed a credential waits; everybody else hears at once.
func (a *API) reach(c *call) (moved bool, err error) {
	asked := c.ctx.Request.Header.PeekCanonical(headerIndex)
	if len(asked) == 0 {
		return false, nil
	}
	index, err := strconv.ParseUint(string(asked), 10, 64)
	if err != nil {
		return false, identity.Errorf(identity.CodeInvalid, "the header %s is %.40q; it must be a log index", wire.HeaderIndex, asked)
	}
	if c.view.Index() >= index {
		return false, nil
	}
	if at := a.FSM.Applied(); at < index {
		if !c.consulted || index-at > maxAhead {
			return false, a.stale(index)
		}
		if err := a.await(c, index); err != nil {
			return false, err
		}
	}
	a.look(c)
	return true, nil
}

// await waits until this node has applied index.
func (a *API) await(c *call, index uint64) error {
	most := int64(maxWaiters)
	if c.caller.id() == "" {
		most = maxStrangers
	}
	if !a.waiting.enter(most) {
		return identity.Errorf(identity.CodeOverloaded, "too many requests wait for this node to reach an index").
			WithHint("try again in a second, or ask another node")
	}
	defer a.waiting.leave()
	ctx, cancel := context.WithTimeout(context.Background(), a.readWait)
	defer cancel()
	if err := a.FSM.WaitApplied(ctx, index); err != nil {
		return a.stale(index)
	}
	return nil
}

func (a *API) stale(index uint64) error {
	return identity.Errorf(identity.CodeStaleIndex, "this node is at index %d and has not reached %d", a.FSM.Applied(), index).
		WithHint("try again, or ask another node")
}

// waiters counts the requests that wait, or that do something else of which only so many are let in.
type waiters struct{ n atomic.Int64 }

// enter takes a place if fewer than most are taken.
func (w *waiters) enter(most int64) bool {
	if w.n.Add(1) > most {
		w.n.Add(-1)
		return false
	}
	return true
}

func (w *waiters) leave() { w.n.Add(-1) }
