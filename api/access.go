package api

import (
	"fmt"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const (
	// accessDelegations bounds how many of an agent's delegations one answer looks at.
	accessDelegations = 1000
	// accessSources bounds how many of them are listed for one scope.
	accessSources = 20
)

// agentAccess says which scopes an agent can have right now, where each comes from, and what stands in the way
// of the rest. It follows the rules of package policy, one agent's worth of them.
func (a *API) agentAccess(c *call) error {
	agent, err := c.agent()
	if err != nil {
		return err
	}
	delegations := c.view.Delegations(fsm.DelegationFilter{Agent: agent.Name, ActiveAt: c.now}, "", accessDelegations+1)
	access := wire.Access{
		AgentID: agent.Name, AgentType: string(agent.Type), Status: agent.Status,
		Applications: entries(agent.Applications), Scopes: []wire.ScopeAccess{}, Policies: []wire.AccessPolicy{},
		Truncated: len(delegations) > accessDelegations,
	}
	delegations = delegations[:min(len(delegations), accessDelegations)]
	for scope := range agent.DefaultScopes.All() {
		s := wire.ScopeAccess{Scope: scope, From: []wire.ScopeSource{}}
		if agent.Type != identity.AgentUserDelegated {
			s.From = append(s.From, wire.ScopeSource{Kind: wire.FromDefaultScopes})
		}
		for _, d := range delegations {
			if !d.Scopes.Contains(scope) {
				continue
			}
			if len(s.From) > accessSources {
				access.Truncated = true
				break
			}
			s.From = append(s.From, wire.ScopeSource{
				Kind: wire.FromDelegation, DelegationID: d.ID, PrincipalID: d.Principal, ExpiresAt: d.Expires,
			})
		}
		if application, owned := c.view.ApplicationOwning(scope); owned {
			s.Application = application.Name
		}
		s.Because = obstacle(agent, &s)
		s.Usable = s.Because == ""
		access.Scopes = append(access.Scopes, s)
	}
	for _, p := range a.policiesOf(c).Concerning(agent.Type) {
		access.Policies = append(access.Policies, wire.AccessPolicy{
			PolicyID: p.Policy.ID, Description: p.Policy.Description, Mode: p.Policy.Mode, Actions: p.Actions,
		})
	}
	return c.answer(fasthttp.StatusOK, access)
}

// obstacle says why no session could have the scope now, or nothing.
func obstacle(agent *identity.Agent, s *wire.ScopeAccess) string {
	switch {
	case agent.Status != identity.StatusActive:
		return fmt.Sprintf("the agent is %s", agent.Status)
	case s.Application != "" && !agent.AssignedTo(s.Application):
		return fmt.Sprintf("the agent is not assigned to application %s, which owns the scope", s.Application)
	case len(s.From) == 0:
		return "the agent acts for users only, and no active delegation lends the scope"
	}
	return ""
}
