package api

import (
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// newcomers are what the same request makes besides, which no view has yet.
type newcomers struct {
	agents     map[string]*identity.Agent
	principals map[string]*identity.Principal
}

// decideDelegation asks the policies whether a delegation may be made. What the model itself has to say of it, Apply
// does, as of whether there are such an agent and such a principal.
func (a *API) decideDelegation(c *call, d *identity.Delegation, besides newcomers) error {
	r, ok := a.delegationRequest(c, d, besides)
	if !ok {
		return nil
	}
	decision, err := a.Policy.DecideDelegation(r)
	if err != nil && len(decision.Forbidding) == 0 {
		return nil
	}
	a.hits.note(&decision.Diagnostics, hit{d.Agent, d.Scopes, c.now})
	return err
}

// delegationRequest is what policies are asked about a delegation, if there is its agent. A principal that is not there
// may be made along with it.
func (a *API) delegationRequest(c *call, d *identity.Delegation, besides newcomers) (*policy.DelegationRequest, bool) {
	agent, ok := c.view.Agent(d.Agent)
	if !ok {
		if agent, ok = besides.agents[d.Agent]; !ok {
			return nil, false
		}
	}
	principal, ok := c.view.Principal(d.Principal)
	if !ok {
		principal, ok = besides.principals[d.Principal]
	}
	if !ok {
		principal = &identity.Principal{ID: d.Principal, Status: identity.StatusActive}
	}
	return &policy.DelegationRequest{
		Now: c.now, Principal: principal, Agent: agent, Scopes: d.Scopes, Seconds: int64(d.Expires-d.Created) / 1000, MaxHops: d.MaxHops,
		Reason: d.Reason, SourceIP: c.source, Policies: a.policiesOf(c),
	}, true
}
