package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	// electionWait is how long a write waits for a leader, and for one whose outcome is unknown to be repeated.
	// An election takes a few hundred milliseconds; a client that waits longer is better told.
	electionWait = 2 * time.Second
	// writeDeadline bounds one attempt, the wait for a fence aside.
	writeDeadline = 5 * time.Second
	// fenceGrace is what the leader's answer may take on its way, once the time for the fence is up.
	fenceGrace = time.Second
	// catchUpWait is how long the node that was asked waits to have applied its client's write.
	catchUpWait = 500 * time.Millisecond
	// Pauses between attempts grow from the first to the longest.
	firstPause   = 20 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// write runs a replicated write that ends nothing: here where this node leads, else at the leader.
func (a *API) write(c *call, handler func(*API, *call) error) error {
	return a.writeStop(c, &stop{}, handler)
}

// attempts has a write made. While there is no leader it tries again, with the same command id, so that a write
// whose first outcome is unknown is made only once. One that is committed, but whose leader was lost before the
// fence was through, goes to the next leader to be fenced there; until the client's time is up.
func (a *API) attempts(c *call, handler func(*API, *call) error) error {
	var committed *fasthttp.Response // to fall back on
	begun := false
	deadline := time.Now().Add(electionWait)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := a.attempt(c, handler)
		begun = begun || c.begins(err)
		if begun && committed == nil {
			err = c.doubt(err)
		}
		switch {
		case err == nil && c.command.outcome.lapsed:
			committed = new(fasthttp.Response)
			c.ctx.Response.CopyTo(committed)
			deadline = c.command.wish.until
		case err == nil && (committed == nil || c.ctx.Response.StatusCode() < 300):
			return nil
		case err == nil, !c.route.worthRepeating(err): // refused now, such as what the first attempt has deleted
			return c.fallBack(committed, err)
		}
		if !time.Now().Add(pause).Before(deadline) {
			return c.fallBack(committed, err)
		}
		time.Sleep(pause)
	}
}

// fallBack answers with what was committed, if anything was.
func (c *call) fallBack(committed *fasthttp.Response, err error) error {
	if committed != nil {
		committed.CopyTo(&c.ctx.Response)
		return nil
	}
	return err
}

func (a *API) attempt(c *call, handler func(*API, *call) error) error {
	c.command.outcome, c.command.decided = outcome{}, false
	if a.proposer.IsLeader() {
		return a.writeHere(c, handler)
	}
	return a.forward(c)
}

// begins reports whether an attempt that ended so may have done something, or may do it yet.
func (c *call) begins(err error) bool {
	code := identity.CodeOf(err)
	return code == identity.CodeOutcomeUnknown || code == identity.CodeNoLeader && c.command.decided
}

// doubt keeps an answer from saying that nothing was done, where an earlier attempt may have done it: the next
// leader's "not found" may be the first one's deletion. Only the log knows, which remembers the command.
func (c *call) doubt(err error) error {
	code := identity.CodeOf(err)
	if c.command.decided && code != identity.CodeNoLeader || err == nil && c.ctx.Response.StatusCode() < 300 {
		return err
	}
	return identity.Errorf(identity.CodeOutcomeUnknown, "leadership changed while the write was under way; it may or may not have been made").
		WithHint("read the object, or repeat the request with the same Idempotency-Key")
}

// writeHere runs the write at this node, which leads.
func (a *API) writeHere(c *call, handler func(*API, *call) error) error {
	c.seed.rewind()
	c.command.step = 0
	if a.FSM.View() != c.view {
		// The caller was looked up before it was sure that this node leads, and so has applied whatever was
		// acknowledged: perhaps the deletion of the very credential.
		a.look(c)
		if err := c.identifyAgain(); err != nil {
			return err
		}
		if err := c.mayCall(); err != nil {
			return err
		}
	}
	return a.lead(c, handler)
}

func errNoLeader() error {
	return identity.Errorf(identity.CodeNoLeader, "no leader could be reached; an election may be under way").
		WithHint("try again in a second")
}

// worthRepeating reports whether the same write may succeed at the next leader. What is no command of the log
// has no id that a repetition is known by.
func (r *Route) worthRepeating(err error) bool {
	code := identity.CodeOf(err)
	return code == identity.CodeNoLeader || code == identity.CodeOutcomeUnknown && !r.Once
}

