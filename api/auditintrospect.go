package api

import (
	"errors"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// recordsIntrospection reports whether the introspection that the call asks for is one to be recorded.
func (a *API) recordsIntrospection(c *call) bool {
	switch a.Introspections {
	case IntrospectionsAll:
		return true
	case IntrospectionsNone:
		return false
	}
	return c.account.tool != ""
}

// accountIntrospection records what is about to be said of a token.
func (a *API) accountIntrospection(c *call, claims *tokens.Claims, active bool) error {
	if !a.recordsIntrospection(c) {
		c.account.closed = true
		return nil
	}
	c.account.kind = audit.KindIntrospect
	if claims != nil {
		c.account.claims = claims
	}
	r := a.draft(c)
	c.tellIntrospection(r)
	if active {
		r.Decision, r.Reason = audit.Allowed, ""
	} else if claims != nil && c.account.reason == "" {
		r.Reason = "audience"
	}
	if _, err := a.append(c, r); err != nil {
		return err
	}
	c.account.closed = true
	return nil
}

func (c *call) tellIntrospection(r *audit.Record) {
	c.account.tellClaims(r, c.account.claims)
	r.Decision, r.Outcome = audit.Denied, ""
	if r.Reason == "" {
		r.Reason = c.account.reason
	}
}

// judged returns the claims of a token, or nil where it is not good, and keeps the reason for the record.
func (a *API) judged(c *call, token []byte) (*tokens.Claims, error) {
	c.account.reason, c.account.claims = "", nil
	claims, err := a.Verifier.Verify(token)
	if err == nil {
		return claims, nil
	}
	var refusal *tokens.VerifyError
	if !errors.As(err, &refusal) {
		return nil, err
	}
	// The claims are there where a node's key has signed them: whose token it was belongs into the record.
	c.account.reason, c.account.claims = string(refusal.Reason), refusal.Claims
	return nil, nil
}

// maxTool bounds the name of a tool.
const maxTool = 256

// toolOf takes over the tool for whose call a token is looked at.
func (c *call) toolOf(tool string) error {
	if len(tool) > maxTool {
		return identity.Errorf(identity.CodeInvalid, "the parameter tool has %d bytes; at most %d are allowed", len(tool), maxTool)
	}
	c.account.tool = tool
	return nil
}
