package api

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// simulation is a request that nobody made.
type simulation struct {
	wire.SimulateRequest
	policies *policy.Set // with the drafts among them
}

// simulate tells what would come of a request, by the code that decides on real ones. It mints, changes and counts
// nothing.
func (a *API) simulate(c *call) error {
	var s simulation
	if err := c.body(&s.SimulateRequest); err != nil {
		return err
	}
	if s.Replay != nil {
		return a.replayTrail(c, &s)
	}
	if err := a.readSimulation(c, &s); err != nil {
		return err
	}
	var x *policy.Explanation
	var err error
	switch s.Action {
	case wire.ActionCallTool:
		x, err = a.simulateTool(c, &s)
	case wire.ActionDelegate:
		x, err = a.simulateDelegation(c, &s)
	default:
		x, err = a.simulateSession(c, &s)
	}
	if err != nil {
		return err
	}
	if x.Refusal != nil && (x.Refusal.Code == identity.CodeInvalid || x.Refusal.Code == identity.CodeInternal) {
		return x.Refusal // a request that makes no sense
	}
	if err := a.fresh(c); err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showSimulation(s.Action, x))
}

// readSimulation holds a simulation to what a real request is held to, and has the call be of its time and place.
func (a *API) readSimulation(c *call, s *simulation) error {
	if s.Action == "" {
		s.Action = wire.ActionCreateSession
		if s.Tool != nil {
			s.Action = wire.ActionCallTool
		}
	}
	asked := sessionRequest{
		agent: s.AgentID, principal: s.PrincipalUserID, reason: s.TriggerReason, seconds: s.MaxDuration,
	}
	if err := asked.validate(); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{wire.ActionCreateSession, wire.ActionCallTool, wire.ActionDelegate}, s.Action):
		return invalidField("/action", "is %.40q; it must be %s, %s or %s", s.Action, wire.ActionCreateSession, wire.ActionCallTool, wire.ActionDelegate)
	case (s.Action == wire.ActionCallTool) != (s.Tool != nil):
		return invalidField("/tool", "goes with the action %s", wire.ActionCallTool)
	case s.Action == wire.ActionDelegate && s.PrincipalUserID == "":
		return invalidField("/principal_user_id", "is missing: who lends?")
	case len(s.Chain) > 0 && s.ParentToken != "":
		return invalidField("/parent_token", "is given beside chain")
	case len(s.Chain) > 2*identity.MaxChain:
		return invalidField("/chain", "has %d agents; at most %d make sense", len(s.Chain), identity.MaxChain)
	case s.Lends && (len(s.Chain) > 0 || s.ParentToken != ""):
		return invalidField("/lends", "is for the first agent of a chain: a hop acts under its parent's delegation")
	}
	if _, ok := c.view.Agent(s.AgentID); !ok {
		return notFound("agent", s.AgentID)
	}
	c.source = netip.Addr{}
	if s.SourceIP != "" {
		address, err := netip.ParseAddr(s.SourceIP)
		if err != nil {
			return invalidField("/source_ip", "is %.64q; it must be an IP address", s.SourceIP)
		}
		c.source = address
	}
	if !s.Time.IsZero() {
		c.now = s.Time
	}
	var err error
	s.policies, err = a.drafted(c, s.Policies)
	return err
}

