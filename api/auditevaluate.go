package api

import (
	"context"
	"net/netip"

	"github.com/deputy-id/deputy/audit"
)

// enrollEvaluation sets the record of a decision on its way. Its address is the agent's, as far as the caller has told:
// that is what was decided on. The caller's own is in the text.
func (a *API) enrollEvaluation(c *call, e *evaluation, out *evaluated) error {
	r := a.draft(c)
	r.Kind, r.Action, r.SourceIP = audit.KindEvaluate, e.about(), e.source
	r.Tool, r.RequiredScope, r.ArgumentsHash = e.tool, e.requiredScope, e.argumentsHash
	if c.source != (netip.Addr{}) {
		r.Detail = "asked from " + c.source.String()
	}
	if out.application != nil {
		r.Target = "applications/" + out.application.Name
	}
	c.tellEvaluated(r, e, out)
	r.Decision = audit.Allowed
	if !out.Decision {
		r.Decision = audit.Denied
	}
	if out.refusal != nil {
		r.Reason = string(out.refusal.Code)
		if c.account.reason != "" {
			r.Reason = c.account.reason // why the token is not good
		}
	}
	policies := c.account.policies[:0]
	for i := range out.hits {
		d := &out.hits[i].diagnostics
		policies = append(append(policies, d.Forbidding...), d.Approved...)
		r.Monitored = append(r.Monitored, d.Monitored...)
	}
	r.Policies = policies
	if out.refusal != nil {
		c.tellRefusal(r, out.refusal)
	}
	if out.approval != nil {
		r.Approval = out.approval.ID
	}
	ticket, err := a.Audit.Queue(context.Background(), r)
	if err != nil {
		return a.unrecorded(c, err)
	}
	out.ticket, out.queued = ticket, true
	return nil
}

// tellEvaluated fills in whose session it is: that of the token, or one that the agent would have.
func (c *call) tellEvaluated(r *audit.Record, e *evaluation, out *evaluated) {
	s := out.session
	if s == nil {
		c.account.tellClaims(r, c.account.claims)
		if e.subject.Type == subjectAgent {
			r.Agent, r.Principal, r.Scope = e.subject.ID, e.principal, e.requiredScope
			r.Chain = append(c.account.chain(e.principal, "", nil), audit.Link{Agent: e.subject.ID})
		}
		return
	}
	r.Agent, r.Principal, r.AgentType, r.Scope = s.Actor().Agent, s.Principal, s.AgentType, string(s.Scopes)
	r.Chain, r.Delegation = c.account.chain(s.Principal, s.Delegation, s.Chain), s.Delegation
	r.Audience, r.Expires = s.Audience, s.Expires
	if out.real {
		r.Session = s.ID
	}
}

// recordedEvaluations waits for the records of all decisions of a request: without them there is no answer.
func (a *API) recordedEvaluations(c *call, done []evaluated) error {
	for i := range done {
		if !done[i].queued {
			continue // an operator wants answers in any case
		}
		if _, err := done[i].ticket.Wait(context.Background()); err != nil {
			if err := a.unrecorded(c, err); err != nil {
				return err
			}
		}
	}
	return nil
}
