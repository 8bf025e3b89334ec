package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

func (a *app) policyCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "policy",
		Aliases: []string{"policies"},
		Short:   "Policies: what agents must not do, in Cedar",
	},
		a.policyList(), a.policyGet(), a.policyPut(), a.policyMode(), a.policyDelete(), a.policyApply(),
		a.policyHits(), a.policySimulate(), a.policyTest(), a.policySchema(), a.policyInstallDefaults(),
	)
}

func (a *app) completePolicies() cobra.CompletionFunc {
	return a.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		p, err := c.Policies(ctx, client.List{})
		if err != nil {
			return nil, err
		}
		names := make([]string, len(p.Items))
		for i := range p.Items {
			names[i] = p.Items[i].ID
		}
		return names, nil
	})
}

func (a *app) policyList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List policies",
		Example: "  deputy policy list",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, c.Policies)
			if err != nil {
				return err
			}
			return showPage(a, p, "POLICY MODE VERSION CHANGED DESCRIPTION", func(s *sheet, r *wire.Policy) {
				s.row(r.ID, string(r.Mode), fmt.Sprint(r.Version), s.when(r.UpdatedAt), brief(r.Description))
			})
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) policyGet() *cobra.Command {
	var text bool
	cmd := &cobra.Command{
		Use:               "get POLICY",
		Short:             "Show a policy",
		Example:           "  deputy policy get max-two-hops\n  deputy policy get max-two-hops --text > max-two-hops.cedar",
		Args:              exactly("the policy's id"),
		ValidArgsFunction: a.completePolicies(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.Policy(ctx, args[0])
			if err != nil {
				return err
			}
			if text {
				_, err := fmt.Fprintln(a.out, p.Text)
				return err
			}
			return a.showPolicy(p)
		}),
	}
	cmd.Flags().BoolVar(&text, "text", false, "nothing but its text, as it is put into a file")
	return cmd
}

func (a *app) showPolicy(p *wire.Policy) error {
	err := a.show(p, func(s *sheet) {
		s.field("Policy", p.ID)
		s.field("Description", p.Description)
		s.field("Mode", string(p.Mode))
		s.field("Version", fmt.Sprint(p.Version))
		s.field("Changed by", p.ChangedBy)
		s.field("Created", s.when(p.CreatedAt))
		s.field("Updated", s.when(p.UpdatedAt))
	})
	if err == nil && a.output == formatTable {
		fmt.Fprintln(a.out)
		err = a.writeLines(p.Text)
	}
	return err
}

// modeFlag is --mode of a command that may leave it as it is.
func modeFlag(cmd *cobra.Command, mode *string, absent string) {
	cmd.Flags().StringVar(mode, "mode", "", "enforce, monitor or off ("+absent+")")
	mustComplete(cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(policyModes(), cobra.ShellCompDirectiveNoFileComp)))
	before(cmd, func() error {
		if *mode == "" {
			return nil
		}
		return checkMode(*mode, "--mode")
	})
}

func policyModes() (modes []string) {
	for _, m := range identity.PolicyModes() {
		modes = append(modes, string(m))
	}
	return modes
}

func checkMode(mode, what string) error {
	if identity.ValidPolicyMode(identity.PolicyMode(mode)) != nil {
		return usagef("%s is %q; it must be enforce, monitor or off", what, mode)
	}
	return nil
}

func (a *app) policyPut() *cobra.Command {
	var file, mode, description string
	cmd := &cobra.Command{
		Use:               "put POLICY -f FILE",
		Short:             "Make a policy of a file, or replace one",
		Example:           "  deputy policy put no-night-shifts -f no-night-shifts.cedar --mode monitor",
		Args:              exactly("the policy's id"),
		ValidArgsFunction: a.completePolicies(),
	}
	cmd.RunE = a.does(func(ctx context.Context, c *client.Client, args []string) error {
		text, err := a.readPolicy(file)
		if err != nil {
			return err
		}
		r := wire.PolicyRequest{ID: args[0], Text: text, Mode: identity.PolicyMode(mode), Description: description}
		current, err := policyOrNone(ctx, c, args[0])
		if err != nil {
			return err
		}
		if current != nil && !cmd.Flags().Changed("description") {
			r.Description = current.Description
		}
		p, err := put(ctx, c, r, current)
		if err != nil {
			return err
		}
		return a.showPolicy(p)
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "file with its text in Cedar, or - for standard input")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic("BUG: " + err.Error())
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	modeFlag(cmd, &mode, "default as it was, and enforce for a new one")
	return cmd
}

// policyOrNone reads a policy that need not be there.
func policyOrNone(ctx context.Context, c *client.Client, id string) (*wire.Policy, error) {
	p, err := c.Policy(ctx, id)
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return nil, nil
	}
	return p, err
}

// put makes a policy, or replaces the one that was read.
func put(ctx context.Context, c *client.Client, r wire.PolicyRequest, current *wire.Policy) (*wire.Policy, error) {
	if current == nil {
		return c.CreatePolicy(ctx, r)
	}
	return c.ReplacePolicy(ctx, r, current.Revision)
}