// drafted is the policies of the call's state with drafts in their places.
func (a *API) drafted(c *call, drafts []wire.PolicyRequest) (*policy.Set, error) {
	if len(drafts) == 0 {
		return a.policiesOf(c), nil
	}
	if len(drafts) > wire.MaxDrafts {
		return nil, invalidField("/policies", "has %d entries; at most %d are allowed", len(drafts), wire.MaxDrafts)
	}
	seen := map[string]bool{}
	others := make([]*identity.Policy, 0, len(drafts))
	for i := range drafts {
		p, err := policyOf(&drafts[i])
		if err != nil {
			e := *asError(err)
			e.Fields = slices.Clone(e.Fields)
			for j := range e.Fields {
				e.Fields[j].Pointer = fmt.Sprintf("/policies/%d%s", i, e.Fields[j].Pointer)
			}
			return nil, &e
		}
		if seen[p.ID] {
			return nil, invalidField(fmt.Sprintf("/policies/%d/id", i), "is there twice")
		}
		seen[p.ID] = true
		if p.Mode == "" {
			p.Mode = identity.PolicyEnforce
			if current, ok := c.view.Policy(p.ID); ok {
				p.Mode = current.Mode
			}
		}
		others = append(others, &p)
	}
	return a.policiesOf(c).With(others...), nil
}

// simulateSession goes the way of a session from its request to the decision.
func (a *API) simulateSession(c *call, s *simulation) (*policy.Explanation, error) {
	c.request = policy.Request{
		Requested: s.RequestedScopes, Audience: s.Audience, TriggerReason: s.TriggerReason, MaxSeconds: s.MaxDuration,
		Credential: c.caller.credential,
	}
	c.request.Agent, _ = c.view.Agent(s.AgentID)
	switch {
	case s.ParentToken != "":
		claims, err := a.judged(c, []byte(s.ParentToken))
		if err != nil {
			return nil, err
		}
		if claims == nil {
			return nil, invalidField("/parent_token", "is no token of this server, has ended or was revoked")
		}
		c.under(claims.Session(), claims.Handles())
		return a.explainSession(c, s)
	case len(s.Chain) > 0:
		refused, err := a.simulateParents(c, s)
		if refused != nil || err != nil {
			return unreached(s.policies, refused), err
		}
		return a.explainSession(c, s)
	case s.PrincipalUserID == "":
		return a.explainSession(c, s)
	}
	return a.simulateLent(c, s)
}

// simulateLent is simulateSession for a principal.
func (a *API) simulateLent(c *call, s *simulation) (*policy.Explanation, error) {
	asked := sessionRequest{agent: s.AgentID, principal: s.PrincipalUserID, reason: s.TriggerReason, scopes: s.RequestedScopes, seconds: s.MaxDuration}
	lent, refusal := c.view.ActiveDelegation(s.AgentID, s.PrincipalUserID, s.RequestedScopes, c.now)
	c.lent = lent
	mayLend := s.Lends && refusal != nil && (refusal.Code == identity.CodeDelegationMissing || refusal.Code == identity.CodeDelegationExpired)
	renews := s.Lends && refusal == nil && c.mayRenew(&asked, &c.lent.Delegation)
	if mayLend || renews {
		request := asked.delegation(c.request.Agent)
		if renews {
			request.MaxHops = int64(c.lent.Delegation.MaxHops)
			if s.RequestedScopes == "" {
				request.Scopes = c.lent.Delegation.Scopes
			}
		}
		x, err := a.simulateLending(c, s, &request)
		if err != nil || mayLend || x.Allowed {
			return x, err
		}
	}
	if refusal != nil {
		return unreached(s.policies, refusal), nil
	}
	c.request.Principal, c.request.Delegation = c.lent.Principal, &c.lent.Delegation
	return a.explainSession(c, s)
}

// simulateLending is a session under a delegation that would be made for it.
func (a *API) simulateLending(c *call, s *simulation, request *wire.DelegationRequest) (*policy.Explanation, error) {
	provisional, err := c.provisional(request)
	if err != nil {
		return nil, err
	}
	principal := c.lent.Principal
	if principal == nil {
		principal = &identity.Principal{ID: s.PrincipalUserID, Status: identity.StatusActive}
	}
	c.request.Principal, c.request.Delegation = principal, &provisional
	x, err := a.explainSession(c, s)
	if err != nil || !x.Allowed {
		return x, err
	}
	x.Session.Delegation = "" // it would be another one
	switch made := a.explainDelegation(c, s, &provisional); {
	case c.view.ConsentBarred(provisional.Agent, provisional.Principal):
		return unreached(s.policies, identity.Errorf(identity.CodeConsentWithdrawn, "%s withdrew their consent to agent %s", provisional.Principal, provisional.Agent).
			WithHint("only the user or an admin may grant it again")), nil
	case len(made.Diagnostics.Forbidding) > 0:
		return made, nil
	}
	return x, nil
}

