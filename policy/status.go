package policy

import "github.com/deputy-id/deputy/identity"

// checkStatus: only an active agent acts, and only for an active principal. Whatever is not "active" refuses,
// so that a status which a newer node may write is never taken for a yes.
func checkStatus(r *Request) *identity.Error { return statusOf(r.Agent, r.Principal) }

func statusOf(a *identity.Agent, p *identity.Principal) *identity.Error {
	switch a.Status {
	case identity.StatusActive:
	case identity.StatusSuspended:
		return identity.Errorf(identity.CodeAgentSuspended, "agent %q is suspended", a.Name).
			WithHint("an operator lifts it with POST /api/v1/agents/%s/lifecycle/activate", a.Name)
	default:
		return identity.Errorf(identity.CodeAgentDeactivated, "agent %q is %s", a.Name, inWords(a.Status)).
			WithHint("an operator brings it back with POST /api/v1/agents/%s/lifecycle/activate", a.Name)
	}
	if p != nil && p.Status != identity.StatusActive {
		return identity.Errorf(identity.CodePrincipalSuspended, "principal %q is %s, so no agent may act for them", p.ID, inWords(p.Status)).
			WithHint("an operator lifts it with PATCH /api/v1/principals/%s", p.ID)
	}
	return nil
}

func inWords(s identity.Status) string {
	if s == "" {
		return "not active"
	}
	return string(s)
}
