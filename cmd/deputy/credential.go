package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// credentialOwner is whose credentials a group of commands is about: agents and applications have the same.
type credentialOwner struct {
	noun     string
	example  string
	complete func(*app) cobra.CompletionFunc
	create   func(*client.Client, context.Context, string, wire.CredentialRequest) (*wire.NewCredential, error)
	list     func(*client.Client, context.Context, string) (*client.Page[wire.Credential], error)
	revoke   func(c *client.Client, ctx context.Context, name, id, reason string, options ...client.Option) (*wire.Deleted, error)
}

var (
	ofAgents = credentialOwner{
		noun: "agent", example: "support-triage-agent", complete: (*app).completeAgents,
		create: (*client.Client).CreateAgentCredential, list: (*client.Client).AgentCredentials, revoke: (*client.Client).RevokeAgentCredential,
	}
	ofApplications = credentialOwner{
		noun: "application", example: "zendesk", complete: (*app).completeApplications,
		create: (*client.Client).CreateApplicationCredential, list: (*client.Client).ApplicationCredentials, revoke: (*client.Client).RevokeApplicationCredential,
	}
)

func (a *app) credentialCommand(o credentialOwner) *cobra.Command {
	return group(&cobra.Command{
		Use:     "credential",
		Aliases: []string{"credentials"},
		Short:   "The " + o.noun + "'s own credentials",
	}, a.credentialCreate(o), a.credentialList(o), a.credentialRevoke(o))
}

func (a *app) credentialCreate(o credentialOwner) *cobra.Command {
	var expiresIn time.Duration
	var keys, keysURI string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make one more credential: a secret, shown once, or public keys for private_key_jwt",
		Example: "  deputy " + o.noun + " credential create " + o.example + " --expires-in 2160h\n" +
			"  deputy " + o.noun + " credential create " + o.example + " -o json | jq -r .client_secret > secret\n" +
			"  deputy token key --new-file key.pem | deputy " + o.noun + " credential create " + o.example + " --jwks-file -",
		Args:              exactly("the " + o.noun + "'s name"),
		ValidArgsFunction: o.complete(a),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			expires, err := a.expiry(expiresIn)
			if err != nil {
				return err
			}
			request := wire.CredentialRequest{JWKSURI: keysURI, ExpiresAt: expires}
			if request.JWKS, err = a.keysFile(keys); err != nil {
				return err
			}
			credential, err := o.create(c, ctx, args[0], request)
			if err != nil {
				return err
			}
			return a.show(credential, func(s *sheet) { s.newCredential(credential) })
		}),
	}
	cmd.Flags().DurationVar(&expiresIn, "expires-in", 0, "end by itself after this long (default: never)")
	cmd.Flags().StringVar(&keys, "jwks-file", "", "public keys in place of a secret: one JWK or a set, - for standard input")
	cmd.Flags().StringVar(&keysURI, "jwks-uri", "", "where the holder publishes its public keys, in place of a secret")
	cmd.MarkFlagsMutuallyExclusive("jwks-file", "jwks-uri")
	return cmd
}

func (a *app) credentialList(o credentialOwner) *cobra.Command {
	return &cobra.Command{
		Use:               "list NAME",
		Short:             "List credentials, without their secrets",
		Example:           "  deputy " + o.noun + " credential list " + o.example,
		Args:              exactly("the " + o.noun + "'s name"),
		ValidArgsFunction: o.complete(a),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := o.list(c, ctx, args[0])
			if err != nil {
				return err
			}
			return showPage(a, p, "ID KIND CREATED EXPIRES", func(s *sheet, r *wire.Credential) {
				s.row(r.ID, string(r.Kind), s.when(r.CreatedAt), s.when(r.ExpiresAt))
			})
		}),
	}
}

func (a *app) credentialRevoke(o credentialOwner) *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:               "revoke NAME CREDENTIAL",
		Short:             "Remove a credential and end every token that was asked for with it",
		Example:           "  deputy " + o.noun + " credential revoke " + o.example + " crd_01ks8n1x5b5e5fh2wwt0rrnq7a --reason leaked",
		Args:              exactly("the "+o.noun+"'s name", "the credential's id"),
		ValidArgsFunction: o.complete(a),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := o.revoke(c, ctx, args[0], args[1], f.reason, f.options()...)
			if err != nil {
				return err
			}
			return a.showDeleted(deleted, &f)
		}),
	}
	f.add(a, cmd, wire.WaitCommitted)
	return cmd
}

func (s *sheet) credentials(list []wire.Credential) {
	for _, c := range list {
		line := c.ID + " " + string(c.Kind) + ", made " + s.when(c.CreatedAt)
		if !c.ExpiresAt.IsZero() {
			line += ", ends " + s.when(c.ExpiresAt)
		}
		s.field("Credential", line)
	}
}

func (s *sheet) newCredential(c *wire.NewCredential) {
	if c == nil {
		return
	}
	s.field("New credential", c.ID)
	s.field("Client id", c.ClientID)
	s.field("Expires", s.when(c.ExpiresAt))
	if c.Kind == identity.CredentialKeys {
		s.field("Proved by", "private_key_jwt")
		s.field("Keys at", c.JWKSURI)
		return
	}
	if c.Secret == "" {
		// The first answer was lost on the way and the node never tells a secret twice.
		s.field("Client secret", "lost with a broken connection; revoke this credential and make another")
		return
	}
	s.field("Client secret", c.Secret)
	s.field("Keep it", "it is shown only now")
}

func (a *app) showDeleted(d *wire.Deleted, f *stopFlags) error {
	return f.stopped(a, d, &d.Stop, func(s *sheet) {
		s.field("Deleted", d.ID)
		s.field("Revoked", joined(d.Handles))
		if !d.Known {
			s.field("Note", "nothing of that id was there; it is revoked all the same")
		}
	})
}

func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "kept with the revocation, for auditors")
}

func count(n int) string { return strconv.Itoa(n) }

func commas(items []string) string { return strings.Join(items, ", ") }