// simulateParents makes the sessions that the agents before would have, by the model's own rules.
func (a *API) simulateParents(c *call, s *simulation) (refused *identity.Error, err error) {
	asked := c.request
	for i, name := range s.Chain {
		agent, ok := c.view.Agent(name)
		if !ok {
			return nil, invalidField(fmt.Sprintf("/chain/%d", i), "names agent %.64q, which is not there", name)
		}
		c.request = policy.Request{Agent: agent, Credential: asked.Credential, Parent: c.request.Parent, ParentHandles: c.request.ParentHandles}
		if i == 0 {
			c.request.Parent, c.request.ParentHandles = nil, nil
			if s.PrincipalUserID != "" {
				lent, refusal := c.view.ActiveDelegation(name, s.PrincipalUserID, "", c.now)
				if refusal != nil {
					return refusal, nil
				}
				c.lent = lent
			}
		}
		if s.PrincipalUserID != "" {
			c.request.Principal, c.request.Delegation = c.lent.Principal, &c.lent.Delegation
		}
		next := s.AgentID
		if i+1 < len(s.Chain) {
			next = s.Chain[i+1]
		}
		c.request.Audience = c.shared(agent, next)
		if err := a.prepare(c); err != nil {
			return nil, err
		}
		c.request.Policies = nil
		grant := new(policy.Grant)
		if err := a.Policy.Decide(&c.request, grant); err != nil {
			return asError(err), nil
		}
		c.request.Parent, c.request.ParentHandles = grant.Session(), slices.Clone(grant.Handles())
	}
	asked.Parent, asked.ParentHandles = c.request.Parent, c.request.ParentHandles
	asked.Principal, asked.Delegation = c.request.Principal, c.request.Delegation
	c.request = asked
	return nil, nil
}

// shared are the applications that an agent and the next one of its chain are assigned to.
func (c *call) shared(agent *identity.Agent, next string) (names []string) {
	other, ok := c.view.Agent(next)
	if !ok {
		return nil
	}
	for _, name := range agent.Applications {
		if _, ok := c.view.Application(name); ok && other.AssignedTo(name) {
			names = append(names, name)
		}
	}
	return names
}

// explainSession decides on the call's request with the simulation's policies.
func (a *API) explainSession(c *call, s *simulation) (*policy.Explanation, error) {
	if err := a.prepare(c); err != nil {
		return nil, err
	}
	c.request.Policies = s.policies
	if s.Approved {
		c.request.Approval = approvalOf(s.AgentID, policy.SessionBinding(&c.request), c.now)
	}
	return a.Policy.Explain(&c.request), nil
}

// simulateTool is a tool call under the session that the agent would have, as far as the model goes.
func (a *API) simulateTool(c *call, s *simulation) (*policy.Explanation, error) {
	policies := s.policies
	s.policies = nil
	x, err := a.simulateSession(c, s)
	s.policies = policies
	if err != nil || !x.Allowed {
		return x, err
	}
	r := &policy.ToolRequest{
		Now: c.now, Session: x.Session, Agent: c.request.Agent, Principal: c.request.Principal, SourceIP: c.source,
		Tool:          policy.Tool{Name: s.Tool.Name, Application: s.Tool.ApplicationID, RequiredScope: s.Tool.RequiredScope},
		ArgumentsHash: s.Tool.ArgumentsHash, Applications: viewApplications{c.view}, Policies: policies,
	}
	if s.Approved {
		r.Approval = approvalOf(s.AgentID, policy.ToolBinding(r), c.now)
	}
	return a.Policy.ExplainTool(r), nil
}

