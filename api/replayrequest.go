package api

import (
	"strings"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// decision decides on a request with some policies. The error says that there is none.
type decision func(*policy.Set) (*identity.Error, policy.Diagnostics, error)

// skipped is why a record can't be decided again.
type skipped struct{ reason, detail string }

var (
	irrelevant   = skipped{"irrelevant", "it is about nothing that policies decide"}
	asItWas      = skipped{}
	isCut        = skipped{"cut", "the record had to leave out a part of what was asked"}
	isElsewhere  = skipped{"decided-elsewhere", "an enforcement point has decided by itself, and asked no policy"}
	noDelegation = skipped{"not-recorded", "the trail does not tell what was to be lent"}
	noParent     = skipped{"not-recorded", "the trail does not tell what the parent session had"}
	noWish       = skipped{"not-recorded", "the trail does not tell which scopes the delegation had"}
)

func gone(what string) skipped { return skipped{"gone", "the " + what + " is not there any more"} }

// again makes of a record the request that it was. Both results are empty where no policy had a part in a denial.
func (r *replay) again(e *audit.Entry) (decision, skipped) {
	switch {
	case e.Kind == audit.KindAdmin && e.Action != lendRoute.Name && e.Action != "createDelegation" && e.Action != "bulk":
		return nil, irrelevant
	case e.Kind == audit.KindTool:
		return nil, isElsewhere
	case e.Decision == audit.Denied && !byPolicy(identity.Code(e.Reason)):
		return nil, asItWas
	case e.Cut:
		return nil, isCut
	}
	r.c.now, r.c.source, r.c.granted = e.Time, e.SourceIP, nil
	switch e.Kind {
	case audit.KindAdmin:
		return r.delegation(e)
	case audit.KindEvaluate:
		return r.evaluation(e)
	}
	return r.session(e)
}

// session is a session that was asked for. That the delegation and the parent have let it through, the record itself
// proves: as far as policies can tell, they are as it says.
func (r *replay) session(e *audit.Entry) (decision, skipped) {
	agent, ok := r.c.view.Agent(e.Agent)
	if !ok {
		return nil, gone("agent")
	}
	if issued, err := idTime(identity.PrefixSession, e.Session); err == nil {
		r.c.now = issued // to the millisecond; the record was queued a little later
	}
	wish := policy.Request{Agent: agent, Credential: e.Credential, Requested: identity.Scopes(e.Scope), TriggerReason: e.Detail}
	if e.Expires > r.c.now {
		wish.MaxSeconds = int64(e.Expires-r.c.now+999) / 1000
	}
	if e.Decision == audit.Allowed {
		wish.MaxSeconds = max(int64(e.Expires-r.c.now)/1000, 1)
	}
	issuer := r.c.view.Settings().Issuer
	for _, uri := range e.Audience {
		if uri != issuer {
			wish.Audience = append(wish.Audience, uri)
		}
	}
	chain := agentsOf(e)
	if len(chain) > 1 {
		if e.Scope == "" || len(e.Audience) == 0 || e.Target == "" {
			return nil, noParent
		}
		parent := &identity.Session{
			ID: e.Target, Chain: chain[:len(chain)-1], Scopes: wish.Requested, Audience: e.Audience, Expires: max(e.Expires, r.c.now+identity.MaxSessionSeconds*1000),
			Delegation: e.Delegation,
		}
		if e.Principal != audit.Autonomous {
			parent.Principal = e.Principal
		}
		wish.Parent, wish.ParentHandles = parent, []identity.Handle{identity.SessionHandle(parent.ID)}
	}
	if e.Principal != audit.Autonomous {
		if skip := r.lent(e, &wish, chain); skip != asItWas {
			return nil, skip
		}
	}
	return r.decideSession(e, wish), asItWas
}

// lent fills in for whom a session was, and under what.
func (r *replay) lent(e *audit.Entry, wish *policy.Request, chain []identity.Actor) (skip skipped) {
	var ok bool
	if wish.Principal, ok = r.c.view.Principal(e.Principal); !ok {
		return gone("principal")
	}
	if e.Scope == "" {
		return noWish
	}
	wish.Delegation = &identity.Delegation{
		ID: e.Delegation, Principal: e.Principal, Agent: chain[0].Agent, Scopes: wish.Requested, Status: identity.DelegationActive,
		Created: r.c.now, Expires: r.c.now + identity.MaxDelegationSeconds*1000, MaxHops: identity.MaxChain,
	}
	return asItWas
}

// agentsOf are the agents of a record's chain, the first one first.
func agentsOf(e *audit.Entry) (chain []identity.Actor) {
	for _, link := range e.Chain {
		if link.Agent != "" {
			chain = append(chain, identity.Actor{Agent: link.Agent})
		}
	}
	if len(chain) == 0 {
		chain = append(chain, identity.Actor{Agent: e.Agent})
	}
	return chain
}

// approved reports whether a human's yes was a part of what was allowed.
func approved(e *audit.Entry) bool { return e.Approval != "" && e.Decision == audit.Allowed }

func (r *replay) decideSession(e *audit.Entry, wish policy.Request) decision {
	return func(set *policy.Set) (*identity.Error, policy.Diagnostics, error) {
		r.c.request = wish
		if err := r.prepare(r.c); err != nil {
			return nil, policy.Diagnostics{}, err
		}
		r.c.request.Policies = set
		if approved(e) {
			r.c.request.Approval = approvalOf(wish.Agent.Name, policy.SessionBinding(&r.c.request), r.c.now)
		}
		err := r.Policy.Decide(&r.c.request, &r.grant)
		return refusalAgain(err), *r.grant.Diagnostics(), nil
	}
}

// refusalAgain is the refusal of a request that was made of a record. One that makes no sense, or that breaks something, is a
// reason to tell the record apart, and not to break off.
func refusalAgain(err error) *identity.Error {
	if err == nil {
		return nil
	}
	return asError(err)
}

// evaluation is a question that the decision point was asked.
func (r *replay) evaluation(e *audit.Entry) (decision, skipped) {
	name, ok := strings.CutPrefix(e.Target, "applications/")
	if !ok {
		return nil, asItWas // it was about nothing that is known here
	}
	application, ok := r.c.view.Application(name)
	if !ok {
		return nil, gone("application")
	}
	agent, ok := r.c.view.Agent(e.Agent)
	if !ok {
		return nil, gone("agent")
	}
	tool := &policy.ToolRequest{
		Agent: agent, SourceIP: e.SourceIP, ArgumentsHash: e.ArgumentsHash,
		Tool: policy.Tool{Name: e.Tool, Application: application.Name, RequiredScope: e.RequiredScope},
	}
	var principal *identity.Principal
	if e.Principal != audit.Autonomous {
		if principal, ok = r.c.view.Principal(e.Principal); !ok {
			return nil, gone("principal")
		}
	}
	tool.Now, tool.Principal, tool.Applications = r.c.now, principal, viewApplications{r.c.view}
	if e.Session != "" {
		chain := agentsOf(e)
		chain[len(chain)-1].Generation = agent.Generation // it was of the generation of then
		tool.Session = &identity.Session{
			ID: e.Session, Chain: chain, Scopes: identity.Scopes(e.Scope), Audience: e.Audience, Delegation: e.Delegation,
			Expires: e.Expires, AgentType: e.AgentType,
		}
		if principal != nil {
			tool.Session.Principal = principal.ID
		}
		return r.decideTool(e, tool), asItWas
	}
	wish := policy.Request{Agent: agent, Audience: []string{application.Name}, Requested: identity.Scopes(e.RequiredScope)}
	if principal != nil {
		lent, refusal := r.c.view.ActiveDelegation(agent.Name, principal.ID, wish.Requested, r.c.now)
		if refusal != nil {
			return nil, skipped{string(refusal.Code), "no delegation would let the agent act for the principal today"}
		}
		wish.Principal, wish.Delegation = principal, &lent.Delegation
	}
	return r.decideAsAgent(e, wish, tool), asItWas
}

func (r *replay) decideTool(e *audit.Entry, request *policy.ToolRequest) decision {
	return func(set *policy.Set) (*identity.Error, policy.Diagnostics, error) {
		request.Policies, request.Approval = set, nil
		if approved(e) {
			request.Approval = approvalOf(request.Agent.Name, policy.ToolBinding(request), request.Now)
		}
		d, err := r.Policy.DecideTool(request)
		return refusalAgain(err), d.Diagnostics, nil
	}
}

// decideAsAgent decides on the session that the agent would get, and on the tool that is called under it.
func (r *replay) decideAsAgent(e *audit.Entry, wish policy.Request, tool *policy.ToolRequest) decision {
	session := r.decideSession(e, wish)
	if e.Action != wire.ActionCallTool {
		return session
	}
	return func(set *policy.Set) (*identity.Error, policy.Diagnostics, error) {
		if refusal, d, err := session(set); refusal != nil || err != nil {
			return refusal, d, err
		}
		tool.Session = r.grant.Session()
		return r.decideTool(e, tool)(set)
	}
}

// delegation is one that was made, and is still there to tell what was lent.
func (r *replay) delegation(e *audit.Entry) (decision, skipped) {
	id, made := strings.CutPrefix(e.Target, "delegations/")
	if e.Decision != audit.Allowed || e.Outcome != audit.Success || e.Action == "bulk" || !made {
		return nil, noDelegation
	}
	d, ok := r.c.view.Delegation(id)
	if !ok {
		return nil, gone("delegation")
	}
	e.Agent, e.Principal, e.Scope = d.Agent, d.Principal, string(d.Scopes) // the record is of who made it
	asked := *d
	if at, err := idTime(identity.PrefixDelegation, id); err == nil {
		r.c.now, asked.Created = at, at
	}
	request, ok := r.delegationRequest(r.c, &asked, newcomers{})
	if !ok {
		return nil, gone("agent")
	}
	return func(set *policy.Set) (*identity.Error, policy.Diagnostics, error) {
		request.Policies = set
		d, err := r.Policy.DecideDelegation(request)
		return refusalAgain(err), d.Diagnostics, nil
	}, asItWas
}
