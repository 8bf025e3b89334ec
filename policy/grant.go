package policy

import "github.com/deputy-id/deputy/identity"

// Grant is a decision that an agent gets a session. Only Engine.Decide makes valid ones: the zero Grant, a copy of
// a Grant and one that was refused are not valid and mint nothing.
//
// A Grant is room for one decision after another, so that a server which keeps one beside each request decides
// without garbage. What Session and Handles return lies in it and lasts until the next Decide; the strings in
// there may be kept.
type Grant struct {
	self    *Grant // itself once all rules agreed: a copy would share the arrays below with the original
	session identity.Session
	handles []identity.Handle
	offline bool // somebody in the audience verifies offline

	applications []*identity.Application // of the audience, while it is being decided
	diagnostics  Diagnostics
	judged       bool // the policies were asked

	// The slices of a decision start out on these arrays, sized so that common requests never outgrow them.
	chainSpace    [identity.MaxChain]identity.Actor
	audienceSpace [4]string
	appSpace      [4]*identity.Application
	policySpace   [4]string
	handleSpace   [identity.MaxChain * handlesPerHop]identity.Handle
}

// handlesPerHop is how many handles one hop brings at most: session, delegation, agent, principal,
// credential or API token, and for a parent the key that its token was signed with.
const handlesPerHop = 6

// Valid reports whether the grant comes from Decide.
func (g *Grant) Valid() bool { return g.self == g && g.self != nil }

// Session is what was granted, or nil if the grant is not valid. The caller must not change it.
func (g *Grant) Session() *identity.Session {
	if !g.Valid() {
		return nil
	}
	return &g.session
}

// Handles lists every handle that the session rests on, its own first, without repeats; those of the parent
// are among them. It does not hold the signing key's, which is known only at mint. The caller must not
// change it.
func (g *Grant) Handles() []identity.Handle {
	if !g.Valid() {
		return nil
	}
	return g.handles
}

// Diagnostics tell which policies had a say in the last decision, also where it was a refusal. What they hold lasts
// until the next Decide.
func (g *Grant) Diagnostics() *Diagnostics { return &g.diagnostics }
