package api

import (
	"net/url"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// decideApprovedTool goes on where a policy wants a human's yes to a tool call: with the one that the caller names, which
// is used up before the call is allowed, or by asking for one. A yes that the caller does not name is left alone: a
// question that only wants to know must not cost it.
func (a *API) decideApprovedTool(c *call, e *evaluation, r *policy.ToolRequest, first policy.Decision, refused *identity.Error, out *evaluated) (policy.Decision, *identity.Error, error) {
	if why := c.whyNotAsked(e, r); why != "" {
		return first, withMore(refused, "nobody was asked: "+why), nil
	}
	binding := policy.ToolBinding(r)
	answer, err := a.requireApproval(c, wantedForTool(r, binding, refused.Policy))
	if err != nil {
		// The call is denied in any case, and that the caller hears; only nobody can be asked right now.
		a.logger.Warn("asking for an approval of a tool call", "request", string(c.id), "error", err)
		return first, withMore(refused, "nobody could be asked: "+asError(err).Message), nil
	}
	switch {
	case answer.Status == identity.ApprovalDenied:
		return first, denied(answer).WithPolicy(refused.Policy), nil
	case answer.Status != identity.ApprovalApproved || answer.ID != e.approval:
		out.asked = answer
		more := c.whyNotNamed(e.approval, r.Agent, binding)
		if more == "" && answer.Status == identity.ApprovalApproved {
			more = "approval " + answer.ID + " is there: send it as context.approval"
		}
		return first, withMore(refused, more).WithApproval(answer.ID), nil
	}
	r.Approval = answer
	decision, err := a.Policy.DecideTool(r)
	if refusal, err := refusalOf(err); refusal != nil || err != nil {
		return decision, refusal, err
	}
	c.granted = answer
	if err := a.spend(c, string(c.id)); err != nil {
		refusal, err := c.unusable(err, refused)
		return first, refusal, err
	}
	out.approval = answer
	return decision, nil, nil
}

// withMore adds to the text of a refusal, which others may hold as well.
func withMore(refused *identity.Error, more string) *identity.Error {
	e := *refused
	if more != "" {
		e.Message += "; " + more
	}
	return &e
}

// whyNotAsked tells what keeps a human from being asked about the call, or "". A yes is to one call of one session with
// the arguments that it has.
func (c *call) whyNotAsked(e *evaluation, r *policy.ToolRequest) string {
	switch {
	case e.subject.Type == subjectAgent:
		return "an approval is for a call under a session: send its token as the subject"
	case e.argumentsHash == "":
		return "an approval is for the arguments of a call: send their SHA-256 as resource.properties.arguments_hash"
	}
	if err := c.mayAsk(r.Agent.Name, identity.ApprovalTool, r.Tool.Application); err != nil {
		return asError(err).Message
	}
	return ""
}

// wantedForTool is what a human is to decide on: the call, to the letter.
func wantedForTool(r *policy.ToolRequest, binding, policyID string) *identity.Approval {
	return &identity.Approval{
		Kind: identity.ApprovalTool, Agent: r.Agent.Name, Binding: binding, Principal: r.Session.Principal, Session: r.Session.ID,
		Application: r.Tool.Application, Tool: r.Tool.Name, ArgumentsHash: r.ArgumentsHash, Policy: policyID,
	}
}

// unusable is what comes of a call whose approval could not be used up: a denial where the log says so, and no decision
// where it is not known.
func (c *call) unusable(err error, refused *identity.Error) (*identity.Error, error) {
	why := asError(err)
	switch why.Code {
	case identity.CodeConflict, identity.CodeForbidden, identity.CodeApprovalDenied, identity.CodeApprovalRequired, identity.CodeNotFound:
		c.granted = nil
		return withMore(refused, why.Message), nil
	case identity.CodeOutcomeUnknown:
		return nil, c.spent(err)
	}
	c.granted = nil
	return nil, err
}

// accessRequest tells of the approval that was asked for, by names of AuthZEN's Access Request profile. It has been
// submitted already.
func (c *call) accessRequest(asked *identity.Approval) *wire.AccessRequest {
	return &wire.AccessRequest{
		Reason: string(identity.CodeApprovalRequired), Template: asked.Policy, ExpiresAt: asked.Expires,
		Task: wire.AccessTask{
			ID: asked.ID, Status: asked.Status, ExpiresAt: asked.Expires,
			StatusEndpoint: c.view.Settings().Issuer + approvalsPath + "/" + url.PathEscape(asked.ID),
		},
	}
}
