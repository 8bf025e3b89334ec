package api

import (
	"errors"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/proofs"
)

// user is who an ID token speaks of.
type user struct {
	Principal string
	token     *proofs.IDToken
}

// allows reports whether the agent may act for the user by this token (RFC 8693 section 4.4).
func (u *user) allows(issuer, agent string) bool {
	return u.token.MayAct == nil || u.token.MayAct.Allows(issuer, agent)
}

// proveUser verifies an ID token of a trusted issuer (OpenID Connect Core section 3.1.3.7). Refusals say why: whoever
// shows the token has it anyway, and has to mend something.
func (a *API) proveUser(c *call, token []byte, nonce string) (user, error) {
	c.consulted = true
	name, err := proofs.IDTokenIssuer(token)
	if err != nil {
		return user{}, badIDToken(err)
	}
	issuer, ok := c.view.TrustedIssuerByURL(name)
	if !ok {
		return user{}, identity.Errorf(identity.CodeSubjectInvalid, "the ID token is of an issuer that is not trusted").
			WithHint("an admin adds it with `deputy trusted-issuer add`")
	}
	keys, id := keySets{}, (*proofs.IDToken)(nil)
	if err := a.add(&keys, issuer.Keys, sourceOf(issuer)); err != nil {
		return user{}, err
	}
	err = a.verify(&keys, func(sets []*proofs.Keys) (err error) {
		rules := proofs.IDTokenRules{
			Issuer: issuer.Issuer, Audiences: issuer.Clients, MaxAge: time.Duration(issuer.MaxAge) * time.Second, Nonce: nonce,
		}
		id, err = rules.Verify(token, c.now, sets[0])
		return err
	})
	if err != nil {
		return user{}, badIDToken(err)
	}
	who := user{Principal: id.Subject, token: id}
	if issuer.Principal == identity.ClaimEmail {
		if who.Principal, err = id.VerifiedEmail(); err != nil {
			return user{}, badIDToken(err)
		}
	}
	if err := identity.ValidPrincipal(who.Principal); err != nil {
		return user{}, identity.Errorf(identity.CodeSubjectInvalid, "the %s of the ID token %v", issuer.Principal, err)
	}
	if !issuer.MayName(who.Principal) {
		return user{}, identity.Errorf(identity.CodeSubjectInvalid, "the issuer may not vouch for addresses of this domain").
			WithHint("an admin lists the domains of an issuer when it is added")
	}
	return who, nil
}

// sourceOf is where an issuer publishes its keys.
func sourceOf(t *identity.TrustedIssuer) outbound.Source {
	if t.KeysURI != "" {
		return outbound.Source{JWKSURI: t.KeysURI}
	}
	return outbound.Source{Issuer: t.Issuer}
}

func badIDToken(err error) error {
	var refused *proofs.Error
	if !errors.As(err, &refused) {
		return err
	}
	return identity.Errorf(identity.CodeSubjectInvalid, "the ID token is not good: %s", refused.Detail)
}
