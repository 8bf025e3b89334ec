package policy

import (
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// narrowScopes: a session gets no scope outside of the agent's defaults, the delegation, and the parent
// session. Scopes that were asked for by name are refused where one lies outside, never left out silently;
// a caller that names none gets all that the three have in common.
func narrowScopes(r *Request, g *Grant) *identity.Error {
	if r.Requested == "" {
		return commonScopes(r, g)
	}
	if scope := r.Requested.FirstOutside(r.Agent.DefaultScopes); scope != "" {
		return identity.Errorf(identity.CodeScopeNotAllowed, "scope %q is not among the default scopes of agent %q", scope, r.Agent.Name).
			WithHint("ask for fewer scopes, or add it to default_scopes with PATCH /api/v1/agents/%s", r.Agent.Name)
	}
	if d := r.Delegation; d != nil {
		if scope := r.Requested.FirstOutside(d.Scopes); scope != "" {
			return identity.Errorf(identity.CodeScopeNotAllowed, "scope %q is not covered by delegation %s of %q", scope, d.ID, d.Principal).
				WithHint("ask for fewer scopes, or have %q grant it with POST /api/v1/delegations", d.Principal)
		}
	}
	if p := r.Parent; p != nil {
		if scope := r.Requested.FirstOutside(p.Scopes); scope != "" {
			return identity.Errorf(identity.CodeScopeNotAllowed, "scope %q is not among those of the parent session %s; a hop may only narrow", scope, p.ID).
				WithHint("ask for fewer scopes, or exchange a parent token that has it")
		}
	}
	g.session.Scopes = r.Requested
	return nil
}

// commonScopes may end empty only for an agent that has no scopes to begin with: any other caller would get
// a token that is good for nothing and find out late.
func commonScopes(r *Request, g *Grant) *identity.Error {
	scopes := r.Agent.DefaultScopes
	if r.Delegation != nil {
		scopes = intersect(scopes, r.Delegation.Scopes)
	}
	if r.Parent != nil {
		scopes = intersect(scopes, r.Parent.Scopes)
	}
	if scopes == "" && r.Agent.DefaultScopes != "" {
		return identity.Errorf(identity.CodeScopeNotAllowed, "agent %q has no scope in common with the delegation and parent session that it acts under", r.Agent.Name).
			WithHint("compare GET /api/v1/agents/%s/access with what was delegated", r.Agent.Name)
	}
	g.session.Scopes = scopes
	return nil
}

// intersect allocates only where neither set holds the other.
func intersect(a, b identity.Scopes) identity.Scopes {
	switch {
	case a.SubsetOf(b):
		return a
	case b.SubsetOf(a):
		return b
	}
	var common strings.Builder
	for name := range a.All() {
		if !b.Contains(name) {
			continue
		}
		if common.Len() > 0 {
			common.WriteByte(' ')
		}
		common.WriteString(name) // in order, as a is
	}
	return identity.Scopes(common.String())
}
