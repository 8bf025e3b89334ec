package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	delegationsPath = "/api/v1/delegations"
	revocationsPath = "/api/v1/revocations"
	apiTokensPath   = "/api/v1/api-tokens"
	issuersPath     = "/api/v1/trusted-issuers"
	mePath          = "/api/v1/me/delegations"
)

// CreateDelegation lends an agent a slice of a principal's authority. The body is a *wire.DelegationRequest,
// or a json.RawMessage. With ensurePrincipal the principal is made where there is none.
func (c *Client) CreateDelegation(ctx context.Context, body any, ensurePrincipal bool) (*wire.Delegation, error) {
	return write[wire.Delegation](ctx, c, http.MethodPost, delegationsPath, flagQuery("ensure_principal", ensurePrincipal), body)
}

// Delegation reads one delegation.
func (c *Client) Delegation(ctx context.Context, id string) (*wire.Delegation, error) {
	return get[wire.Delegation](ctx, c, at(delegationsPath, id))
}

// DelegationFilter narrows a list of delegations; empty fields match all.
type DelegationFilter struct {
	Agent     string
	Principal string
	Active    bool // only those that may be used now
}

// Delegations lists delegations.
func (c *Client) Delegations(ctx context.Context, f DelegationFilter, l List) (*Page[wire.Delegation], error) {
	query := l.query()
	if f.Agent != "" {
		query.Set("agent", f.Agent)
	}
	if f.Principal != "" {
		query.Set("principal", f.Principal)
	}
	if f.Active {
		query.Set("active", "true")
	}
	return page[wire.Delegation](ctx, c, delegationsPath, query)
}

// WithdrawDelegation takes consent back: every token that rests on the delegation ends.
func (c *Client) WithdrawDelegation(ctx context.Context, id, reason string, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(delegationsPath, id), reasonQuery(reason), nil, options...)
}

// CreateSession starts a session. The body is a *wire.SessionRequest, or a json.RawMessage. Credentials,
// where given, are the agent's own; otherwise the API token's role decides.
//
// A lost answer is asked for again: the token that was lost with it is known to nobody and ends by itself.
func (c *Client) CreateSession(ctx context.Context, body any, agent *Credentials) (*wire.Session, error) {
	out := new(wire.Session)
	_, err := c.Do(ctx, &Request{
		Method: http.MethodPost, Path: sessionsPath, Body: body, Credentials: agent, Repeatable: true,
	}, out)
	return orNil(out, err)
}

// Revoke stops one session, delegation, agent or principal. The body is a *wire.RevocationRequest, or a
// json.RawMessage. It never carries an idempotency key: nothing may suppress a revocation.
func (c *Client) Revoke(ctx context.Context, body any, options ...Option) (*wire.Revocation, error) {
	return repeat[wire.Revocation](ctx, c, revocationsPath, nil, body, options...)
}

// RevokeHandles stops what up to 1,000 handles name, such as those that another cluster has revoked.
func (c *Client) RevokeHandles(ctx context.Context, handles []identity.Handle, reason string, options ...Option) (*wire.Revocation, error) {
	return c.Revoke(ctx, wire.RevocationRequest{Handles: handles, Reason: reason}, options...)
}

// ExportRevocations walks the whole revocation set, as long as the loop goes on.
func (c *Client) ExportRevocations(ctx context.Context) iter.Seq2[wire.RevocationRecord, error] {
	return All(ctx, List{Limit: wire.MaxLimit}, c.Revocations)
}

// Revocations lists the revocation set.
func (c *Client) Revocations(ctx context.Context, l List) (*Page[wire.RevocationRecord], error) {
	return page[wire.RevocationRecord](ctx, c, revocationsPath, l.query())
}

// Explain asks why a token is good or bad.
func (c *Client) Explain(ctx context.Context, r wire.ExplainRequest) (*wire.Explanation, error) {
	return repeat[wire.Explanation](ctx, c, "/api/v1/tokens/explain", nil, r)
}

// CreateAPIToken makes an API token, whose text is in the answer, once. The body is a
// *wire.APITokenRequest, or a json.RawMessage.
func (c *Client) CreateAPIToken(ctx context.Context, body any) (*wire.APIToken, error) {
	return write[wire.APIToken](ctx, c, http.MethodPost, apiTokensPath, nil, body)
}

// APITokens lists API tokens, without their text.
func (c *Client) APITokens(ctx context.Context, l List) (*Page[wire.APIToken], error) {
	return page[wire.APIToken](ctx, c, apiTokensPath, l.query())
}

// DeleteAPIToken ends an API token.
func (c *Client) DeleteAPIToken(ctx context.Context, id string, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(apiTokensPath, id), nil, nil, options...)
}

// TrustIssuer takes an OpenID Connect issuer's word for who a user is. The body is a *wire.TrustedIssuerRequest, or a
// json.RawMessage.
func (c *Client) TrustIssuer(ctx context.Context, body any) (*wire.TrustedIssuer, error) {
	return write[wire.TrustedIssuer](ctx, c, http.MethodPost, issuersPath, nil, body)
}

// TrustedIssuer reads one trusted issuer.
func (c *Client) TrustedIssuer(ctx context.Context, id string) (*wire.TrustedIssuer, error) {
	return get[wire.TrustedIssuer](ctx, c, at(issuersPath, id))
}

// TrustedIssuers lists trusted issuers.
func (c *Client) TrustedIssuers(ctx context.Context, l List) (*Page[wire.TrustedIssuer], error) {
	return page[wire.TrustedIssuer](ctx, c, issuersPath, l.query())
}

// DistrustIssuer takes an issuer's word no longer.
func (c *Client) DistrustIssuer(ctx context.Context, id string) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(issuersPath, id), nil, nil)
}

// MyDelegations lists what the user has lent whose ID token is the client's token.
func (c *Client) MyDelegations(ctx context.Context, active bool, l List) (*Page[wire.Delegation], error) {
	query := l.query()
	if active {
		query.Set("active", "true")
	}
	return page[wire.Delegation](ctx, c, mePath, query)
}

// WithdrawMine takes the consent back of the user whose ID token is the client's token.
func (c *Client) WithdrawMine(ctx context.Context, id, reason string, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(mePath, id), reasonQuery(reason), nil, options...)
}