func (a *API) simulateDelegation(c *call, s *simulation) (*policy.Explanation, error) {
	agent, _ := c.view.Agent(s.AgentID)
	asked := sessionRequest{principal: s.PrincipalUserID, reason: s.TriggerReason, scopes: s.RequestedScopes, seconds: s.MaxDuration}
	request := asked.delegation(agent)
	request.MaxHops = s.MaxHops
	if s.MaxHops < 0 || s.MaxHops > identity.MaxChain {
		return nil, invalidField("/max_hops", "is %d; it must be between 1 and %d", s.MaxHops, identity.MaxChain)
	}
	if err := a.prepare(c); err != nil {
		return nil, err
	}
	d, err := c.provisional(&request)
	if err != nil {
		return nil, err
	}
	d.Reason = s.TriggerReason
	return a.explainDelegation(c, s, &d), nil
}

func (a *API) explainDelegation(c *call, s *simulation, d *identity.Delegation) *policy.Explanation {
	r, ok := a.delegationRequest(c, d, newcomers{})
	if !ok {
		return unreached(s.policies, notFound("agent", d.Agent))
	}
	r.Policies = s.policies
	if s.Approved {
		r.Approval = approvalOf(d.Agent, policy.DelegationBinding(r), c.now)
	}
	return a.Policy.ExplainDelegation(r)
}

// approvalOf is a human's yes to what the binding stands for.
func approvalOf(agent, binding string, now identity.Instant) *identity.Approval {
	return &identity.Approval{Agent: agent, Binding: binding, Status: identity.ApprovalApproved, Expires: now + 1}
}

// unreached is a refusal that comes before anybody asks a rule or a policy.
func unreached(set *policy.Set, refusal *identity.Error) *policy.Explanation {
	x := &policy.Explanation{Refusal: refusal}
	for _, p := range set.Policies() {
		outcome := policy.OutcomeNotReached
		if p.Mode == identity.PolicyOff {
			outcome = policy.OutcomeOff
		}
		x.Policies = append(x.Policies, policy.PolicyOutcome{Policy: p.ID, Mode: p.Mode, Outcome: outcome})
	}
	return x
}

func showSimulation(action string, x *policy.Explanation) *wire.Simulation {
	shown := &wire.Simulation{
		Action: action, Allowed: x.Allowed, Refusal: showRefusal(x.Refusal), Rules: []wire.RuleOutcome{},
		Policies: showOutcomes(x.Policies), Monitored: entries(x.Diagnostics.Monitored),
	}
	for _, r := range x.Rules {
		shown.Rules = append(shown.Rules, wire.RuleOutcome{Rule: r.Rule, Outcome: string(r.Outcome), Detail: r.Detail})
	}
	if s := x.Session; s != nil {
		shown.Session = &wire.SimulatedSession{
			Scopes: s.Scopes, Audience: entries(s.Audience), Chain: []string{}, DelegationID: s.Delegation,
			ExpiresIn: s.Expires.Unix() - s.Issued.Unix(),
		}
		for _, actor := range s.Chain {
			shown.Session.Chain = append(shown.Session.Chain, actor.Agent)
		}
	}
	return shown
}

func showRefusal(e *identity.Error) *wire.Refusal {
	if e == nil {
		return nil
	}
	return &wire.Refusal{Code: e.Code, Detail: e.Message, Hint: e.Hint, PolicyID: e.Policy}
}

func showOutcomes(outcomes []policy.PolicyOutcome) []wire.PolicyOutcome {
	shown := []wire.PolicyOutcome{}
	for _, p := range outcomes {
		shown = append(shown, wire.PolicyOutcome{
			PolicyID: p.Policy, Mode: p.Mode, Outcome: string(p.Outcome), ApplicationID: p.Application, Detail: p.Detail,
		})
	}
	return shown
}
