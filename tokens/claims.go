package tokens

import (
	"slices"
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// Claims are what a token says. Claims that Verify returned are shared between callers and with the cache:
// they must not be changed. Their strings do not refer to the token's own bytes. Claims made by hand have
// neither handles nor a chain, and no session.
type Claims struct {
	Issuer    string
	Subject   string // the principal, or the first agent of the chain where nobody is behind it
	Audience  []string
	ClientID  string // the agent that acts now
	Scopes    identity.Scopes
	IssuedAt  int64 // seconds since the epoch
	Expires   int64 // seconds since the epoch; the token is dead from then on
	JTI       string
	SessionID string            // ses_…, always "ses_" and the JTI
	Actors    []string          // the `act` chain, outermost and thus newest first
	Ancestry  []identity.Handle // as in `anc`
	AgentType identity.AgentType
	KID       string

	// Confirmation is the thumbprint of the key whose holder alone may use the token (`cnf.jkt`, RFC 9449 section 6):
	// whoever accepts the token must ask for a proof by that key. Empty: whoever bears it may use it.
	Confirmation string

	handles []identity.Handle // Ancestry and, last, the key's handle
	chain   []identity.Actor  // oldest first, at least one
}

// Handles returns every handle that the token rests on: its ancestry and the handle of its signing key. The
// slice is shared and must not be changed.
func (c *Claims) Handles() []identity.Handle { return c.handles }

// Principal returns the id of the human that the token acts for, or "" for an autonomous run.
func (c *Claims) Principal() string {
	if len(c.Actors) == len(c.chain) {
		return c.Subject
	}
	return ""
}

// HasAudience reports whether the token is meant for the audience.
func (c *Claims) HasAudience(uri string) bool { return slices.Contains(c.Audience, uri) }

// ExpiresAt is Expires as an Instant.
func (c *Claims) ExpiresAt() identity.Instant { return identity.Instant(c.Expires * 1000) }

// Session returns the session that the token stands for, as the parent of a next hop or for a record. Its
// trigger reason is empty, because tokens don't carry it, and its times are whole seconds. Its credential is
// that of the newest hop that has one: the first credential or API token in the ancestry.
func (c *Claims) Session() *identity.Session {
	return &identity.Session{
		ID:         c.SessionID,
		Principal:  c.Principal(),
		Chain:      slices.Clone(c.chain),
		AgentType:  c.AgentType,
		Scopes:     c.Scopes,
		Audience:   slices.Clone(c.Audience),
		Delegation: c.first(identity.PrefixDelegation),
		Credential: c.first(identity.PrefixCredential, identity.PrefixAPIToken),

		Confirmation: c.Confirmation,
		Issued:       identity.Instant(c.IssuedAt * 1000),
		Expires:      c.ExpiresAt(),
	}
}

// first returns the first handle in the ancestry that has one of the prefixes.
func (c *Claims) first(prefixes ...string) string {
	for _, h := range c.Ancestry {
		for _, prefix := range prefixes {
			if strings.HasPrefix(string(h), prefix) {
				return string(h)
			}
		}
	}
	return ""
}

const (
	agentPrefix     = "agt_"
	principalPrefix = "usr_"
)

// link derives the chain of agents and holds the claims to each other. A token whose ancestry left out one of
// its actors could not be stopped by stopping that actor, so such a token is refused, whoever signed it.
func (c *Claims) link() error {
	if c.SessionID[len(identity.PrefixSession):] != c.JTI {
		return malformed(`"jti" is not the end of "sid"`)
	}
	if !slices.Contains(c.Ancestry, identity.SessionHandle(c.SessionID)) {
		return malformed(`"anc" lacks the session of "sid"`)
	}
	chain := make([]identity.Actor, 0, identity.MaxChain)
	if c.first(principalPrefix) == "" {
		chain = append(chain, identity.Actor{Agent: c.Subject})
	} else {
		if _, ok := c.generation(principalPrefix, c.Subject); !ok {
			return malformed(`"anc" lacks the principal of "sub"`)
		}
		if c.first(identity.PrefixDelegation) == "" {
			return malformed(`"anc" lacks a delegation of the principal`)
		}
	}
	if len(chain)+len(c.Actors) > identity.MaxChain {
		return malformed("more than %d agents in the chain", identity.MaxChain)
	}
	for _, actor := range slices.Backward(c.Actors) {
		chain = append(chain, identity.Actor{Agent: actor})
	}
	if len(chain) == 0 {
		return malformed(`"act" is missing, but "sub" is a principal`)
	}
	for i := range chain {
		generation, ok := c.generation(agentPrefix, chain[i].Agent)
		if !ok {
			return malformed(`"anc" lacks agent %q`, chain[i].Agent)
		}
		chain[i].Generation = generation
		for _, earlier := range chain[:i] {
			if earlier.Agent == chain[i].Agent {
				return malformed("agent %q is in the chain twice", earlier.Agent)
			}
		}
	}
	if chain[len(chain)-1].Agent != c.ClientID {
		return malformed(`"client_id" is not the current actor`)
	}
	c.chain = chain
	return nil
}

// generation finds the handle of an agent or a principal in the ancestry.
func (c *Claims) generation(prefix, id string) (uint64, bool) {
	for _, h := range c.Ancestry {
		rest, ok := strings.CutPrefix(string(h), prefix)
		if !ok || len(rest) <= len(id) || rest[:len(id)] != id || rest[len(id)] != '#' {
			continue
		}
		// What follows may still be a longer id with a '#' in it; a number it is only for this one.
		if g, err := strconv.ParseUint(rest[len(id)+1:], 10, 64); err == nil {
			return g, true
		}
	}
	return 0, false
}
