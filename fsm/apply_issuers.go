package fsm

import "github.com/deputy-id/deputy/identity"

func (s *state) trustIssuer(b TrustIssuer) (*identity.TrustedIssuer, *identity.Error) {
	t := b.Issuer
	if t.ID == "" || t.Issuer == "" {
		return nil, invalid("the trusted issuer lacks its id or URL")
	}
	if _, ok := first[identity.TrustedIssuer](s.rows(), tableIssuers, indexID, t.ID); ok {
		return nil, alreadyExists("trusted issuer", t.ID)
	}
	if other, ok := first[identity.TrustedIssuer](s.rows(), tableIssuers, indexURL, t.Issuer); ok {
		return nil, identity.Errorf(identity.CodeAlreadyExists, "issuer %.300q is trusted already, as %s", t.Issuer, other.ID).
			WithHint("to change what is taken from it, remove that one first")
	}
	if len(list[identity.TrustedIssuer](s.rows(), tableIssuers, "", maxRows)) >= identity.MaxIssuers {
		return nil, limitReached("trusted issuers", identity.MaxIssuers)
	}
	t.Created, t.Revision = s.stamp(t.Created), s.index
	s.put(tableIssuers, &t)
	return &t, nil
}

func (s *state) distrustIssuer(b DistrustIssuer) (*identity.TrustedIssuer, *identity.Error) {
	t, ok := first[identity.TrustedIssuer](s.rows(), tableIssuers, indexID, b.ID)
	if !ok {
		return nil, notFound("trusted issuer", b.ID)
	}
	s.remove(tableIssuers, t)
	return t, nil
}
