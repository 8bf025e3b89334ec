package api

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// maxBody bounds every request body.
const maxBody = wire.MaxBodyBytes

// forwardedKey marks a request that another node forwarded; clients can't set user values.
const forwardedKey = "deputy-forwarded"

// serve makes a route's handler: everything that is the same for all of them.
func (a *API) serve(route *Route) fasthttp.RequestHandler {
	counted := a.metrics.of(route)
	return func(ctx *fasthttp.RequestCtx) {
		started := time.Now()
		c := a.calls.get()
		c.api, c.ctx, c.route = a, ctx, route
		c.origin, _ = ctx.UserValue(forwardedKey).(*envelope)
		a.look(c)
		c.setID(c.now)
		a.guarded(c)
		a.noteHits(c)
		counted.served(ctx.Response.StatusCode(), time.Since(started))
		a.calls.put(c)
	}
}

// guarded runs the request and turns a panic into a 500: one bad request must not end the node. The stack is
// logged without a byte of the request.
func (a *API) guarded(c *call) {
	defer func() {
		if broken := recover(); broken != nil {
			a.logger.Error("handler panicked", "request", string(c.id), "route", c.route.pattern(),
				"panic", fmt.Sprintf("%T", broken), "message", panicText(broken), "stack", string(debug.Stack()))
			a.fail(c, identity.Errorf(identity.CodeInternal, "handler panicked"))
		}
	}()
	if err := a.account(c, a.vouch(c, a.run(c))); err != nil {
		a.fail(c, err)
	}
}

// panicText shows a panic's text only where it is one of ours or the runtime's, never a value that may hold
// parts of a request.
func panicText(broken any) string {
	switch v := broken.(type) {
	case interface {
		error
		RuntimeError()
	}:
		return v.Error()
	case string:
		if len(v) > 4 && v[:4] == "BUG:" {
			return v
		}
	}
	return ""
}

func (a *API) run(c *call) error {
	c.source = a.sourceOf(c.ctx)
	if err := checkFraming(&c.ctx.Request); err != nil {
		c.ctx.SetConnectionClose()
		return err
	}
	if c.origin != nil {
		// Before the client is looked up: the view of a node that does not lead yet may lack what made, or
		// deleted, the client's credential.
		if !a.proposer.IsLeader() {
			return errNoLeader()
		}
		a.look(c)
	}
	if c.route.Kind == KindRead || c.route.Kind == KindWrite || c.route.Kind == KindLead {
		if err := a.authorize(c); err != nil {
			return err
		}
	}
	if c.route.Kind != KindPublic && c.route.Kind != KindOAuth && c.ctx.QueryArgs().Len() > 0 {
		if err := c.checkQuery(); err != nil {
			return err
		}
	}
	if c.route.Kind == KindPublic {
		if err := a.admit(c); err != nil {
			return err
		}
		if _, err := a.reach(c); err != nil {
			return err
		}
	}
	if c.route.Kind == KindWrite || c.route.Kind == KindLead {
		if err := a.mayChange(c); err != nil {
			return err
		}
	}
	if c.route.Kind == KindWrite {
		about := &stop{}
		if c.route.stops != nil && c.origin == nil {
			var err error
			if about, err = c.route.stops(a, c); err != nil {
				return err
			}
		}
		return a.writeStop(c, about, c.route.handler)
	}
	return c.route.handler(a, c)
}

// checkFraming refuses a request that has both Content-Length and Transfer-Encoding, which two servers in a
// row may cut at different places (RFC 9112 section 6.3). fasthttp accepts it, but marks the connection for
// closing, which makes the check free for all others.
func checkFraming(r *fasthttp.Request) error {
	if !r.Header.ConnectionClose() {
		return nil
	}
	raw := r.Header.RawHeaders()
	if hasHeaderLine(raw, "content-length") && hasHeaderLine(raw, "transfer-encoding") {
		return identity.Errorf(identity.CodeInvalid, "the request has both Content-Length and Transfer-Encoding")
	}
	return nil
}

func hasHeaderLine(raw []byte, name string) bool {
	for line := range bytes.Lines(raw) {
		if field, _, ok := bytes.Cut(line, []byte{':'}); ok && equalFold(bytes.TrimSpace(field), name) {
			return true
		}
	}
	return false
}

// sourceOf is the client's address. X-Forwarded-For is believed only from the configured proxies, and read
// from the right: the first address that is not such a proxy is the client.
func (a *API) sourceOf(ctx *fasthttp.RequestCtx) netip.Addr {
	if forwarded, ok := ctx.UserValue(forwardedKey).(*envelope); ok {
		return forwarded.source
	}
	tcp, ok := ctx.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	peer := tcp.AddrPort().Addr().Unmap()
	if len(a.TrustedProxies) == 0 || !a.trusted(peer) {
		return peer
	}
	client := peer
	hops := bytes.Split(bytes.Join(ctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor), []byte{','}), []byte{','})
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(string(bytes.TrimSpace(hops[i])))
		if err != nil {
			break
		}
		client = hop.Unmap()
		if !a.trusted(client) {
			break
		}
	}
	return client
}

func (a *API) trusted(peer netip.Addr) bool {
	for _, prefix := range a.TrustedProxies {
		if prefix.Contains(peer) {
			return true
		}
	}
	return false
}

// refuseUnparsed answers a request that fasthttp could not read.
func (a *API) refuseUnparsed(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	refusal := identity.Errorf(identity.CodeInvalid, "the request is not well-formed HTTP")
	switch {
	case errors.As(err, &small):
		refusal = identity.Errorf(identity.CodeHeadersTooLarge, "the request's headers are larger than %d bytes", readBufferSize)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		refusal = tooLarge(maxBody)
	case errors.As(err, &timeout) && timeout.Timeout():
		refusal = identity.Errorf(identity.CodeInvalid, "the request took too long to arrive")
	}
	c := a.calls.get()
	c.api, c.ctx, c.route, c.now = a, ctx, &routeUnparsed, a.now()
	c.setID(c.now)
	a.fail(c, refusal)
	a.metrics.of(c.route).served(ctx.Response.StatusCode(), 0)
	a.calls.put(c)
}

// Routes that answer where no route matches.
var (
	routeOptions          = Route{Method: "OPTIONS", Path: "*", Name: "options", Kind: KindPublic, handler: answerOptions}
	routeNotFound         = Route{Method: "*", Path: "not-found", Name: "notFound", Kind: KindPublic, handler: answerNotFound}
	routeMethodNotAllowed = Route{Method: "*", Path: "method-not-allowed", Name: "methodNotAllowed", Kind: KindPublic, handler: answerMethodNotAllowed}
	routeUnparsed         = Route{Method: "*", Path: "unparsed", Name: "unparsed", Kind: KindPublic}
)

func answerOptions(_ *API, c *call) error {
	c.ctx.Response.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func answerNotFound(_ *API, c *call) error {
	return identity.Errorf(identity.CodeNotFound, "there is nothing at this path").WithHint("GET /openapi.json lists what there is")
}

func answerMethodNotAllowed(_ *API, c *call) error {
	allow := c.ctx.Response.Header.Peek(fasthttp.HeaderAllow)
	return identity.Errorf(identity.CodeMethodNotAllowed, "this path takes only %s", allow)
}
