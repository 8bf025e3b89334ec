package policy

import (
	"github.com/deputy-id/deputy/identity"
)

// joinChain: a chain holds at most identity.MaxChain agents, none of them twice, and a hop stays with the
// principal of its parent, or without one where the parent has none.
//
// How many agents may rest on the delegation is the delegation's rule.
func joinChain(r *Request, g *Grant) *identity.Error {
	g.session.Chain = g.chainSpace[:0]
	if r.Parent != nil {
		if err := checkParent(r); err != nil {
			return err
		}
		g.session.Chain = append(g.session.Chain, r.Parent.Chain...)
	}
	g.session.Chain = append(g.session.Chain, identity.Actor{Agent: r.Agent.Name, Generation: r.Agent.Generation})
	return nil
}

func checkParent(r *Request) *identity.Error {
	for _, actor := range r.Parent.Chain {
		if actor.Agent == r.Agent.Name {
			return identity.Errorf(identity.CodeChainCycle, "agent %q already acts in the parent session", r.Agent.Name).
				WithHint("exchange the token as another agent, or go on with the one that agent %q has", r.Agent.Name)
		}
	}
	if len(r.Parent.Chain) >= identity.MaxChain {
		return identity.Errorf(identity.CodeChainTooLong, "the parent session already has %d agents in its chain, the most there may be", len(r.Parent.Chain)).
			WithHint("start from the session of the first agent, %q", r.Parent.Chain[0].Agent)
	}
	switch principal := r.Parent.Principal; {
	case principal == "" && r.Principal != nil:
		return identity.Errorf(identity.CodeDelegationMissing, "the parent session is autonomous, and a hop can't add the principal %q", r.Principal.ID).
			WithHint("start a session for the principal under a delegation of their own")
	case principal != "" && r.Principal == nil:
		return identity.Errorf(identity.CodeDelegationMissing, "the parent session acts for %q, who is not there any more", principal).
			WithHint("start a new session")
	case principal != "" && r.Principal.ID != principal:
		return identity.Errorf(identity.CodeDelegationMissing, "the parent session acts for %q, and a hop can't change that to %q", principal, r.Principal.ID).
			WithHint("start a session for %q under a delegation of their own", r.Principal.ID)
	}
	return nil
}
