package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) tokenCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "token",
		Aliases: []string{"tokens"},
		Short:   "Tokens: mint, introspect, explain and revoke them",
	}, a.tokenMint(), a.tokenExchange(), a.tokenIntrospect(), a.tokenExplain(), a.tokenRevoke(), a.tokenKey())
}

func (a *app) tokenIntrospect() *cobra.Command {
	var h holder
	cmd := &cobra.Command{
		Use:   "introspect TOKEN|-",
		Short: "Ask, as an application, whether a token is good for it",
		Example: `  ` + envClientID + `=zendesk ` + envClientSecret + `=… deputy token introspect eyJhbGciOiJFZERTQSIs…
  deputy session create --agent support-triage-agent -o json | jq -r .access_token |
    deputy token introspect - --client-id zendesk --client-secret-file secret`,
		Args: exactly("the token"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			application, err := h.credentials(a)
			if err != nil {
				return err
			}
			token, err := a.tokenArgument(args[0])
			if err != nil {
				return err
			}
			answer, err := c.Introspect(ctx, application, token)
			if err != nil {
				return err
			}
			return a.show(answer, func(s *sheet) { s.introspection(answer) })
		}),
	}
	h.flags(cmd, "application")
	return cmd
}

func (s *sheet) introspection(i *wire.Introspection) {
	s.field("Active", yesNo(i.Active))
	if !i.Active {
		s.field("Why", "`deputy token explain` says, to those who may know")
		return
	}
	s.field("Subject", i.Subject)
	s.field("Actors", actors(i.Actor))
	s.field("Scope", i.Scope)
	s.field("Audience", audience(i.Audience))
	s.field("Session", i.SessionID)
	s.field("Ends", s.when(identity.Instant(i.ExpiresAt*1000)))
}

// actors spells a chain as it came to be: the current actor last.
func actors(act *wire.Actor) string {
	var chain []string
	for ; act != nil && len(chain) <= identity.MaxChain; act = act.Actor {
		chain = append([]string{act.Subject}, chain...)
	}
	return strings.Join(chain, " → ")
}

// audience is a string or a list of them, as RFC 7519 section 4.1.3 has it.
func audience(aud any) string {
	switch v := aud.(type) {
	case nil:
		return ""
	case []any:
		uris := make([]string, len(v))
		for i := range v {
			uris[i] = fmt.Sprint(v[i])
		}
		return strings.Join(uris, " ")
	default:
		return fmt.Sprint(v)
	}
}

func (a *app) tokenExplain() *cobra.Command {
	var request wire.ExplainRequest
	var scopeNames []string
	cmd := &cobra.Command{
		Use:     "explain TOKEN|-",
		Short:   "Say why a token is good or bad",
		Example: "  deputy token explain eyJhbGciOiJFZERTQSIs… --audience zendesk --scope zendesk.tickets.read",
		Args:    exactly("the token"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			token, err := a.tokenArgument(args[0])
			if err != nil {
				return err
			}
			request.Token, request.Scope = token, strings.Join(scopeNames, " ")
			answer, err := c.Explain(ctx, request)
			if err != nil {
				return err
			}
			return a.show(answer, func(s *sheet) { s.explanation(answer) })
		}),
	}
	cmd.Flags().StringVar(&request.Audience, "audience", "", "the application or audience URI that would be called")
	cmd.Flags().StringArrayVar(&scopeNames, "scope", nil, "a scope that would be needed (repeatable)")
	return cmd
}

func (s *sheet) explanation(e *wire.Explanation) {
	s.field("Active", yesNo(e.Active))
	s.field("Allowed", yesNo(e.Allowed))
	s.field("Reason", e.Reason)
	s.field("Detail", e.Detail)
	if c := e.Claims; c != nil {
		if !e.Active {
			s.field("Claims", "what the token says of itself; not to be trusted")
		}
		s.field("Issuer", c.Issuer)
		s.field("Subject", c.Subject)
		s.field("Actors", strings.Join(c.Actors, " ← "))
		s.field("Scope", c.Scope)
		s.field("Audience", strings.Join(c.Audience, " "))
		s.field("Session", c.SessionID)
		s.field("Issued", s.when(identity.Instant(c.IssuedAt*1000)))
		s.field("Ends", s.when(identity.Instant(c.ExpiresAt*1000)))
		s.field("Key", c.KeyID)
	}
	for _, h := range e.Handles {
		state := "good"
		if h.Revoked {
			state = "revoked"
			if h.Revocation != nil {
				state += " " + s.when(h.Revocation.RevokedAt)
				if h.Revocation.Reason != "" {
					state += ": " + h.Revocation.Reason
				}
			}
		}
		s.field("Handle", string(h.Handle)+"  "+state)
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	var h holder
	cmd := &cobra.Command{
		Use:     "revoke TOKEN|-",
		Short:   "End the session of a token, by the credentials of its agent or of an application",
		Example: "  deputy token revoke - --client-id support-triage-agent --client-secret-file secret < token",
		Args:    exactly("the token"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			who, err := h.credentials(a)
			if err != nil {
				return err
			}
			token, err := a.tokenArgument(args[0])
			if err != nil {
				return err
			}
			if err := c.RevokeToken(ctx, who, token); err != nil {
				return err
			}
			done := struct {
				Revoked bool `json:"revoked"`
			}{true}
			return a.show(done, func(s *sheet) { s.field("Revoked", "yes") })
		}),
	}
	h.flags(cmd, "client")
	return cmd
}
