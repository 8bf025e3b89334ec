package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// maxKeysFile bounds a file of public keys; a node takes no more.
const maxKeysFile = identity.MaxKeysLength

func (a *app) issuerCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "trusted-issuer",
		Aliases: []string{"trusted-issuers", "issuer"},
		Short:   "Issuers whose ID tokens prove who a user is",
	}, a.issuerAdd(), a.issuerList(), a.issuerGet(), a.issuerRemove())
}

func (a *app) issuerAdd() *cobra.Command {
	var b body
	var r wire.TrustedIssuerRequest
	var claim, keys string
	var maxAge time.Duration
	cmd := &cobra.Command{
		Use:   "add URL | add -f FILE",
		Short: "Take an issuer's word for who a user is",
		Example: `  deputy trusted-issuer add https://login.company.com --client-id web-app --email-domain company.com
  deputy trusted-issuer add https://login.company.com --client-id web-app --principal-claim sub --jwks-file keys.json`,
		Args: b.nameOrFile("issuer's URL"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			request, err := b.or(a, func() (any, error) {
				if len(r.ClientIDs) == 0 {
					return nil, usagef("at least one --client-id is needed: whose ID tokens are taken")
				}
				r.Issuer, r.PrincipalClaim, r.MaxAgeSeconds = args[0], identity.PrincipalClaim(claim), seconds(maxAge)
				var err error
				r.JWKS, err = a.keysFile(keys)
				return &r, err
			})
			if err != nil {
				return err
			}
			issuer, err := c.TrustIssuer(ctx, request)
			if err != nil {
				return err
			}
			return a.showIssuer(issuer)
		}),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&r.ClientIDs, "client-id", nil, "a client whose ID tokens are taken, as in their aud (repeatable)")
	flags.StringVar(&claim, "principal-claim", "", "which claim is the principal's id: email, if verified, or sub (default email)")
	flags.StringArrayVar(&r.EmailDomains, "email-domain", nil, "a domain whose addresses it may vouch for (repeatable; default: any)")
	flags.DurationVar(&maxAge, "max-age", 0, "how long after its making an ID token is taken (default 1h)")
	flags.StringVar(&keys, "jwks-file", "", "its public keys, - for standard input (default: what its discovery document names)")
	flags.StringVar(&r.JWKSURI, "jwks-uri", "", "where its public keys are (default: where its discovery document says)")
	b.flag(cmd, "client-id", "principal-claim", "email-domain", "max-age", "jwks-file", "jwks-uri")
	cmd.MarkFlagsMutuallyExclusive("jwks-file", "jwks-uri")
	return cmd
}

// keysFile reads public keys, which the node looks at; none where no file is named.
func (a *app) keysFile(path string) (json.RawMessage, error) {
	if path == "" {
		return nil, nil
	}
	text, err := a.readFile(path, maxKeysFile)
	if err != nil {
		return nil, err
	}
	if !json.Valid(text) {
		return nil, usagef("%s is not JSON; it should be a JWK, or a set of them", path)
	}
	return text, nil
}

func (a *app) issuerList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List trusted issuers",
		Example: "  deputy trusted-issuer list",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, c.TrustedIssuers)
			if err != nil {
				return err
			}
			return showPage(a, p, "ID ISSUER CLIENTS PRINCIPAL DOMAINS", func(s *sheet, t *wire.TrustedIssuer) {
				s.row(t.ID, t.Issuer, brief(joined(t.ClientIDs)), string(t.PrincipalClaim), brief(joined(t.EmailDomains)))
			})
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) issuerGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Short:   "Show a trusted issuer",
		Example: "  deputy trusted-issuer get iss_01ks8n1x5b5e5fh2wwt0rrnq7a",
		Args:    exactly("the trusted issuer's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			issuer, err := c.TrustedIssuer(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showIssuer(issuer)
		}),
	}
}

func (a *app) issuerRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove ID",
		Aliases: []string{"delete"},
		Short:   "Take an issuer's word no longer; what it has begun goes on",
		Example: "  deputy trusted-issuer remove iss_01ks8n1x5b5e5fh2wwt0rrnq7a",
		Args:    exactly("the trusted issuer's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := c.DistrustIssuer(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(deleted, func(s *sheet) { s.field("Removed", deleted.ID) })
		}),
	}
}

func (a *app) showIssuer(t *wire.TrustedIssuer) error {
	return a.show(t, func(s *sheet) {
		s.field("Id", t.ID)
		s.field("Issuer", t.Issuer)
		s.field("Clients", joined(t.ClientIDs))
		s.field("Principal is", string(t.PrincipalClaim))
		s.field("Domains", joined(t.EmailDomains))
		s.field("Taken for", secondsText(t.MaxAgeSeconds))
		switch {
		case len(t.JWKS) > 0:
			s.field("Keys", "registered")
		case t.JWKSURI != "":
			s.field("Keys", t.JWKSURI)
		default:
			s.field("Keys", "by discovery")
		}
		s.field("Created", s.when(t.CreatedAt))
	})
}
