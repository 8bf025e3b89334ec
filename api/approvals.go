package api

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

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
	if why := c.whyNotNamed(c.approvalID, c.request.Agent, binding); why != "" {
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
func (c *call) whyNotNamed(id string, agent *identity.Agent, binding string) string {
	if id == "" {
		return ""
	}
	named, ok := c.view.Approval(id)
	switch {
	case !ok || named.Agent != agent.Name:
		return fmt.Sprintf("there is no approval %.64q of this agent", id)
	case named.Binding != binding:
		return fmt.Sprintf("approval %s is for another request", named.ID)
	case named.Status == identity.ApprovalConsumed:
		return fmt.Sprintf("approval %s was used up at %s", named.ID, named.Used)
	case c.now >= named.Expires:
		return fmt.Sprintf("approval %s has expired at %s", named.ID, named.Expires)
	case named.Generation != agent.Generation:
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

// consume uses the call's approval up for the session that it is about to mint. From then on the approval is gone,
// whatever comes of the call.
func (a *API) consume(c *call, usedFor string) error {
	if c.granted == nil {
		return nil
	}
	err := a.spend(c, usedFor)
	switch identity.CodeOf(err) {
	case identity.CodeOutcomeUnknown:
		return c.spent(err)
	case identity.CodeConflict:
		return a.tooLate(c, err)
	}
	return err
}

// spend uses the call's approval up at the leader.
func (a *API) spend(c *call, usedFor string) error {
	approval := c.granted
	if err := a.fresh(c); err != nil {
		return err // before it costs somebody's yes
	}
	var used wire.Approval
	use := wire.ApprovalUse{Binding: approval.Binding, UsedFor: usedFor}
	if err := a.within(c, &consumeRoute, approvalsPath+"/"+approval.ID+"/consume", use, &used); err != nil {
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
