package client

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP"

	// provedAtOnce bounds the proofs that are remembered: a good 4,000 a second, in 30 MB at most.
	provedAtOnce = 1 << 19
)

// Shown is how a token came with a request that is no *http.Request.
type Shown struct {
	Scheme string   // of the Authorization header: Bearer or DPoP
	Token  string   // the rest of that header
	Proofs []string // every DPoP header
	Method string   // of the request
	// URLs are those under which the request may have been sent, without query.
	URLs []string
}

// ValidateRequest is Validate for the token in a request's Authorization header. A token that is bound to a key (RFC
// 9449) is accepted with the scheme DPoP alone, and with a proof of possession that is for this request at one of
// ValidatorOptions.URLs, from about now, and was not seen before in this process. Any other token is accepted with the
// scheme Bearer alone.
func (v *Validator) ValidateRequest(r *http.Request) (*Claims, error) {
	headers := r.Header.Values("Authorization")
	// Two are none: something else on the way may have looked at the other one.
	if len(headers) != 1 {
		return nil, missing("the request must have one Authorization header, with an access token")
	}
	shown := Shown{Method: r.Method, Proofs: r.Header.Values(wire.HeaderDPoP)}
	shown.Scheme, shown.Token, _ = strings.Cut(headers[0], " ")
	shown.Token = strings.Trim(shown.Token, " ")
	for _, base := range v.urls {
		shown.URLs = append(shown.URLs, base+r.URL.EscapedPath())
	}
	return v.ValidateShown(r.Context(), shown)
}

// ValidateShown is ValidateRequest for what it has read already.
func (v *Validator) ValidateShown(ctx context.Context, shown Shown) (*Claims, error) {
	bearer, dpop := strings.EqualFold(shown.Scheme, schemeBearer), strings.EqualFold(shown.Scheme, schemeDPoP)
	switch {
	case !bearer && !dpop:
		return nil, missing("the Authorization header is neither Bearer nor DPoP")
	case shown.Token == "":
		return nil, missing("the Authorization header holds no token")
	}
	return v.validate(ctx, shown.Token, func(c *Claims) error {
		switch bound := c.Confirmation != ""; {
		case bound && !dpop:
			return unproved(c, "it is bound to a key, and was shown as if it were not")
		case !bound && dpop: // RFC 9449 section 7.1
			return unproved(c, "it is not bound to a key, and was shown as if it were")
		case !bound:
			return nil
		}
		return v.proved(c, &shown)
	})
}

func missing(detail string) error { return &TokenError{Reason: ReasonMissing, Detail: detail} }

func unproved(c *Claims, detail string) error {
	return &TokenError{Reason: ReasonProof, Detail: detail, Claims: c}
}

// proved holds a request to the proof that it must carry.
func (v *Validator) proved(c *Claims, shown *Shown) error {
	switch {
	case len(shown.URLs) == 0:
		return unproved(c, "it is bound to a key, and nobody told this validator the URLs that proofs must be for: set ValidatorOptions.URLs")
	case len(shown.Proofs) != 1:
		return unproved(c, "it is bound to a key: the request must have one DPoP header, with a proof")
	}
	now := identity.InstantOf(v.wall())
	rules := proofs.ProofRules{
		Method: shown.Method, URLs: shown.URLs, AccessToken: []byte(shown.Token), Thumbprint: c.Confirmation, NotBefore: v.started,
	}
	proof, err := rules.Verify([]byte(shown.Proofs[0]), now)
	if err == nil {
		err = proof.Once(v.seen, now) // last: what is no good should cost no memory
	}
	switch {
	case err == nil:
		return nil
	case proofs.ReasonOf(err) == proofs.ReasonReplayFull:
		return fmt.Errorf("%w: %w", ErrNotFresh, err) // not the caller's fault
	}
	return unproved(c, err.Error())
}
