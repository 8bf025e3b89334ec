package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// Routes as they are called in the course of other requests.
var (
	lendRoute    = Route{Method: "POST", Path: "/api/v1/delegations", Name: "lend", Kind: KindWrite}
	askRoute     = Route{Method: "POST", Path: approvalsPath, Name: "requestApproval", Kind: KindWrite, Roles: runtimes, Clients: true}
	consumeRoute = Route{Method: "POST", Path: approvalsPath + "/{id}/consume", Name: "consumeApproval", Kind: KindWrite, Roles: runtimes, Clients: true}
)

// handlerOf is the handler of a route that is called in the course of another request.
func handlerOf(r *Route) func(*API, *call) error {
	switch r {
	case &lendRoute:
		return (*API).createDelegation
	case &consumeRoute:
		return (*API).consumeApproval
	}
	return (*API).createApproval
}

// within has a write made in the course of another request, the way its client would make it, with the client's own
// credential: here, or at the leader. It leaves a record of its own, and is not made where that could not be written. The refusal of either is the error. When it returns,
// this node has applied the write, unless it is slow: then the index of the answer is beyond its view.
func (a *API) within(c *call, route *Route, uri string, body, into any) error {
	var inner fasthttp.RequestCtx
	inner.Init(&fasthttp.Request{}, c.ctx.RemoteAddr(), nil)
	inner.Request.Header.SetMethod(route.Method)
	inner.Request.SetRequestURI(uri)
	inner.Request.Header.SetContentType(contentTypeJSON)
	inner.Request.Header.Set(fasthttp.HeaderAuthorization, c.ownCredential())
	inner.Request.Header.SetBytesKV(headerTraceparent, c.ctx.Request.Header.PeekCanonical(headerTraceparent))
	inner.Request.SetBodyRaw(encodeJSON(body))
	if route == &consumeRoute {
		inner.SetUserValue("id", c.granted.ID)
	}

	sub := a.calls.get()
	defer a.calls.put(sub)
	sub.api, sub.ctx, sub.route, sub.id = a, &inner, route, c.id
	sub.lease, sub.now, sub.view = c.lease, c.now, c.view
	sub.caller, sub.identify, sub.source = c.caller, (*call).identifyAsker, c.source
	if err := a.mayChange(sub); err != nil {
		return err // before it costs somebody's yes
	}
	err := a.write(sub, handlerOf(route))
	c.settled = c.settled || sub.settled || err == nil // by the log, or the leader
	answer := &inner.Response
	if index, bad := strconv.ParseUint(string(answer.Header.Peek(wire.HeaderIndex)), 10, 64); err == nil && bad == nil {
		c.setIndex(index)
		ctx, cancel := context.WithTimeout(context.Background(), catchUpWait)
		defer cancel()
		_ = a.FSM.WaitApplied(ctx, index) // the answer says all that is needed
	}
	if err = a.account(sub, err); err != nil {
		return err
	}
	if answer.StatusCode() >= 300 {
		return refusalIn(answer)
	}
	if err := json.Unmarshal(answer.Body(), into); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", route.Name, err)
	}
	return nil
}

// refusalIn reads the leader's refusal.
func refusalIn(answer *fasthttp.Response) error {
	var p wire.Problem
	if err := json.Unmarshal(answer.Body(), &p); err != nil || p.Code() == "" {
		return fmt.Errorf("the leader refused with %d and no problem that can be read", answer.StatusCode())
	}
	e := identity.Errorf(p.Code(), "%s", p.Detail)
	e.Hint, e.Fields, e.Policy, e.Approval = p.Hint, p.Errors, p.PolicyID, p.ApprovalID
	return e
}

// ownCredential is what the caller proved itself with, as an Authorization header: an API token or HTTP Basic as they
// came, a secret of the form as HTTP Basic, and a client assertion as a bearer token.
func (c *call) ownCredential() string {
	form := &c.form
	if scheme, _ := authorization(c.ctx); len(scheme) > 0 {
		return string(c.ctx.Request.Header.Peek(fasthttp.HeaderAuthorization))
	}
	if assertion := form.value(formAssertion); len(assertion) > 0 {
		return "Bearer " + string(assertion)
	}
	pair := url.QueryEscape(string(form.value(formClientID))) + ":" + url.QueryEscape(string(form.value(formClientSecret)))
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}
