package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// decideApproved goes on where a policy wants a human's yes: with the one that there is, which the mint then uses up, or
// by asking for one. It is the one place where a mint that is refused writes something.
func (a *API) decideApproved(c *call, refusal error) error {
	refused := asError(refusal)
	binding := policy.SessionBinding(&c.request)
	answer, err := a.requireApproval(c, wantedFor(&c.request, binding, refused.Policy))
	if err != nil {
		return err
	}
	if answer.Status == identity.ApprovalApproved {
		c.granted, c.request.Approval = answer, answer
		if err := a.Policy.Decide(&c.request, &c.grant); identity.CodeOf(err) != identity.CodeApprovalRequired {
			return err
		}
	}
	return c.unapproved(refused, answer, binding)
}

// wantedFor is what a human is to decide on: the request, to the letter.
func wantedFor(r *policy.Request, binding, policyID string) *identity.Approval {
	wanted := &identity.Approval{
		Kind: identity.ApprovalSession, Agent: r.Agent.Name, Binding: binding, Scopes: r.Requested, Audience: r.Audience,
		Reason: r.TriggerReason, Seconds: r.MaxSeconds, Policy: policyID,
	}
	if r.Principal != nil {
		wanted.Principal = r.Principal.ID
	}
	if r.Parent != nil {
		wanted.Parent = r.Parent.ID
	}
	return wanted
}

// unapproved is the refusal of what was not approved, or not yet.
func (c *call) unapproved(refused *identity.Error, answer *identity.Approval, binding string) *identity.Error {
	if answer.Status == identity.ApprovalDenied {
		return denied(answer).WithPolicy(refused.Policy)
	}
	e := *refused
	if why := c.whyNotNamed(binding); why != "" {
		e.Message += "; " + why
	}
	return e.WithApproval(answer.ID).
		WithHint("have a person with role approver decide: deputy approval approve %s; then repeat the request unchanged", answer.ID)
}

func denied(a *identity.Approval) *identity.Error {
	note := ""
	if a.Note != "" {
		note = ": " + a.Note
	}
	return identity.Errorf(identity.CodeApprovalDenied, "%s has denied approval %s%s", a.DecidedBy, a.ID, note).WithApproval(a.ID).
		WithHint("the answer stands until %s; ask for something else, or talk to them", a.Expires)
}

// whyNotNamed tells what is wrong with the approval that the request names, "" where it names none or the right one.
func (c *call) whyNotNamed(binding string) string {
	if c.approvalID == "" {
		return ""
	}
	named, ok := c.view.Approval(c.approvalID)
	switch {
	case !ok || named.Agent != c.request.Agent.Name:
		return fmt.Sprintf("there is no approval %.64q of this agent", c.approvalID)
	case named.Binding != binding:
		return fmt.Sprintf("approval %s is for another request", named.ID)
	case named.Status == identity.ApprovalConsumed:
		return fmt.Sprintf("approval %s was used up at %s", named.ID, named.Used)
	case c.now >= named.Expires:
		return fmt.Sprintf("approval %s has expired at %s", named.ID, named.Expires)
	case named.Generation != c.request.Agent.Generation:
		return fmt.Sprintf("approval %s is from before the agent was stopped", named.ID)
	}
	return ""
}

// requireApproval returns what a human says to what is wanted: the answer that there is, or that they were asked a moment
// ago. It is for sessions and for tool calls; the binding must be that of wanted's other fields. Where it has to ask, it
// does so at the leader with the caller's own credential. Only with status approved may the caller go on, and then it has
// to have the approval used up first: see consume.
func (a *API) requireApproval(c *call, wanted *identity.Approval) (*identity.Approval, error) {
	if known, ok := c.view.ApprovalFor(wanted.Agent, wanted.Binding, c.now); ok {
		if known.Status != identity.ApprovalPending || known.WasAskedBy(c.caller.id()) {
			return known, nil
		}
	}
	return a.askLeader(c, wanted)
}

// askLeader asks at the leader, which knows best what was asked already.
func (a *API) askLeader(c *call, wanted *identity.Approval) (*identity.Approval, error) {
	if !utf8.ValidString(wanted.Reason) {
		return nil, identity.Errorf(identity.CodeInvalid, "the reason is not UTF-8, and a person is to read it")
	}
	lasts := int64(0)
	if wanted.Expires != 0 {
		lasts = int64(wanted.Expires-c.now) / 1000
	}
	var asked wire.Approval
	err := a.within(c, &askRoute, askRoute.Path, wire.ApprovalRequest{
		Kind: wanted.Kind, AgentID: wanted.Agent, PrincipalUserID: wanted.Principal, ParentSessionID: wanted.Parent,
		RequestedScopes: wanted.Scopes, Audience: wanted.Audience, TriggerReason: wanted.Reason, MaxDuration: wanted.Seconds,
		SessionID: wanted.Session, Application: wanted.Application, Tool: wanted.Tool, ArgumentsHash: wanted.ArgumentsHash,
		PolicyID: wanted.Policy, ExpiresInSeconds: lasts,
	}, &asked)
	if err != nil {
		return nil, err
	}
	if asked.Binding != wanted.Binding {
		return nil, fmt.Errorf("BUG: approval %s was asked for, and is for something else", asked.ID)
	}
	answer := *wanted
	answer.ID, answer.Status, answer.Expires, answer.Created = asked.ID, asked.Status, asked.ExpiresAt, asked.CreatedAt
	answer.DecidedBy, answer.Note, answer.AskedBy = asked.DecidedBy, asked.Note, asked.RequestedBy
	return &answer, nil
}

