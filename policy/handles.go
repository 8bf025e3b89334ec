package policy

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// maxParentHandles bounds what a parent may bring along.
const maxParentHandles = (identity.MaxChain - 1) * handlesPerHop

// listHandles: a session rests on itself, the delegation, the agent, the principal, the credential or API
// token that asked for it, and on all that its parent rests on. Revoking any of them ends it.
//
// The parent's handles should include that of its signing key: a token forged with a stolen key could else be
// exchanged for one that outlives the revocation of the key.
func listHandles(r *Request, g *Grant) *identity.Error {
	s := &g.session
	g.handles = append(g.handleSpace[:0], identity.SessionHandle(s.ID))
	if s.Delegation != "" {
		g.addHandle(identity.DelegationHandle(s.Delegation))
	}
	g.addHandle(r.Agent.Handle())
	if r.Principal != nil {
		g.addHandle(r.Principal.Handle())
	}
	if s.Credential != "" {
		g.addHandle(identity.CredentialHandle(s.Credential))
	}
	if r.Parent == nil {
		return nil
	}
	// A hop that lost its ancestry would survive the revocation of its parent.
	if !slices.Contains(r.ParentHandles, identity.SessionHandle(r.Parent.ID)) {
		return identity.Errorf(identity.CodeInternal, "BUG: session request without the handle of its parent session")
	}
	if len(r.ParentHandles) > maxParentHandles {
		return identity.Errorf(identity.CodeInternal, "BUG: parent session with %d handles; at most %d can be", len(r.ParentHandles), maxParentHandles)
	}
	for _, h := range r.ParentHandles {
		g.addHandle(h)
	}
	return nil
}

func (g *Grant) addHandle(h identity.Handle) {
	if !slices.Contains(g.handles, h) {
		g.handles = append(g.handles, h)
	}
}
