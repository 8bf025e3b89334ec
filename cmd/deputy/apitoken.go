package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) apiTokenCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "api-token",
		Aliases: []string{"api-tokens"},
		Short:   "API tokens: operators' and runtimes' access to this very surface",
	}, a.apiTokenCreate(), a.apiTokenList(), a.apiTokenDelete())
}

func (a *app) apiTokenCreate() *cobra.Command {
	var b body
	var roles, agents []string
	var expiresIn time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME | create -f FILE",
		Short: "Make an API token and show it, once",
		Example: `  deputy api-token create ci --role provisioner --expires-in 720h
  deputy api-token create inbox-runtime --role runtime --agent inbox-assistant`,
		Args: b.nameOrFile("token's name"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			request, err := b.or(a, func() (any, error) {
				if len(roles) == 0 {
					return nil, usagef("at least one --role is needed: %s", joined(identity.Roles()))
				}
				expires, err := a.expiry(expiresIn)
				r := &wire.APITokenRequest{Name: args[0], Agents: agents, ExpiresAt: expires}
				for _, role := range roles {
					r.Roles = append(r.Roles, identity.Role(role))
				}
				return r, err
			})
			if err != nil {
				return err
			}
			token, err := c.CreateAPIToken(ctx, request)
			if err != nil {
				return err
			}
			return a.show(token, func(s *sheet) {
				s.field("Id", token.ID)
				s.field("Name", token.Name)
				s.field("Roles", joined(token.Roles))
				s.field("Agents", joined(token.Agents))
				s.field("Expires", s.when(token.ExpiresAt))
				if token.Token == "" {
					s.field("Token", "lost with a broken connection; delete this one and make another")
					return
				}
				s.field("Token", token.Token)
				s.field("Keep it", "it is shown only now")
			})
		}),
	}
	cmd.Flags().StringArrayVar(&roles, "role", nil, "admin, operator, provisioner, runtime, approver or auditor (repeatable)")
	cmd.Flags().StringArrayVar(&agents, "agent", nil, "for role runtime: an agent that it runs, or * for all (repeatable)")
	cmd.Flags().DurationVar(&expiresIn, "expires-in", 0, "end by itself after this long (default: never)")
	b.flag(cmd, "role", "agent", "expires-in")
	names := make([]string, 0, len(identity.Roles()))
	for _, role := range identity.Roles() {
		names = append(names, string(role))
	}
	mustComplete(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)))
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	return cmd
}

func (a *app) apiTokenList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List API tokens, without their text",
		Example: "  deputy api-token list",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, c.APITokens)
			if err != nil {
				return err
			}
			return showPage(a, p, "ID NAME ROLES AGENTS CREATED EXPIRES", func(s *sheet, t *wire.APIToken) {
				s.row(t.ID, t.Name, joined(t.Roles), brief(joined(t.Agents)), s.when(t.CreatedAt), s.when(t.ExpiresAt))
			})
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) apiTokenDelete() *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:     "delete ID",
		Aliases: []string{"revoke"},
		Short:   "End an API token",
		Example: "  deputy api-token delete tok_01ks8n1x5b5e5fh2wwt0rrnq7a",
		Args:    exactly("the token's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := c.DeleteAPIToken(ctx, args[0], f.options()...)
			if err != nil {
				return err
			}
			return a.showDeleted(deleted, &f)
		}),
	}
	f.addWait(a, cmd, wire.WaitCommitted)
	return cmd
}
