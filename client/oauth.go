package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/api/wire"
)

// TokenOptions narrow a token; the zero value asks for all that the agent may get.
type TokenOptions struct {
	Scopes             []string
	Audience           []string // application ids or audience URIs
	TriggerReason      string
	MaxDurationSeconds int64 // 0: as long as the agent's sessions may last
}

// MintToken gets a token for an agent's own session, by its credentials (RFC 6749 section 4.4).
func (c *Client) MintToken(ctx context.Context, agent Credentials, o TokenOptions) (*wire.Token, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
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
	return oauth[wire.Token](ctx, c, "/oauth2/token", form, agent)
}

// Introspect asks whether a token is good for the application whose credentials are given (RFC 7662).
func (c *Client) Introspect(ctx context.Context, application Credentials, token string) (*wire.Introspection, error) {
	return oauth[wire.Introspection](ctx, c, "/oauth2/introspect", url.Values{"token": {token}}, application)
}

// RevokeToken ends the session of a token (RFC 7009). It succeeds for unknown tokens as well.
func (c *Client) RevokeToken(ctx context.Context, holder Credentials, token string) error {
	_, err := oauth[struct{}](ctx, c, "/oauth2/revoke", url.Values{"token": {token}}, holder)
	return err
}

// oauth sends a form. All three calls do no harm twice.
func oauth[T any](ctx context.Context, c *Client, path string, form url.Values, who Credentials) (*T, error) {
	out := new(T)
	_, err := c.Do(ctx, &Request{Method: http.MethodPost, Path: path, Form: form, Credentials: &who, Repeatable: true}, out)
	return orNil(out, err)
}