// envelope packs the client's request for the leader.
func (c *call) envelope() *envelope {
	e := &envelope{
		method: string(c.ctx.Method()), uri: string(c.ctx.Request.Header.RequestURI()), source: c.source,
		command: c.command.internal, seed: c.seed.seed, patience: c.command.wish.patience(), body: c.ctx.PostBody(),
	}
	for _, name := range forwardedHeaders {
		value := string(c.ctx.Request.Header.Peek(name))
		switch name {
		case wire.HeaderRequestID:
			value = string(c.id)
		case fasthttp.HeaderAuthorization:
			if scheme, _ := authorization(c.ctx); scheme == nil {
				value = ""
			}
		}
		if value != "" {
			e.headers = append(e.headers, header{name, value})
		}
	}
	return e
}

// forward has the leader answer, and waits until this node has applied what it did: the client reads its
// own write here.
func (a *API) forward(c *call) error {
	e := c.envelope()
	deadline := writeDeadline
	if c.route.Slow {
		deadline = membershipDeadline + fenceGrace
	}
	ctx, cancel := context.WithTimeout(context.Background(), max(deadline, e.patience+fenceGrace))
	defer cancel()
	a.metrics.forwarded[forwardSent].Inc()
	answered, err := a.proposer.Forward(ctx, e.encode())
	if err != nil {
		return err
	}
	reply, err := decodeReply(answered)
	if err != nil {
		return fmt.Errorf("reading the leader's answer: %w", err)
	}
	made := reply.status < 300
	c.command.decided = reply.decided
	switch {
	case made && reply.code == identity.CodeNoLeader:
		c.command.outcome.lapsed = true
	case reply.code == identity.CodeNoLeader || reply.code == identity.CodeOutcomeUnknown:
		return identity.Errorf(reply.code, "leadership changed while the write was under way").
			WithHint("read the object, or repeat the request with the same Idempotency-Key")
	}
	c.settled, c.account.code = true, reply.code
	c.ctx.Response.SetStatusCode(reply.status)
	for _, h := range reply.headers {
		c.ctx.Response.Header.Set(h.name, h.value)
	}
	c.ctx.Response.SetBodyRaw(reply.body)
	if reply.code != "" && !made {
		a.metrics.refused(reply.code)
	}
	if index, err := strconv.ParseUint(string(c.ctx.Response.Header.Peek(wire.HeaderIndex)), 10, 64); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), catchUpWait)
		defer cancel()
		// The write is made in any case. A client that needs it here says so with X-Deputy-Index.
		_ = a.FSM.WaitApplied(ctx, index)
	}
	return nil
}

// ServeForwarded answers, at the leader, a write that another node forwarded. The client is authenticated
// from its own credential as if it had asked here. A request that this node can't serve because it no longer
// leads is answered so; it is never forwarded again.
func (a *API) ServeForwarded(ctx context.Context, request []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := decodeEnvelope(request)
	if err != nil {
		return nil, err
	}
	if e.method == fasthttp.MethodGet || e.method == fasthttp.MethodHead {
		return nil, errors.New("only writes are forwarded")
	}
	a.metrics.forwarded[forwardServed].Inc()
	inner := e.request()
	inner.SetUserValue(forwardedKey, e)
	a.router.Handler(inner)
	response := &inner.Response
	p := reply{status: response.StatusCode(), body: response.Body()}
	if code, ok := inner.UserValue(failureKey).(identity.Code); ok {
		p.code = code
	}
	p.decided, _ = inner.UserValue(decidedKey).(bool)
	for _, name := range answeredHeaders {
		if value := response.Header.Peek(name); len(value) > 0 {
			p.headers = append(p.headers, header{name, string(value)})
		}
	}
	return p.encode(), nil
}

// What a forwarded request leaves for ServeForwarded: the code of its failure, and whether the log has spoken.
const (
	failureKey = "deputy-failure"
	decidedKey = "deputy-decided"
)

// request makes a request of what an envelope holds.
func (e *envelope) request() *fasthttp.RequestCtx {
	var r fasthttp.Request
	r.Header.SetMethod(e.method)
	r.SetRequestURI(e.uri)
	r.Header.SetHost("leader")
	for _, h := range e.headers {
		r.Header.Set(h.name, h.value)
	}
	r.SetBodyRaw(e.body)
	var ctx fasthttp.RequestCtx
	ctx.Init(&r, net.TCPAddrFromAddrPort(addrPort(e.source)), nil)
	return &ctx
}