// consume uses the call's approval up for what it is about to answer. From then on the approval is gone, whatever comes
// of the call.
func (a *API) consume(c *call, usedFor string) error {
	approval := c.granted
	if approval == nil {
		return nil
	}
	if err := a.fresh(c); err != nil {
		return err // before it costs somebody's yes
	}
	var used wire.Approval
	err := a.within(c, &consumeRoute, approvalsPath+"/"+approval.ID+"/consume", wire.ApprovalUse{Binding: approval.Binding, UsedFor: usedFor}, &used)
	if err != nil {
		switch identity.CodeOf(err) {
		case identity.CodeOutcomeUnknown:
			return c.spent(err)
		case identity.CodeConflict:
			return a.tooLate(c, err)
		}
		return asError(err).WithApproval(approval.ID)
	}
	c.used = true
	return nil
}

// tooLate is the refusal where another has used the approval up, or it has ended, before this node knew: as if the node
// had known.
func (a *API) tooLate(c *call, refusal error) error {
	why, approval := asError(refusal), c.granted
	if c.redeems {
		return badGrant(why.Message)
	}
	answer, err := a.askLeader(c, wantedFor(&c.request, approval.Binding, approval.Policy))
	if err != nil {
		return err
	}
	refused := identity.Errorf(identity.CodeApprovalRequired, "this has to be approved, and %s", why.Message).WithPolicy(approval.Policy)
	return c.unapproved(refused, answer, approval.Binding)
}

// spent adds to a failure that it has cost an approval, or may have.
func (c *call) spent(err error) error {
	if err == nil || c.granted == nil {
		return err
	}
	e := *asError(err)
	if c.used {
		e.Message += "; approval " + c.granted.ID + " was used up by this attempt and has to be asked for again"
	} else {
		e.Message += "; approval " + c.granted.ID + " may have been used up by this attempt"
	}
	return e.WithApproval(c.granted.ID)
}

// Routes as they are called in the course of other requests.
var (
	askRoute     = Route{Method: "POST", Path: approvalsPath, Name: "requestApproval", Kind: KindWrite, Roles: runtimes, Clients: true}
	consumeRoute = Route{Method: "POST", Path: approvalsPath + "/{id}/consume", Name: "consumeApproval", Kind: KindWrite, Roles: runtimes, Clients: true}
)

// handlerOf is the handler of a route that is called in the course of another request.
func handlerOf(r *Route) func(*API, *call) error {
	if r == &consumeRoute {
		return (*API).consumeApproval
	}
	return (*API).createApproval
}

// within has a write made in the course of another request, the way its client would make it, with the client's own
// credential: here, or at the leader. The refusal of either is the error.
func (a *API) within(c *call, route *Route, uri string, body, into any) error {
	var inner fasthttp.RequestCtx
	inner.Init(&fasthttp.Request{}, c.ctx.RemoteAddr(), nil)
	inner.Request.Header.SetMethod(route.Method)
	inner.Request.SetRequestURI(uri)
	inner.Request.Header.SetContentType(contentTypeJSON)
	inner.Request.Header.Set(fasthttp.HeaderAuthorization, c.ownCredential())
	inner.Request.SetBodyRaw(encodeJSON(body))
	if route == &consumeRoute {
		inner.SetUserValue("id", c.granted.ID)
	}

	sub := a.calls.get()
	defer a.calls.put(sub)
	sub.api, sub.ctx, sub.route, sub.id = a, &inner, route, c.id
	sub.lease, sub.now, sub.view = c.lease, c.now, c.view
	sub.caller, sub.identify, sub.source = c.caller, (*call).identifyAsker, c.source
	if err := a.write(sub, handlerOf(route)); err != nil {
		c.settled = c.settled || sub.settled
		return err
	}
	c.settled = true // the log, or the leader
	answer := &inner.Response
	if index, err := strconv.ParseUint(string(answer.Header.Peek(wire.HeaderIndex)), 10, 64); err == nil {
		c.setIndex(index)
		ctx, cancel := context.WithTimeout(context.Background(), catchUpWait)
		defer cancel()
		_ = a.FSM.WaitApplied(ctx, index) // the answer says all that is needed
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

// waitDecided answers once the approval is decided, or the time is up.
func (a *API) waitDecided(c *call, id string, patience time.Duration) error {
	if !a.polling.enter(maxWaiters / 4) {
		return identity.Errorf(identity.CodeOverloaded, "too many requests wait for approvals at this node").
			WithHint("leave out wait_seconds, or ask another node")
	}
	defer a.polling.leave()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if approval, ok := c.view.Approval(id); !ok || approval.Status != identity.ApprovalPending || c.now >= approval.Expires {
			return nil
		}
		// A change of any kind ends the wait, and a pause keeps a busy log from turning it into a loop.
		err := a.FSM.WaitApplied(ctx, c.view.Index()+1)
		if errors.Is(err, fsm.ErrHalted) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollPause):
		}
		a.look(c)
		if err := c.identifyAgain(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// pollPause is the least time between two looks at an approval that somebody waits for.
const pollPause = 25 * time.Millisecond
