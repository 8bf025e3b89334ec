package proofs

import (
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of client assertions.
const (
	// MaxAssertionBytes bounds a client assertion. One by an RSA key of 4096 bits has about 1,200 bytes.
	MaxAssertionBytes = 4 << 10
	// MaxAssertionLifetime is the longest from now, and from iat, to exp: so long must its jti be remembered.
	MaxAssertionLifetime = 5 * time.Minute
	// MaxJTI bounds a jti in bytes.
	MaxJTI = 128
)

// Skew is how far the clock of whoever made a token may be from this one, in either direction.
const Skew = 30 * time.Second

// AssertionRules say what a client assertion (RFC 7523 section 2.2; private_key_jwt of OpenID Connect Core section 9)
// must be.
type AssertionRules struct {
	// ClientID is who must have made it: what AssertionClient returned, or the client_id of the request.
	ClientID string
	// Audiences are the names of this server, of which one must be in aud: its issuer, and the URLs of its endpoints.
	Audiences []string
	// NotBefore, if set, refuses what was issued before it, as a jti that an earlier process saw is forgotten. It is
	// the start of the process, or Skew later to leave no gap for clients whose clocks run ahead.
	NotBefore identity.Instant
}

// Assertion is a client assertion that held.
type Assertion struct {
	ClientID string
	JTI      string
	IssuedAt identity.Instant // zero where it has no iat
	Expires  identity.Instant
	Key      *Key // that signed it
	Set      int  // the place among the sets of keys that Verify was given
}

// assertionUse: clients hardly ever set a typ but "JWT", and may set the one that keeps assertions apart from all
// other tokens (draft-ietf-oauth-rfc7523bis).
func assertionUse() *use {
	return &use{what: "client assertion", maxBytes: MaxAssertionBytes, types: []string{"JWT", "jwt", "client-authentication+jwt"}}
}

// AssertionClient reads which client an assertion is about WITHOUT VERIFYING IT, so that the client's keys can be
// looked up. Errors are *Error, the same ones that Verify gives.
func AssertionClient(token []byte) (clientID string, err error) {
	var t compact
	var c claims
	if err := readAssertion(token, &t, &c); err != nil {
		return "", err
	}
	return c.subject, nil
}

// readAssertion reads all that can be known without a key.
func readAssertion(token []byte, t *compact, c *claims) error {
	if err := t.parse(token, assertionUse()); err != nil {
		return err
	}
	s := scan(t.payload)
	var o object
	s.open('{')
	for {
		name, ok := s.member(&o)
		if !ok {
			break
		}
		switch name {
		case "nonce", "azp", "at_hash", "c_hash", "s_hash", "htm", "htu", "ath", "events", "anc":
			// An ID token, a DPoP proof, a logout token, or one of our own.
			s.refuse(ReasonType, "claim %q does not belong into a client assertion", name)
		default:
			if !c.read(name, &s) {
				s.skip()
			}
		}
	}
	s.end()
	if s.err != nil {
		return within("payload", s.err)
	}
	if err := c.require(claimIssuer | claimSubject | claimAudience | claimExpires | claimJTI); err != nil {
		return err
	}
	switch {
	case c.issuer != c.subject:
		return refuse(ReasonIssuer, `"iss" and "sub" must both be the client's id`)
	case identity.ValidName(c.subject) != nil:
		return refuse(ReasonSubject, `"sub" is no client's id`)
	case len(c.jti) > MaxJTI:
		return malformed(`"jti" has %d bytes; at most %d are allowed`, len(c.jti), MaxJTI)
	}
	return nil
}

// Verify checks the assertion against the client's keys: the sets of all its credentials. Whether its jti has been
// seen is left to Once. Errors are *Error.
func (r *AssertionRules) Verify(token []byte, now identity.Instant, keys ...*Keys) (*Assertion, error) {
	var t compact
	var c claims
	if err := readAssertion(token, &t, &c); err != nil {
		return nil, err
	}
	if c.subject != r.ClientID {
		return nil, refuse(ReasonSubject, `"iss" and "sub" are not the client that asks`)
	}
	key, set, err := t.verify(keys)
	if err != nil {
		return nil, err
	}
	if !c.among(r.Audiences) {
		return nil, refuse(ReasonAudience, `"aud" must be one of %q`, r.Audiences)
	}
	if err := r.inTime(&c, now); err != nil {
		return nil, err
	}
	a := &Assertion{ClientID: c.subject, JTI: c.jti, Expires: instant(c.expires), Key: key, Set: set}
	if c.seen&claimIssuedAt != 0 {
		a.IssuedAt = instant(c.issuedAt)
	}
	return a, nil
}

func (r *AssertionRules) inTime(c *claims, now identity.Instant) error {
	if err := c.inTime(now); err != nil {
		return err
	}
	if instant(c.expires) > now.Add(MaxAssertionLifetime+Skew) {
		return refuse(ReasonLifetime, `"exp" may be at most %s ahead`, MaxAssertionLifetime)
	}
	if c.seen&claimIssuedAt == 0 {
		if r.NotBefore.IsZero() {
			return nil
		}
		return refuse(ReasonMissing, `claim "iat" is missing`)
	}
	switch issued := instant(c.issuedAt); {
	case instant(c.expires) > issued.Add(MaxAssertionLifetime):
		return refuse(ReasonLifetime, `"exp" may be at most %s after "iat"`, MaxAssertionLifetime)
	case issued < r.NotBefore:
		return refuse(ReasonBeforeStart, "it was issued at %s, before this server started, %s; make a new one", issued, r.NotBefore)
	}
	return nil
}

// Once reports, by an error, an assertion that was presented before, or one that can't be remembered.
func (a *Assertion) Once(memory *Replay, now identity.Instant) error {
	return memory.once(ReplayKey("assertion", a.ClientID, a.JTI), a.Expires.Add(Skew), now)
}
