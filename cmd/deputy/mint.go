package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/internal/privatefile"
)

// wanted are the flags that say which token is wanted.
type wanted struct {
	client.TokenOptions
	lasts time.Duration
	bind  string
}

func (w *wanted) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&w.Scopes, "scope", nil, "a scope wanted (repeatable; default: all it may get)")
	flags.StringArrayVar(&w.Audience, "audience", nil, "application or audience URI that will be called (repeatable)")
	flags.StringVar(&w.TriggerReason, "reason", "", "what set the session off")
	flags.DurationVar(&w.lasts, "duration", 0, "the longest it should last (default: the agent's maximum)")
	flags.StringVar(&w.bind, "dpop-key-file", "", "file with a private key in PEM that the token is bound to (RFC 9449)")
}

func (w *wanted) options(a *app) (client.TokenOptions, error) {
	o := w.TokenOptions
	o.MaxDurationSeconds = seconds(w.lasts)
	var err error
	if w.bind != "" {
		o.Bind, err = a.keyFile(w.bind)
	}
	return o, err
}

func (a *app) showToken(token *wire.Token) error {
	return a.show(token, func(s *sheet) {
		s.field("Session", token.SessionID)
		s.field("Scope", token.Scope)
		s.field("Ends", "in "+secondsText(token.ExpiresIn))
		if token.TokenType != "Bearer" {
			s.field("Type", token.TokenType)
		}
		s.field("Token", token.AccessToken)
	})
}

func (a *app) tokenMint() *cobra.Command {
	var h holder
	var w wanted
	cmd := &cobra.Command{
		Use:   "mint",
		Short: "Get a token for an agent's own session, by its credentials",
		Example: `  ` + envClientID + `=support-triage-agent ` + envClientSecret + `=… deputy token mint --scope zendesk.tickets.read
  deputy token mint --client-id support-triage-agent --client-secret-file secret -o json
  deputy token mint --client-id support-triage-agent --client-key-file key.pem --dpop-key-file dpop.pem`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			agent, err := h.credentials(a)
			if err != nil {
				return err
			}
			o, err := w.options(a)
			if err != nil {
				return err
			}
			token, err := c.MintToken(ctx, agent, o)
			if err != nil {
				return err
			}
			return a.showToken(token)
		}),
	}
	h.flags(cmd, "agent")
	w.flags(cmd)
	return cmd
}

// subjectTypes are the short names of what may be exchanged.
func subjectTypes() map[string]string {
	return map[string]string{"id-token": client.TypeIDToken, "delegation": client.TypeDelegation, "session": client.TypeAccessToken}
}

func (a *app) tokenExchange() *cobra.Command {
	var h holder
	var w wanted
	var kind, nonce string
	cmd := &cobra.Command{
		Use:   "exchange SUBJECT|-",
		Short: "Get an agent a token on behalf of a user, or as the sub-agent of a session (RFC 8693)",
		Example: `  deputy token exchange - --type id-token --client-id inbox-assistant --client-secret-file secret < id-token
  deputy token exchange dlg_01ks8n1x5b5e5fh2wwt0rrnq7a --client-id inbox-assistant --client-secret-file secret
  deputy token exchange - --type session --client-id summary-agent --client-secret-file secret < parent-token`,
		Args: exactly("the subject: an ID token, a delegation's id, or a session's token"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			agent, err := h.credentials(a)
			if err != nil {
				return err
			}
			o, err := w.options(a)
			if err != nil {
				return err
			}
			subject, err := a.tokenArgument(args[0])
			if err != nil {
				return err
			}
			if kind == "" && strings.HasPrefix(subject, "dlg_") {
				kind = "delegation"
			}
			subjectType, ok := subjectTypes()[kind]
			if !ok {
				return usagef("--type must be id-token, delegation or session")
			}
			token, err := c.ExchangeToken(ctx, agent, client.Exchange{Subject: subject, SubjectType: subjectType, Nonce: nonce, TokenOptions: o})
			if err != nil {
				return err
			}
			return a.showToken(token)
		}),
	}
	h.flags(cmd, "agent that is to act")
	w.flags(cmd)
	cmd.Flags().StringVar(&kind, "type", "", "what the subject is: id-token, delegation (told by its id), or session")
	cmd.Flags().StringVar(&nonce, "nonce", "", "what the nonce of the ID token must be")
	mustComplete(cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"id-token", "delegation", "session"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) tokenKey() *cobra.Command {
	var made, from string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make a private key for private_key_jwt or DPoP, and print its public half as a JWK",
		Example: `  deputy token key --new-file key.pem > public.json
  deputy token key --from-file key.pem`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			var key *client.Key
			var err error
			switch {
			case (made == "") == (from == ""):
				return usagef("name either --new-file, to make a key, or --from-file, to read one")
			case from != "":
				if key, err = a.keyFile(from); err != nil {
					return err
				}
			default:
				if key, err = client.NewKey(); err != nil {
					return err
				}
				err = privatefile.Create(made, key.PEM())
				if errors.Is(err, fs.ErrExist) {
					return usagef("%s is there already, and a key is never overwritten; name another file", made)
				}
				if err != nil {
					return err
				}
			}
			_, err = a.out.Write(append(key.JWK(), '\n'))
			return err
		},
	}
	cmd.Flags().StringVar(&made, "new-file", "", "where to write a new private key, with mode 0600")
	cmd.Flags().StringVar(&from, "from-file", "", "the private key to print the public half of")
	return cmd
}
