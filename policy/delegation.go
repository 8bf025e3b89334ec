package policy

import "github.com/deputy-id/deputy/identity"

// checkDelegation: who acts for a principal does so under a delegation of that principal to the first agent
// of the chain, active now, for no more agents than it says. A hop rests on its parent's very delegation.
func checkDelegation(r *Request, g *Grant) *identity.Error {
	if r.Principal == nil {
		if r.Agent.Type == identity.AgentUserDelegated {
			return identity.Errorf(identity.CodeDelegationMissing, "agent %q is %s: it acts only for a principal", r.Agent.Name, r.Agent.Type).
				WithHint("name the principal (principal_user_id), or exchange a subject_token for them")
		}
		return nil
	}

	d, principal, first := r.Delegation, r.Principal.ID, g.session.Chain[0].Agent
	if d == nil || d.Principal != principal || d.Agent != first || (r.Parent != nil && d.ID != r.Parent.Delegation) {
		return identity.Errorf(identity.CodeDelegationMissing, "no delegation lets agent %q act for %q in this session", first, principal).
			WithHint("%q grants one with POST /api/v1/delegations", principal)
	}
	if d.Status != identity.DelegationActive {
		return identity.Errorf(identity.CodeDelegationWithdrawn, "delegation %s of %q to agent %q was withdrawn", d.ID, principal, first).
			WithHint("only %q or an admin may grant again, with POST /api/v1/delegations", principal)
	}
	if !d.ActiveAt(r.Now) {
		return delegationEnded(d, "ended at %s", d.Expires)
	}
	if len(g.session.Chain) > int(d.MaxHops) {
		return identity.Errorf(identity.CodeChainTooLong, "delegation %s allows %d agents in a chain, and %q would be number %d", d.ID, d.MaxHops, r.Agent.Name, len(g.session.Chain)).
			WithHint("grant a delegation with a higher max_hops, at most %d, with POST /api/v1/delegations", identity.MaxChain)
	}
	g.session.Principal = principal
	g.session.Delegation = d.ID
	return nil
}

func delegationEnded(d *identity.Delegation, how string, args ...any) *identity.Error {
	return identity.Errorf(identity.CodeDelegationExpired, "delegation %s of %q to agent %q "+how, append([]any{d.ID, d.Principal, d.Agent}, args...)...).
		WithHint("%q grants a new one with POST /api/v1/delegations", d.Principal)
}
