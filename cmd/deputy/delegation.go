package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

func (a *app) delegationCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "delegation",
		Aliases: []string{"delegations"},
		Short:   "Delegations: slices of a person's authority, lent to an agent for a while",
	}, a.delegationCreate(), a.delegationGet(), a.delegationList(), a.delegationWithdraw())
}

func (a *app) delegationCreate() *cobra.Command {
	var request wire.DelegationRequest
	var b body
	var scopeNames []string
	var lasts time.Duration
	var ensurePrincipal bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Lend an agent a slice of a principal's authority",
		Example: `  deputy delegation create --principal user@company.com --agent inbox-assistant \
    --scope gmail.read --scope gmail.draft --duration 4h --reason 'review my inbox'`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			body, err := b.or(a, func() (any, error) {
				if request.PrincipalID == "" || request.AgentID == "" || len(scopeNames) == 0 {
					return nil, usagef("--principal, --agent and at least one --scope are needed, or the API's JSON with -f FILE")
				}
				s, err := scopes(scopeNames)
				request.Scopes, request.Duration = s, seconds(lasts)
				return &request, err
			})
			if err != nil {
				return err
			}
			delegation, err := c.CreateDelegation(ctx, body, ensurePrincipal)
			if err != nil {
				return err
			}
			return a.showDelegation(delegation)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.PrincipalID, "principal", "", "who lends")
	flags.StringVar(&request.AgentID, "agent", "", "to whom")
	flags.StringArrayVar(&scopeNames, "scope", nil, "what is lent (repeatable)")
	flags.DurationVar(&lasts, "duration", time.Hour, "for how long")
	flags.StringVar(&request.Reason, "reason", "", "why")
	flags.StringVar(&request.Origin, "origin", "", "what caused it")
	flags.Int64Var(&request.MaxHops, "max-hops", 0, "agents in a chain that may rest on it, 1 or 2 (default 2)")
	flags.BoolVar(&ensurePrincipal, "ensure-principal", false, "make the principal where there is none")
	b.flag(cmd, "principal", "agent", "scope", "duration", "reason", "origin", "max-hops")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	return cmd
}

func (a *app) delegationGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Short:   "Show a delegation",
		Example: "  deputy delegation get dlg_01ks8n1x5b5e5fh2wwt0rrnq7a",
		Args:    exactly("the delegation's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			delegation, err := c.Delegation(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showDelegation(delegation)
		}),
	}
}

func (a *app) delegationList() *cobra.Command {
	var l listing
	var filter client.DelegationFilter
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List delegations",
		Example: "  deputy delegation list --agent inbox-assistant --active",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, func(ctx context.Context, l client.List) (*client.Page[wire.Delegation], error) {
				return c.Delegations(ctx, filter, l)
			})
			if err != nil {
				return err
			}
			return a.showDelegations(p)
		}),
	}
	l.flags(cmd)
	cmd.Flags().StringVar(&filter.Agent, "agent", "", "only those to this agent")
	cmd.Flags().StringVar(&filter.Principal, "principal", "", "only those of this principal")
	cmd.Flags().BoolVar(&filter.Active, "active", false, "only those that may be used now")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	return cmd
}

func (a *app) delegationWithdraw() *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:     "withdraw ID",
		Aliases: []string{"revoke", "delete"},
		Short:   "Take consent back, which ends every token that rests on it",
		Example: "  deputy delegation withdraw dlg_01ks8n1x5b5e5fh2wwt0rrnq7a --reason 'asked by the user'",
		Args:    exactly("the delegation's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := c.WithdrawDelegation(ctx, args[0], f.reason, f.options()...)
			if err != nil {
				return err
			}
			return f.stopped(a, deleted, &deleted.Stop, func(s *sheet) {
				s.field("Withdrawn", deleted.ID)
				s.field("Revoked", joined(deleted.Handles))
			})
		}),
	}
	f.add(a, cmd, wire.WaitCommitted)
	return cmd
}

func delegationState(d *wire.Delegation) string {
	if d.Expired {
		return "expired"
	}
	return string(d.Status)
}

func (a *app) showDelegations(p *client.Page[wire.Delegation]) error {
	return showPage(a, p, "ID PRINCIPAL AGENT STATUS SCOPES EXPIRES", func(s *sheet, d *wire.Delegation) {
		s.row(d.ID, d.PrincipalID, d.AgentID, delegationState(d), brief(string(d.Scopes)), s.when(d.ExpiresAt))
	})
}

func (a *app) showDelegation(d *wire.Delegation) error {
	return a.show(d, func(s *sheet) {
		s.field("Id", d.ID)
		s.field("Principal", d.PrincipalID)
		s.field("Agent", d.AgentID)
		s.field("Scopes", string(d.Scopes))
		s.field("Status", delegationState(d))
		s.field("Expires", s.when(d.ExpiresAt))
		s.field("Reason", d.Reason)
		s.field("Origin", d.Origin)
		s.field("Longest chain", count(int(d.MaxHops)))
		s.field("Created", s.when(d.CreatedAt))
		s.field("Withdrawn", s.when(d.WithdrawnAt))
	})
}
