package api

import (
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const approvalsPath = "/api/v1/approvals"

// Who may see approvals, and decide on them. A runtime sees those of the agents that it may run, and an agent its own.
var (
	approvers       = []identity.Role{identity.RoleApprover}
	approvalLists   = []identity.Role{identity.RoleApprover, identity.RoleAuditor, identity.RoleOperator}
	approvalReaders = append(approvalLists[:len(approvalLists):len(approvalLists)], identity.RoleRuntime)
)

func approvalRoutes() []Route {
	const path = approvalsPath
	filters := append([]Param{
		{"status", "only those that are pending, approved, denied, consumed or expired", "string"}, {"agent", "only those of this agent", "string"},
	}, paging...)
	return []Route{
		{
			Method: "POST", Path: path, Name: "requestApproval", Kind: KindWrite, Roles: runtimes, Clients: true, Query: writeQuery,
			Request: wire.ApprovalRequest{}, Response: wire.Approval{}, Status: 201, Summary: "Ask for a human's answer; what is asked already is answered with that one", handler: (*API).createApproval,
		},
		{
			Method: "GET", Path: path, Name: "listApprovals", Kind: KindRead, Roles: approvalLists, Query: filters,
			Response: []wire.Approval{}, Status: 200, Summary: "List approvals by age", handler: (*API).listApprovals,
		},
		{
			Method: "GET", Path: path + "/{id}", Name: "getApproval", Kind: KindRead, Roles: approvalReaders, Clients: true,
			Query:    []Param{{"wait_seconds", "0 to 30: answer when it is decided, or after that time", "integer"}},
			Response: wire.Approval{}, Status: 200, Summary: "Get an approval, or wait for its decision", handler: (*API).getApproval,
		},
		{
			Method: "POST", Path: path + "/{id}/approve", Name: "approve", Kind: KindWrite, Roles: approvers, Query: writeQuery,
			Request: wire.ApprovalDecision{}, Optional: true, Response: wire.Approval{}, Status: 200, Summary: "Say yes to what somebody else has asked for", handler: decide(true),
		},
		{
			Method: "POST", Path: path + "/{id}/deny", Name: "deny", Kind: KindWrite, Roles: approvers, Query: writeQuery,
			Request: wire.ApprovalDecision{}, Optional: true, Response: wire.Approval{}, Status: 200, Summary: "Say no, or take back a yes that was not used yet", handler: decide(false),
		},
		{
			Method: "POST", Path: path + "/{id}/consume", Name: "consumeApproval", Kind: KindWrite, Roles: runtimes, Clients: true, Query: writeQuery,
			Request: wire.ApprovalUse{}, Response: wire.Approval{}, Status: 200, Summary: "Use an approval up, as minting the session that it is for does", handler: (*API).consumeApproval,
		},
	}
}

// identifyAsker finds an agent or application by HTTP Basic, or by a client assertion as bearer token, or else the holder
// of an API token. No API token has two dots, and every assertion has.
func (c *call) identifyAsker() error {
	scheme, rest := authorization(c.ctx)
	switch {
	case equalFold(scheme, "basic"):
		given, err := c.basicCredentials(rest)
		if err != nil {
			return err
		}
		if !c.proves(given, clientAgent|clientApplication) {
			return unknownClient("the client is unknown, or its secret is wrong or expired")
		}
		return nil
	case equalFold(scheme, "bearer") && strings.Count(textOf(rest), ".") == 2:
		return c.proveByAssertion(rest, clientAgent|clientApplication)
	}
	return c.identifyToken()
}

// mayAsk wants that the caller may ask in the agent's name: the agent itself, whoever may run it, or, of a tool call, the
// application that is called, about agents that are assigned to it. Whether another agent is there it does not tell.
func (c *call) mayAsk(agent string, kind identity.ApprovalKind, application string) error {
	switch {
	case c.caller.application != nil:
		own := c.caller.application
		if kind != identity.ApprovalTool || application != own.Name && application != own.Audience {
			return identity.Errorf(identity.CodeForbidden, "application %q may ask about calls of its own tools only", own.Name)
		}
		if found, ok := c.view.Agent(agent); !ok || !found.AssignedTo(own.Name) {
			return identity.Errorf(identity.CodeForbidden, "application %q may ask about agents that are assigned to it only", own.Name)
		}
		return nil
	case c.caller.agent != nil && c.caller.agent.Name != agent:
		return identity.Errorf(identity.CodeForbidden, "agent %q can't ask for approvals of agent %q", c.caller.agent.Name, agent)
	}
	return c.mayRun(agent)
}

func (a *API) createApproval(c *call) error {
	var request wire.ApprovalRequest
	if err := c.body(&request); err != nil {
		return err
	}
	wanted, err := c.approvalOf(&request)
	if err != nil {
		return err
	}
	if err := c.mayAsk(wanted.Agent, wanted.Kind, wanted.Application); err != nil {
		return err
	}
	if err := c.bind(wanted); err != nil {
		return err
	}
	if err := c.hasShare(wanted); err != nil {
		return err
	}
	asked, _, err := proposed[*identity.Approval](a, c, fsm.RequestApproval{Approval: *wanted})
	if err != nil {
		return err
	}
	return c.created(approvalsPath, asked.ID, wire.ShowApproval(asked, c.now))
}

// hasShare holds a caller that asks in an agent's name to its share of what may be pending of the agent. The leader looks
// before it proposes, and not the log, where commands of old must come to what they came to: of those that come in the same
// moment a few more may get in, up to the agent's own bound, which the log keeps.
func (c *call) hasShare(wanted *identity.Approval) error {
	if c.caller.agent != nil {
		return nil
	}
	if _, there := c.view.ApprovalFor(wanted.Agent, wanted.Binding, c.now); there {
		return nil // it adds none
	}
	if c.view.PendingApprovals(wanted.Agent, c.caller.id(), c.now) < identity.MaxApprovalShare {
		return nil
	}
	return identity.Errorf(identity.CodeLimitReached, "%s has asked for %d approvals of agent %q that nobody has decided yet; more are not allowed",
		c.caller.id(), identity.MaxApprovalShare, wanted.Agent).
		WithHint("have them decided, or wait until they expire")
}

// approvalOf makes the domain's approval of a request. What it is good for follows from what is shown to whoever decides,
// and from nothing else.
func (c *call) approvalOf(r *wire.ApprovalRequest) (*identity.Approval, error) {
	lasts := r.ExpiresInSeconds
	if lasts == 0 {
		lasts = identity.DefaultApprovalSeconds
	}
	if lasts < identity.MinApprovalSeconds || lasts > identity.MaxApprovalSeconds { // before it is multiplied
		return nil, invalidField("/expires_in_seconds", "is %d; it must be between %d and %d", lasts, identity.MinApprovalSeconds, identity.MaxApprovalSeconds)
	}
	wanted := &identity.Approval{
		ID: c.newID(identity.PrefixApproval), Kind: r.Kind, Agent: r.AgentID, Principal: r.PrincipalUserID, Parent: r.ParentSessionID,
		Scopes: r.RequestedScopes, Audience: r.Audience, Reason: r.TriggerReason, Seconds: r.MaxDuration,
		Session: r.SessionID, Application: r.Application, Tool: r.Tool, ArgumentsHash: r.ArgumentsHash, Policy: r.PolicyID,
		Created: c.now, Expires: c.now + identity.Instant(lasts*1000),
	}
	if wanted.Kind == "" {
		wanted.Kind = identity.ApprovalSession
	}
	if err := wanted.Validate(); err != nil {
		return nil, err
	}
	if _, ok := c.view.Policy(wanted.Policy); wanted.Policy != "" && !ok {
		return nil, invalidField("/policy_id", "is %.64q, and there is no such policy", wanted.Policy)
	}
	return wanted, nil
}

// bind says what the approval is good for. An application is known by its name from here on, as it is where a call is
// decided.
func (c *call) bind(wanted *identity.Approval) error {
	if wanted.Kind == identity.ApprovalTool {
		application, ok := c.view.Application(wanted.Application)
		if !ok {
			application, ok = c.view.ApplicationByAudience(wanted.Application)
		}
		if !ok {
			return invalidField("/application", "is %.128q, which is neither the name nor the audience of an application", wanted.Application)
		}
		wanted.Application = application.Name
	}
	wanted.Binding = bindingOf(wanted)
	return nil
}

// bindingOf is the binding of what an approval shows.
func bindingOf(a *identity.Approval) string {
	agent := &identity.Agent{Name: a.Agent}
	if a.Kind == identity.ApprovalTool {
		return policy.ToolBinding(&policy.ToolRequest{
			Session: &identity.Session{ID: a.Session, Principal: a.Principal}, Agent: agent, ArgumentsHash: a.ArgumentsHash,
			Tool: policy.Tool{Name: a.Tool, Application: a.Application},
		})
	}
	r := &policy.Request{Agent: agent, Requested: a.Scopes, Audience: a.Audience, TriggerReason: a.Reason, MaxSeconds: a.Seconds}
	if a.Principal != "" {
		r.Principal = &identity.Principal{ID: a.Principal}
	}
	if a.Parent != "" {
		r.Parent = &identity.Session{ID: a.Parent}
	}
	return policy.SessionBinding(r)
}

func (a *API) listApprovals(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	status, agent := identity.ApprovalStatus(c.query("status")), c.query("agent")
	switch status {
	case "", identity.ApprovalPending, identity.ApprovalApproved, identity.ApprovalDenied, identity.ApprovalConsumed, wire.ApprovalExpired:
	default:
		return invalidParameter("status", "is %.40q; it must be pending, approved, denied, consumed or expired", string(status))
	}
	list := c.view.Approvals(c.query("after"), limit+1, func(x *identity.Approval) bool {
		return (agent == "" || x.Agent == agent) && (status == "" || wire.ShowApproval(x, c.now).Status == status)
	})
	return answerList(c, list, limit, func(x *identity.Approval) wire.Approval { return wire.ShowApproval(x, c.now) },
		func(x *identity.Approval) string { return x.ID })
}

// seesApproval reports whether the caller may know of an approval.
func (c *call) seesApproval(x *identity.Approval) bool {
	switch {
	case c.caller.agent != nil:
		return c.caller.agent.Name == x.Agent
	case c.caller.application != nil:
		// Agents and applications may share a name, so that who asked does not tell.
		own := c.caller.application
		return x.Kind == identity.ApprovalTool && (x.Application == own.Name || x.Application == own.Audience)
	}
	return requireRole(c.caller.token, approvalLists) == nil || c.caller.token.MayRun(x.Agent)
}

func (a *API) getApproval(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	patience, err := c.approvalWait()
	if err != nil {
		return err
	}
	found, ok := c.view.Approval(id)
	if !ok || !c.seesApproval(found) {
		return notFound("approval", id)
	}
	if patience > 0 {
		if err := a.waitDecided(c, id, patience); err != nil {
			return err
		}
		if found, ok = c.view.Approval(id); !ok || c.mayCall() != nil || !c.seesApproval(found) {
			return notFound("approval", id)
		}
	}
	return c.answer(fasthttp.StatusOK, wire.ShowApproval(found, c.now))
}

func (c *call) approvalWait() (time.Duration, error) {
	text := c.query("wait_seconds")
	if text == "" {
		return 0, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 0 || seconds > wire.MaxApprovalWait {
		return 0, invalidParameter("wait_seconds", "is %.40q; it must be a number between 0 and %d", text, wire.MaxApprovalWait)
	}
	return time.Duration(seconds) * time.Second, nil
}

// decide answers an approval. That whoever asked may not approve, the log decides.
func decide(yes bool) func(*API, *call) error {
	return func(a *API, c *call) error {
		id, err := c.param("id")
		if err != nil {
			return err
		}
		var decision wire.ApprovalDecision
		if err := c.optionalBody(&decision); err != nil {
			return err
		}
		if err := identity.ValidNote(decision.Note); err != nil {
			return err
		}
		decided, _, err := proposed[*identity.Approval](a, c, fsm.DecideApproval{ID: id, Approve: yes, Note: decision.Note})
		if err != nil {
			return err
		}
		return c.answer(fasthttp.StatusOK, wire.ShowApproval(decided, c.now))
	}
}

func (a *API) consumeApproval(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	var use wire.ApprovalUse
	if err := c.body(&use); err != nil {
		return err
	}
	if len(use.Binding) > 64 || len(use.UsedFor) > identity.MaxReasonLength {
		return invalidField("/binding", "or used_for is longer than any is")
	}
	approval, ok := c.view.Approval(id)
	if !ok {
		return notFound("approval", id)
	}
	if err := c.mayAsk(approval.Agent, approval.Kind, approval.Application); err != nil {
		return err
	}
	// Under the client's Idempotency-Key the second use would be told that it was the first.
	used, _, err := stopped[*identity.Approval](a, c, fsm.ConsumeApproval{ID: id, Agent: approval.Agent, Binding: use.Binding, For: use.UsedFor})
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, wire.ShowApproval(used, c.now))
}
