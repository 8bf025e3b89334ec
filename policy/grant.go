package policy

import "github.com/deputy-id/deputy/identity"

// Grant is a decision that an agent gets a session. Only Engine.Decide makes valid ones; the zero Grant is
// not valid and mints nothing. It is immutable and cheap to copy.
type Grant struct{ g *grant }

// Valid reports whether the grant comes from Decide.
func (g *Grant) Valid() bool { return g.g != nil }

// Session is what was granted, or nil if the grant is not valid. The caller must not change it.
func (g *Grant) Session() *identity.Session {
	if g.g == nil {
		return nil
	}
	return &g.g.session
}

// Handles lists every handle that the session rests on, its own first, without repeats; those of the parent
// are among them. It does not hold the signing key's, which is known only at mint. The caller must not
// change it.
func (g *Grant) Handles() []identity.Handle {
	if g.g == nil {
		return nil
	}
	return g.g.handles
}

// handlesPerHop is how many handles one hop brings at most: session, delegation, agent, principal,
// credential or API token, and for a parent the key that its token was signed with.
const handlesPerHop = 6

// grant keeps a whole decision in one allocation: the slices in it start out on its own arrays, sized so
// that common requests never outgrow them.
type grant struct {
	session identity.Session
	handles []identity.Handle
	offline bool // somebody in the audience verifies offline

	chainSpace    [identity.MaxChain]identity.Actor
	audienceSpace [4]string
	handleSpace   [identity.MaxChain * handlesPerHop]identity.Handle
}
