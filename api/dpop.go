package api

import (
	"errors"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

// confirm binds the session that is asked for to the key of the request's DPoP proof, if it has one (RFC 9449 section
// 5). A proof is good once, at the node whose nonce it holds: what one node has seen, the others need not hear of.
func (a *API) confirm(c *call) error {
	headers := c.ctx.Request.Header.PeekAll(wire.HeaderDPoP)
	if len(headers) == 0 {
		return nil
	}
	if len(headers) > 1 {
		return identity.Errorf(identity.CodeProofInvalid, "the request has %d DPoP headers; there must be one (RFC 9449 section 4.3)", len(headers))
	}
	c.ctx.Response.Header.Set(wire.HeaderDPoPNonce, a.nonces.Current(c.now))
	rules := proofs.ProofRules{Method: c.route.Method, URLs: at(a.acceptedURLs(c).bases, c.route.Path), NotBefore: a.started}
	proof, err := rules.Verify(headers[0], c.now)
	if err != nil {
		return badProof(err)
	}
	if !a.nonces.Valid(proof.Nonce, c.now) {
		return identity.Errorf(identity.CodeProofNonce, "the DPoP proof has no nonce of this node, or one that has ended").
			WithHint("sign another proof, with the nonce that is in the header %s of this answer, and ask this node again", wire.HeaderDPoPNonce)
	}
	if err := proof.Once(a.replay, c.now); err != nil {
		return badProof(err)
	}
	c.request.Confirmation = proof.Thumbprint
	return nil
}

func badProof(err error) error {
	var refused *proofs.Error
	if !errors.As(err, &refused) {
		return err
	}
	if refused.Reason == proofs.ReasonReplayFull {
		return replayFull()
	}
	return identity.Errorf(identity.CodeProofInvalid, "the DPoP proof is not good: %s", refused.Detail)
}

// mayShow wants of a token that is bound to a key that the request proves to have that key: a stolen one is worth nothing
// here either.
func (c *call) mayShow(confirmation, parameter string) error {
	if confirmation == "" || confirmation == c.request.Confirmation {
		return nil
	}
	return identity.Errorf(identity.CodeProofInvalid, "the %s is bound to a key, and the request does not prove to have it", parameter).
		WithHint("send a DPoP proof by that key; the new token is bound to it, too")
}
