package api

import (
	"slices"
	"strconv"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// evaluated is what came of it. The hits are counted once the answer goes out.
type evaluated struct {
	wire.AccessDecision
	hits []noted

	refusal     *identity.Error
	application *identity.Application
	session     *identity.Session // that the decision is about
	real        bool              // it is that of a token, and no other one that would be like it
	approval    *identity.Approval
	asked       *identity.Approval // what a human is asked, or has answered already

	ticket audit.Ticket // of its record
	queued bool
}

type noted struct {
	diagnostics policy.Diagnostics
	hit         hit
}

// evaluate answers one question, and sets its record on its way. An error says that there is no decision.
func (a *API) evaluate(c *call, e *evaluation) (evaluated, error) {
	c.account.reason, c.account.claims = "", nil
	if e.unknown != nil {
		return a.denyUnknown(c, e, e.unknown)
	}
	var out evaluated
	application, ok := c.view.Application(e.application)
	if !ok {
		application, ok = c.view.ApplicationByAudience(e.application)
	}
	switch {
	case c.caller.application != nil && (!ok || application.Name != c.caller.application.Name):
		return out, identity.Errorf(identity.CodeForbidden, "application %q asks about itself only", c.caller.application.Name).
			WithHint("an API token with role runtime or auditor may ask about others")
	case !ok:
		return a.denyUnknown(c, e, notFound("application", e.application))
	}
	out.application = application
	refusal, err := a.decideAccess(c, e, application, &out)
	if err != nil {
		return out, err
	}
	out.conclude(c, refusal)
	return out, c.spent(a.enrollEvaluation(c, e, &out))
}

// denyUnknown is the answer to a question about what is not known here, or that makes no sense among others that may.
func (a *API) denyUnknown(c *call, e *evaluation, why *identity.Error) (evaluated, error) {
	out := evaluated{refusal: why}
	out.Context = &wire.DecisionContext{Error: &wire.DecisionError{Status: int64(verdicts[why.Code].status), Message: why.Error()}}
	return out, a.enrollEvaluation(c, e, &out)
}

// conclude words a decision.
func (e *evaluated) conclude(c *call, refusal *identity.Error) {
	e.refusal, e.Decision = refusal, refusal == nil
	var why wire.DecisionContext
	for i := range e.hits {
		why.Monitored = append(why.Monitored, e.hits[i].diagnostics.Monitored...)
	}
	if refusal != nil {
		v := verdicts[refusal.Code]
		status := strconv.Itoa(v.status)
		why.Code, why.PolicyID = refusal.Code, refusal.Policy
		why.ReasonUser = map[string]string{status: v.title}
		why.ReasonAdmin = map[string]string{status: refusal.Error()}
		why.ApprovalRequired = refusal.Code == identity.CodeApprovalRequired
	}
	if e.asked != nil && why.ApprovalRequired {
		why.EvaluationID, why.AccessRequest = string(c.id), c.accessRequest(e.asked)
	}
	if e.approval != nil {
		why.Approval = &wire.DecisionApproval{ID: e.approval.ID}
	}
	if refusal != nil || len(why.Monitored) > 0 || why.Approval != nil {
		e.Context = &why
	}
}

// decideAccess finds out whose session it is about, and decides. An application hears of sessions that are meant for it, and
// of agents that are assigned to it: of others it does not learn whether they are there, nor what policies make of them.
func (a *API) decideAccess(c *call, e *evaluation, application *identity.Application, out *evaluated) (*identity.Error, error) {
	if e.subject.Type != subjectAgent {
		claims, err := a.judged(c, []byte(e.subject.ID))
		if err != nil {
			return nil, err
		}
		if claims != nil && c.caller.application != nil && !slices.Contains(claims.Audience, application.Audience) {
			c.account.reason, c.account.claims, claims = "audience", claims, nil // for the record
		}
		if claims == nil {
			return unacceptable("session token", "it is no token of this server, has ended or was revoked"), nil
		}
		session := claims.Session()
		out.session, out.real = session, true
		if err := c.mayAskFor(session.Actor().Agent); err != nil {
			return nil, err
		}
		return a.decideTool(c, e, application, session, out)
	}
	if err := c.mayAskFor(e.subject.ID); err != nil {
		return nil, err
	}
	agent, ok := c.view.Agent(e.subject.ID)
	if c.caller.application != nil && (!ok || !agent.AssignedTo(application.Name)) {
		return identity.Errorf(identity.CodeApplicationNotAssigned, "no agent %.64q is assigned to application %q", e.subject.ID, application.Name), nil
	}
	if !ok {
		return notFound("agent", e.subject.ID), nil
	}
	grant := new(policy.Grant)
	refusal, err := a.decideAgent(c, e, agent, application, grant, out)
	if grant.Valid() {
		out.session = grant.Session()
	}
	if refusal != nil || err != nil || e.tool == "" {
		return refusal, err
	}
	return a.decideTool(c, e, application, grant.Session(), out)
}

// mayAskFor wants that a runtime asks about the agents that it runs.
func (c *call) mayAskFor(agent string) error {
	if c.caller.application != nil || c.caller.token.Has(identity.RoleAuditor) || c.caller.token.MayRun(agent) {
		return nil
	}
	return mayNotRun(c.caller.token, agent)
}

// decideAgent decides on the session that the agent would get now at the application.
func (a *API) decideAgent(c *call, e *evaluation, agent *identity.Agent, application *identity.Application, grant *policy.Grant, out *evaluated) (*identity.Error, error) {
	c.request = policy.Request{Agent: agent, Audience: []string{application.Name}}
	if e.requiredScope != "" {
		c.request.Requested = identity.Scopes(e.requiredScope)
	}
	if e.principal != "" {
		lent, refusal := c.view.ActiveDelegation(agent.Name, e.principal, c.request.Requested, c.now)
		if refusal != nil {
			return refusal, nil
		}
		c.lent = lent
		c.request.Principal, c.request.Delegation = c.lent.Principal, &c.lent.Delegation
	}
	if err := a.prepare(c); err != nil {
		return nil, err
	}
	c.request.SourceIP = e.source
	err := a.Policy.Decide(&c.request, grant)
	scopes := c.request.Requested
	if scopes == "" {
		scopes = agent.DefaultScopes
	}
	out.hits = append(out.hits, noted{*grant.Diagnostics(), hit{agent.Name, scopes, c.now}})
	return refusalOf(err)
}

// refusalOf tells a decision from what keeps there from being one.
func refusalOf(err error) (*identity.Error, error) {
	if err == nil {
		return nil, nil
	}
	e := asError(err)
	if e.Code == identity.CodeInternal || e.Code == identity.CodeInvalid {
		return nil, err
	}
	return e, nil
}

// decideTool decides on a call of a tool under a session.
func (a *API) decideTool(c *call, e *evaluation, application *identity.Application, session *identity.Session, out *evaluated) (*identity.Error, error) {
	r, refusal := a.toolRequest(c, session)
	if refusal != nil {
		return refusal, nil
	}
	r.Tool = policy.Tool{Name: e.tool, Application: application.Name, RequiredScope: e.requiredScope}
	r.ArgumentsHash, r.SourceIP = e.argumentsHash, e.source
	decision, err := a.Policy.DecideTool(r)
	refusal, err = refusalOf(err)
	if refusal != nil && refusal.Code == identity.CodeApprovalRequired && e.alone {
		decision, refusal, err = a.decideApprovedTool(c, e, r, decision, refusal, out)
	}
	out.hits = append(out.hits, noted{decision.Diagnostics, hit{r.Agent.Name, identity.Scopes(e.requiredScope), c.now}})
	return refusal, err
}

// toolRequest is a tool call under a session that was found to be good, but for the tool.
func (a *API) toolRequest(c *call, session *identity.Session) (*policy.ToolRequest, *identity.Error) {
	name := session.Actor().Agent
	agent, ok := c.view.Agent(name)
	if !ok {
		return nil, notFound("agent", name)
	}
	r := &policy.ToolRequest{
		Now: c.now, Session: session, Agent: agent, Applications: viewApplications{c.view}, Policies: a.policiesOf(c),
	}
	if session.Principal != "" {
		if r.Principal, ok = c.view.Principal(session.Principal); !ok {
			return nil, notFound("principal", session.Principal)
		}
	}
	return r, nil
}