func (a *app) policyMode() *cobra.Command {
	return &cobra.Command{
		Use:     "mode POLICY enforce|monitor|off",
		Short:   "Enforce a policy, only count what it would deny, or turn it off",
		Example: "  deputy policy mode corporate-network monitor",
		Args: func(_ *cobra.Command, args []string) error {
			if err := exactly("the policy's id", "the mode")(nil, args); err != nil {
				return err
			}
			return checkMode(args[1], "the mode")
		},
		ValidArgsFunction: a.completePolicies(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.SetPolicyMode(ctx, args[0], identity.PolicyMode(args[1]))
			if err != nil {
				return err
			}
			return a.showPolicy(p)
		}),
	}
}

func (a *app) policyDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete POLICY",
		Short:             "Delete a policy",
		Example:           "  deputy policy delete no-night-shifts",
		Args:              exactly("the policy's id"),
		ValidArgsFunction: a.completePolicies(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := c.DeletePolicy(ctx, args[0], 0)
			if err != nil {
				return err
			}
			return a.showDeleted(deleted, &stopFlags{})
		}),
	}
}

func (a *app) policyHits() *cobra.Command {
	return &cobra.Command{
		Use:               "hits [POLICY]",
		Short:             "What policies have denied, or in mode monitor would have, since the nodes were started",
		Example:           "  deputy policy hits\n  deputy policy hits corporate-network",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePolicies(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 0 {
				list, err := c.AllPolicyHits(ctx)
				if err != nil {
					return err
				}
				err = a.show(list, func(s *sheet) {
					s.row("POLICY", "MODE", "DENIED", "WOULD HAVE DENIED", "AGENTS")
					for i := range list.Policies {
						p := &list.Policies[i]
						s.row(p.PolicyID, string(p.Mode), fmt.Sprint(p.Denied), fmt.Sprint(p.Monitored), fmt.Sprint(p.Agents))
					}
				})
				a.noteHitsNodes(list.Nodes)
				return err
			}
			hits, err := c.PolicyHits(ctx, args[0])
			if err != nil {
				return err
			}
			err = a.show(hits, func(s *sheet) { s.policyHits(hits) })
			a.noteHitsNodes(hits.Nodes)
			return err
		}),
	}
}

func (s *sheet) policyHits(hits *wire.PolicyHits) {
	s.row("AGENT", "SCOPE", "DENIED", "WOULD HAVE DENIED", "LAST")
	line := func(agent, scope string, h wire.Hits, last string) {
		s.row(agent, scope, fmt.Sprint(h.Denied), fmt.Sprint(h.Monitored), last)
	}
	for i := range hits.Agents {
		agent := &hits.Agents[i]
		line(agent.AgentID, "", agent.Hits, s.when(agent.LastAt))
		for _, scope := range agent.Scopes {
			line(agent.AgentID, scope.Scope, scope.Hits, "")
		}
		if agent.OtherScopes != (wire.Hits{}) {
			line(agent.AgentID, "(others)", agent.OtherScopes, "")
		}
	}
	if hits.Others != (wire.Hits{}) {
		line("(others)", "", hits.Others, "")
	}
	line("(all)", "", wire.Hits{Denied: hits.Denied, Monitored: hits.Monitored}, "")
}

func (a *app) noteHitsNodes(nodes []wire.HitsNode) {
	for _, n := range nodes {
		if !n.Replied {
			a.note("warning: what %s has counted is missing: %s", n.ID, n.Error)
		}
	}
}

func (a *app) policySchema() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print what policies may speak about, as Cedar writes a schema",
		Example: "  deputy policy schema > deputy.cedarschema",
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.out, policy.Schema())
			return err
		},
	}
}

func (a *app) policyInstallDefaults() *cobra.Command {
	return &cobra.Command{
		Use:     "install-defaults",
		Short:   "Make those of the policies that come along which are not there",
		Long:    "Make those of the policies that come along which are not there. A new cluster has them; one from before policies,\nor where they were deleted, gets them back. What is there stays as it is.",
		Example: "  deputy policy install-defaults",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			made := []*wire.Policy{}
			for _, p := range policy.Shipped() {
				current, err := policyOrNone(ctx, c, p.ID)
				if err != nil {
					return err
				}
				if current != nil {
					a.note("%s is there already, in mode %s", current.ID, current.Mode)
					continue
				}
				one, err := c.CreatePolicy(ctx, wire.PolicyRequest{ID: p.ID, Text: p.Text, Mode: p.Mode, Description: p.Description})
				if err != nil {
					return fmt.Errorf("policy %s: %w", p.ID, err)
				}
				made = append(made, one)
			}
			return a.show(made, func(s *sheet) {
				s.row("MADE", "MODE", "DESCRIPTION")
				for _, p := range made {
					s.row(p.ID, string(p.Mode), p.Description)
				}
			})
		}),
	}
}
