package tokens

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// VerifierOptions are what a Verifier is made of.
type VerifierOptions struct {
	// Keys returns the keys of all nodes at this moment.
	Keys func() *Keyring
	// Checker is asked about every handle of every token, as the last thing before a yes.
	Checker Checker
	// Issuer returns the `iss` that tokens must have at this moment.
	Issuer func() string
	// Now is the clock.
	Now func() identity.Instant
	// Leeway is how long after its exp a token is still accepted; zero for the nodes of a cluster, up to
	// MaxLeeway for a verifier whose clock is not theirs.
	Leeway time.Duration
	// Cache, if any, spares the signature of tokens seen before.
	Cache *Cache
}

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	options VerifierOptions // unexported, so that nobody can take the checker away
}

// NewVerifier fails where anything but the cache is missing.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	switch {
	case o.Keys == nil:
		return nil, errors.New("tokens: VerifierOptions.Keys is missing")
	case o.Checker == nil:
		return nil, errors.New("tokens: VerifierOptions.Checker is missing: no token is good without asking about revocations")
	case o.Issuer == nil:
		return nil, errors.New("tokens: VerifierOptions.Issuer is missing")
	case o.Now == nil:
		return nil, errors.New("tokens: VerifierOptions.Now is missing")
	case o.Leeway < 0 || o.Leeway > MaxLeeway:
		return nil, fmt.Errorf("tokens: VerifierOptions.Leeway is %s; it must be between 0 and %s", o.Leeway, MaxLeeway)
	}
	return &Verifier{options: o}, nil
}

// Verify returns the claims of a token that is good now, or a *VerifyError. Whether it is meant for the one
// who asks is the caller's to check: see Claims.HasAudience.
//
// It looks, in this order, at the form, the key, the signature, the times, the issuer and every handle. Form
// and signature of the same bytes are checked once while the cache remembers them; all else every time. A
// token that is remembered costs no allocation.
func (v *Verifier) Verify(token []byte) (*Claims, error) {
	claims, err := v.authentic(token)
	if err != nil {
		return nil, err
	}
	if err := v.judge(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// authentic returns the claims of a token that one of the keys signed.
func (v *Verifier) authentic(token []byte) (*Claims, error) {
	if len(token) > MaxTokenBytes {
		return nil, tooLong(len(token))
	}
	var d digest
	var claims *Claims
	var signed bool
	if v.options.Cache != nil {
		d = sha256.Sum256(token)
		claims, signed = v.options.Cache.find(&d)
	}
	keys := v.options.Keys()
	if claims != nil {
		if !keys.Has(claims.KID) {
			return nil, unknownKey(claims.KID)
		}
		return claims, nil
	}
	t, err := parse(token)
	if err != nil {
		return nil, err
	}
	key := keys.key(t.claims.KID)
	if key == nil {
		return nil, unknownKey(t.claims.KID)
	}
	if !signed && !ed25519.Verify(key, t.signed, t.signature[:]) {
		return nil, &VerifyError{Reason: ReasonSignature, Detail: "key " + t.claims.KID + " did not sign it"}
	}
	v.options.Cache.add(&d, t.claims)
	return t.claims, nil
}

func unknownKey(kid string) *VerifyError {
	return &VerifyError{Reason: ReasonUnknownKey, Detail: "no node has key " + kid}
}

// judge decides what can change from one moment to the next. The handles come last, so that nothing done here
// can make the answer about them older.
func (v *Verifier) judge(c *Claims) error {
	refuse := func(reason Reason, format string, args ...any) error {
		return &VerifyError{Reason: reason, Detail: fmt.Sprintf(format, args...), Claims: c}
	}
	if c.Expires <= c.IssuedAt || c.Expires-c.IssuedAt > identity.MaxSessionSeconds {
		return refuse(ReasonLifetime, "it lives %d seconds; 1 to %d are allowed", c.Expires-c.IssuedAt, identity.MaxSessionSeconds)
	}
	now := v.options.Now()
	if issued := identity.Instant(c.IssuedAt * 1000); issued > now.Add(MaxSkew) {
		return refuse(ReasonNotYet, "it was issued at %s, and it is %s here", issued, now)
	}
	if expires := c.ExpiresAt(); now >= expires.Add(v.options.Leeway) {
		return refuse(ReasonExpired, "it ended at %s, and it is %s here", expires, now)
	}
	if issuer := v.options.Issuer(); c.Issuer != issuer {
		return refuse(ReasonIssuer, "its issuer is %q; it must be %q", c.Issuer, issuer)
	}
	if v.options.Checker.Revoked(c.handles...) {
		return v.revoked(c)
	}
	return nil
}

// revoked names the handle that killed the token.
func (v *Verifier) revoked(c *Claims) error {
	e := &VerifyError{Reason: ReasonRevoked, Claims: c}
	for i := range c.handles {
		if v.options.Checker.Revoked(c.handles[i]) {
			e.Handle = c.handles[i]
			e.Detail = "handle " + string(e.Handle) + " is revoked"
			break
		}
	}
	return e
}
