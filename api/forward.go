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
	// writeDeadline bounds one attempt.
	writeDeadline = 5 * time.Second
	// catchUpWait is how long the node that was asked waits to have applied its client's write.
	catchUpWait = 500 * time.Millisecond
	// Pauses between attempts grow from the first to the longest.
	firstPause   = 20 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// write runs a replicated write: here where this node leads, else at the leader. While there is no leader it
// tries again, with the same command id, so that a write whose first outcome is unknown is made only once.
func (a *API) write(c *call, handler func(*API, *call) error) error {
	if err := checkWait(c.query("wait")); err != nil {
		return err
	}
	if err := a.plan(c); err != nil {
		return err
	}
	if c.origin != nil { // run has seen that this node leads
		return handler(a, c)
	}
	var encoded []byte // of the forwarded request; made once
	deadline := time.Now().Add(electionWait)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		var err error
		if a.proposer.IsLeader() {
			err = a.writeHere(c, handler)
		} else {
			if encoded == nil {
				encoded = c.envelope().encode()
			}
			err = a.forward(c, encoded)
		}
		if !c.route.worthRepeating(err) || !time.Now().Add(pause).Before(deadline) {
			return err
		}
		time.Sleep(pause)
	}
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
		if err := requireRole(c.caller.token, c.route.Roles); err != nil {
			return err
		}
	}
	return handler(a, c)
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

// checkWait answers a wish that this node can't keep honestly, rather than acknowledging less.
func checkWait(wait string) error {
	switch wait {
	case "", wire.WaitCommitted:
		return nil
	case wire.WaitFenced:
		return identity.Errorf(identity.CodeInvalid, "wait=fenced can't be had from this cluster: it acknowledges writes as committed").
			WithHint("use wait=committed")
	}
	return identity.Errorf(identity.CodeInvalid, "wait is %.40q; it must be %s", wait, wire.WaitCommitted)
}

// envelope packs the client's request for the leader.
func (c *call) envelope() *envelope {
	e := &envelope{
		method: string(c.ctx.Method()), uri: string(c.ctx.Request.Header.RequestURI()), source: c.source,
		command: c.command.internal, seed: c.seed.seed, body: c.ctx.PostBody(),
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
func (a *API) forward(c *call, encoded []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeDeadline)
	defer cancel()
	a.metrics.forwarded[forwardSent].Inc()
	answered, err := a.proposer.Forward(ctx, encoded)
	if err != nil {
		return err
	}
	reply, err := decodeReply(answered)
	if err != nil {
		return fmt.Errorf("reading the leader's answer: %w", err)
	}
	if reply.code == identity.CodeNoLeader || reply.code == identity.CodeOutcomeUnknown {
		return identity.Errorf(reply.code, "leadership changed while the write was under way").
			WithHint("read the object, or repeat the request with the same Idempotency-Key")
	}
	c.settled = true
	c.ctx.Response.SetStatusCode(reply.status)
	for _, h := range reply.headers {
		c.ctx.Response.Header.Set(h.name, h.value)
	}
	c.ctx.Response.SetBodyRaw(reply.body)
	if reply.code != "" {
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
	for _, name := range answeredHeaders {
		if value := response.Header.Peek(name); len(value) > 0 {
			p.headers = append(p.headers, header{name, string(value)})
		}
	}
	return p.encode(), nil
}

// failureKey is where the code of a failed forwarded request is left for ServeForwarded.
const failureKey = "deputy-failure"

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
