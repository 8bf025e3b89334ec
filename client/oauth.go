package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/api/wire"
)

// Grant and token types of an exchange.
const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

	TypeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
	TypeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	TypeDelegation  = "urn:deputy:params:oauth:token-type:delegation"

	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// TokenOptions narrow a token; the zero value asks for all that the agent may get.
type TokenOptions struct {
	Scopes             []string
	Audience           []string // application ids or audience URIs
	TriggerReason      string
	MaxDurationSeconds int64 // 0: as long as the agent's sessions may last
	// Bind has the token be of use only together with proofs of this key (RFC 9449); nil: whoever bears it may use it.
	Bind *Key
}

// Exchange says what a token is exchanged for one of the agent's own: a user's ID token (TypeIDToken), a delegation's id
// (TypeDelegation), or the token of a parent session, for a sub-agent (TypeAccessToken).
type Exchange struct {
	Subject     string
	SubjectType string
	Nonce       string // of an ID token: what its nonce must be; empty: it is not looked at
	TokenOptions
}

// MintToken gets a token for an agent's own session, by its credentials (RFC 6749 section 4.4).
func (c *Client) MintToken(ctx context.Context, agent Credentials, o TokenOptions) (*wire.Token, error) {
	return c.grant(ctx, agent, url.Values{"grant_type": {"client_credentials"}}, o)
}

// ExchangeToken gets a token for an agent's session on behalf of a user, or of a parent session (RFC 8693). Where the
// subject is a token that is bound to a key, Bind must be that key.
func (c *Client) ExchangeToken(ctx context.Context, agent Credentials, e Exchange) (*wire.Token, error) {
	form := url.Values{"grant_type": {grantExchange}, "subject_token": {e.Subject}, "subject_token_type": {e.SubjectType}}
	if e.Nonce != "" {
		form.Set("nonce", e.Nonce)
	}
	return c.grant(ctx, agent, form, e.TokenOptions)
}

func (c *Client) grant(ctx context.Context, agent Credentials, form url.Values, o TokenOptions) (*wire.Token, error) {
	if len(o.Scopes) > 0 {
		form.Set("scope", strings.Join(o.Scopes, " "))
	}
	for _, audience := range o.Audience {
		form.Add("audience", audience)
	}
	if o.TriggerReason != "" {
		form.Set("trigger_reason", o.TriggerReason)
	}
	if o.MaxDurationSeconds > 0 {
		form.Set("max_duration_seconds", strconv.FormatInt(o.MaxDurationSeconds, 10))
	}
	return oauth[wire.Token](ctx, c, &Request{Path: "/oauth2/token", Form: form, Bind: o.Bind}, agent)
}

// Introspect asks whether a token is good for the application whose credentials are given (RFC 7662).
func (c *Client) Introspect(ctx context.Context, application Credentials, token string) (*wire.Introspection, error) {
	return oauth[wire.Introspection](ctx, c, &Request{Path: "/oauth2/introspect", Form: url.Values{"token": {token}}}, application)
}

// IntrospectBatch asks of up to wire.MaxIntrospectionBatch tokens at once; the answers are in their order. The
// application must have a secret.
func (c *Client) IntrospectBatch(ctx context.Context, application Credentials, tokens []string) ([]wire.Introspection, error) {
	out := new(wire.IntrospectionResults)
	_, err := c.Do(ctx, &Request{
		Method: http.MethodPost, Path: "/oauth2/introspect/batch", Body: wire.IntrospectionBatch{Tokens: tokens},
		Credentials: &application, Repeatable: true,
	}, out)
	if err != nil {
		return nil, err
	}
	return out.Results, nil
}

// RevokeToken ends the session of a token (RFC 7009). It succeeds for unknown tokens as well.
func (c *Client) RevokeToken(ctx context.Context, holder Credentials, token string) error {
	_, err := oauth[struct{}](ctx, c, &Request{Path: "/oauth2/revoke", Form: url.Values{"token": {token}}}, holder)
	return err
}

// oauth sends a form. All of these calls do no harm twice.
func oauth[T any](ctx context.Context, c *Client, r *Request, who Credentials) (*T, error) {
	out := new(T)
	r.Method, r.Credentials, r.Repeatable = http.MethodPost, &who, true
	_, err := c.Do(ctx, r, out)
	return orNil(out, err)
}

// Metadata tells what the cluster can do, and its issuer (RFC 8414).
func (c *Client) Metadata(ctx context.Context) (*wire.Metadata, error) {
	return get[wire.Metadata](ctx, c, "/.well-known/oauth-authorization-server")
}

// issuer is the name that proofs and assertions are made out to. It is asked for once.
func (c *Client) issuer(ctx context.Context) (string, error) {
	if known := c.issuedBy.Load(); known != nil {
		return *known, nil
	}
	metadata, err := c.Metadata(ctx)
	if err != nil {
		return "", err
	}
	c.issuedBy.Store(&metadata.Issuer)
	return metadata.Issuer, nil
}
