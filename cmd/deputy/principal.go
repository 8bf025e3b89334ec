package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) principalCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "principal",
		Aliases: []string{"principals"},
		Short:   "Principals: the people who lend authority to agents",
	},
		a.principalCreate(), a.principalGet(), a.principalList(), a.principalUpdate(), a.principalDelete(),
		a.principalStatus("activate", identity.StatusActive, "Let a suspended principal's delegations count again"),
		a.principalStatus("suspend", identity.StatusSuspended, "End what runs on behalf of the principal and let nothing new start"),
		a.principalStatus("deactivate", identity.StatusDeactivated, "Retire the principal"),
		a.principalRevoke("revoke", wire.WaitCommitted, "End everything that runs on behalf of a principal, withdraw their delegations and suspend them"),
		a.principalRevoke("kill", wire.WaitFenced, "Revoke, and wait until no node acts on behalf of the principal any more"),
		a.principalDelegations(),
	)
}

type principalFlags struct {
	displayName string
	groups      []string
}

func (f *principalFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.displayName, "display-name", "", "how people call them")
	cmd.Flags().StringArrayVar(&f.groups, "group", nil, "a group that they belong to (repeatable)")
}

func (a *app) principalCreate() *cobra.Command {
	var f principalFlags
	var b body
	cmd := &cobra.Command{
		Use:     "create ID | create -f FILE",
		Short:   "Make a principal",
		Example: "  deputy principal create user@company.com --display-name 'U. Ser' --group sales",
		Args:    b.nameOrFile("principal"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			request, err := b.or(a, func() (any, error) {
				return &wire.PrincipalRequest{ID: args[0], DisplayName: f.displayName, Groups: f.groups}, nil
			})
			if err != nil {
				return err
			}
			principal, err := c.CreatePrincipal(ctx, request)
			if err != nil {
				return err
			}
			return a.showPrincipal(principal)
		}),
	}
	f.add(cmd)
	b.flag(cmd, "display-name", "group")
	return cmd
}

func (a *app) principalGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Short:   "Show a principal",
		Example: "  deputy principal get user@company.com",
		Args:    exactly("the principal's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			principal, err := c.Principal(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showPrincipal(principal)
		}),
	}
}

func (a *app) principalList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List principals",
		Example: "  deputy principal list --limit 20",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, c.Principals)
			if err != nil {
				return err
			}
			return showPage(a, p, "ID STATUS NAME GROUPS UPDATED", func(s *sheet, r *wire.Principal) {
				s.row(r.ID, string(r.Status), brief(r.DisplayName), brief(commas(r.Groups)), s.when(r.UpdatedAt))
			})
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) principalUpdate() *cobra.Command {
	var f principalFlags
	var b body
	cmd := &cobra.Command{
		Use:     "update ID",
		Short:   "Change a principal's name or groups; --group replaces them all",
		Example: "  deputy principal update user@company.com --group sales --group europe",
		Args:    exactly("the principal's id"),
	}
	cmd.RunE = a.does(func(ctx context.Context, c *client.Client, args []string) error {
		made := map[string]any{}
		if cmd.Flags().Changed("display-name") {
			made["display_name"] = f.displayName
		}
		if cmd.Flags().Changed("group") {
			made["groups"] = f.groups
		}
		patch, err := b.patch(a, made)
		if err != nil {
			return err
		}
		principal, err := c.PatchPrincipal(ctx, args[0], patch)
		if err != nil {
			return err
		}
		return a.showPrincipal(principal)
	})
	f.add(cmd)
	b.flag(cmd, "display-name", "group")
	return cmd
}

func (a *app) principalDelete() *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:     "delete ID",
		Short:   "Delete a principal, which ends every token that rests on them",
		Example: "  deputy principal delete user@company.com --reason 'left the company'",
		Args:    exactly("the principal's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := c.DeletePrincipal(ctx, args[0], f.reason, f.options()...)
			if err != nil {
				return err
			}
			return a.showDeleted(deleted, &f)
		}),
	}
	f.add(a, cmd, wire.WaitCommitted)
	return cmd
}

func (a *app) principalStatus(verb string, status identity.Status, short string) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Example: "  deputy principal " + verb + " user@company.com",
		Args:    exactly("the principal's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			principal, err := c.PatchPrincipal(ctx, args[0], wire.PrincipalUpdate{Status: status})
			if err != nil {
				return err
			}
			return a.showPrincipal(principal)
		}),
	}
}

func (a *app) principalRevoke(verb, wait, short string) *cobra.Command {
	return a.killSwitch(&cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Example: "  deputy principal " + verb + ` user@company.com --reason 'account taken over'
  deputy principal ` + verb + " user@company.com --dry-run",
		Args: exactly("the principal's id"),
	}, "principal", wait, func(ctx context.Context, c *client.Client, id string, k *killFlags) (*wire.Kill, error) {
		return c.KillPrincipal(ctx, id, k.request(), k.dryRun, k.options()...)
	})
}

func (a *app) principalDelegations() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "delegations ID",
		Short:   "List what a principal has lent",
		Example: "  deputy principal delegations user@company.com",
		Args:    exactly("the principal's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := read(ctx, &l, func(ctx context.Context, l client.List) (*client.Page[wire.Delegation], error) {
				return c.PrincipalDelegations(ctx, args[0], l)
			})
			if err != nil {
				return err
			}
			return a.showDelegations(p)
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) showPrincipal(p *wire.Principal) error {
	return a.show(p, func(s *sheet) {
		s.field("Id", p.ID)
		s.field("Name", p.DisplayName)
		s.field("Groups", commas(p.Groups))
		s.field("Status", string(p.Status))
		s.field("Handle", string(p.Handle))
		s.field("Created", s.when(p.CreatedAt))
		s.field("Updated", s.when(p.UpdatedAt))
	})
}
