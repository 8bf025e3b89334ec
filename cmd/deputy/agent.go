package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) agentCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "agent",
		Aliases: []string{"agents"},
		Short:   "Agents: identities of their own for AI agents",
	},
		a.agentCreate(), a.agentGet(), a.agentList(), a.agentUpdate(), a.agentDelete(),
		a.agentLifecycle(client.Activate, "Let a suspended or deactivated agent work again"),
		a.agentLifecycle(client.Suspend, "End what runs as the agent and let nothing new start, until it is activated"),
		a.agentLifecycle(client.Deactivate, "Retire the agent: end what runs and let nothing happen to it until it is activated"),
		a.agentRevoke("revoke", wire.WaitCommitted, "End everything that runs as the agent, and suspend it"),
		a.agentRevoke("kill", wire.WaitFenced, "The kill switch: revoke, and wait until no node acts as the agent any more"),
		a.agentAccess(), a.agentAssign(), a.credentialCommand(ofAgents),
	)
}

// agentFlags are what can be said of an agent.
type agentFlags struct {
	description, owner, kind     string
	scopes, applications, groups []string
	labels                       map[string]string
	maxSession                   time.Duration
}

var agentFlagNames = []string{"description", "owner-group", "type", "scope", "application", "group", "label", "max-session"}

func (f *agentFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.description, "description", "", "what it does")
	flags.StringVar(&f.owner, "owner-group", "", "the team that answers for it")
	flags.StringVar(&f.kind, "type", string(identity.AgentAutonomous), "autonomous, user-delegated or scheduled")
	flags.StringArrayVar(&f.scopes, "scope", nil, "a scope that it may be granted at most (repeatable)")
	flags.StringArrayVar(&f.applications, "application", nil, "an application that it may call (repeatable)")
	flags.StringArrayVar(&f.groups, "group", nil, "a group that it belongs to (repeatable)")
	flags.StringToStringVar(&f.labels, "label", nil, "key=value (repeatable)")
	flags.DurationVar(&f.maxSession, "max-session", wire.DefaultMaxSessionSeconds*time.Second, "the longest that a session may last")
	mustComplete(cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{
		string(identity.AgentAutonomous), string(identity.AgentUserDelegated), string(identity.AgentScheduled),
	}, cobra.ShellCompDirectiveNoFileComp)))
}

func (f *agentFlags) request(name string) (*wire.AgentRequest, error) {
	s, err := scopes(f.scopes)
	if err != nil {
		return nil, err
	}
	return &wire.AgentRequest{
		Profile:       wire.Profile{Name: name, Description: f.description, OwnerGroup: f.owner, AgentType: identity.AgentType(f.kind)},
		DefaultScopes: s, MaxSessionDuration: seconds(f.maxSession),
		Applications: f.applications, Groups: f.groups, Labels: f.labels,
	}, nil
}

// patch holds the flags that were given, as a merge patch.
func (f *agentFlags) patch(cmd *cobra.Command) (map[string]any, error) {
	patch, profile := map[string]any{}, map[string]any{}
	given := cmd.Flags().Changed
	if given("description") {
		profile["description"] = f.description
	}
	if given("owner-group") {
		profile["owner_group"] = f.owner
	}
	if given("type") {
		profile["agent_type"] = f.kind
	}
	if len(profile) > 0 {
		patch["profile"] = profile
	}
	if given("scope") {
		s, err := scopes(f.scopes)
		if err != nil {
			return nil, err
		}
		patch["default_scopes"] = s
	}
	if given("application") {
		patch["applications"] = f.applications
	}
	if given("group") {
		patch["groups"] = f.groups
	}
	if given("label") {
		patch["labels"] = f.labels
	}
	if given("max-session") {
		patch["max_session_duration_seconds"] = seconds(f.maxSession)
	}
	return patch, nil
}

func (a *app) agentCreate() *cobra.Command {
	var f agentFlags
	var b body
	var withSecret bool
	cmd := &cobra.Command{
		Use:   "create NAME | create -f FILE",
		Short: "Make an agent",
		Example: `  deputy agent create support-triage-agent --owner-group ai-engineering \
    --scope zendesk.tickets.read --scope zendesk.tickets.assign --max-session 1h
  deputy agent create -f agent.json --with-secret`,
		Args: b.nameOrFile("agent"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			request, err := b.or(a, func() (any, error) { return f.request(args[0]) })
			if err != nil {
				return err
			}
			agent, err := c.CreateAgent(ctx, request, withSecret)
			if err != nil {
				return err
			}
			return a.showAgent(agent)
		}),
	}
	f.add(cmd)
	b.flag(cmd, agentFlagNames...)
	cmd.Flags().BoolVar(&withSecret, "with-secret", false, "also make a credential and show its secret, once")
	return cmd
}

func (a *app) agentGet() *cobra.Command {
	return &cobra.Command{
		Use:               "get NAME",
		Short:             "Show an agent",
		Example:           "  deputy agent get support-triage-agent -o yaml",
		Args:              exactly("the agent's name"),
		ValidArgsFunction: a.completeAgents(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			agent, err := c.Agent(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showAgent(agent)
		}),
	}
}

func (a *app) agentList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List agents",
		Example: "  deputy agent list --all -o json",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, c.Agents)
			if err != nil {
				return err
			}
			return showPage(a, p, "NAME TYPE STATUS OWNER APPLICATIONS SCOPES UPDATED", func(s *sheet, g *wire.Agent) {
				s.row(g.ID, string(g.Profile.AgentType), string(g.Status), g.Profile.OwnerGroup,
					brief(joined(g.Applications)), brief(string(g.DefaultScopes)), s.when(g.UpdatedAt))
			})
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) agentUpdate() *cobra.Command {
	var f agentFlags
	var b body
	var replace, revoke bool
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change what is said of an agent; a repeatable flag replaces the whole list",
		Long: `Change what is said of an agent. A repeatable flag replaces the whole list. With -f the file is a JSON
merge patch (RFC 7396), or with --replace the whole agent. A narrowing change leaves running sessions alone
unless --revoke is given.`,
		Example: `  deputy agent update support-triage-agent --max-session 30m
  deputy agent update support-triage-agent --replace -f agent.json`,
		Args:              exactly("the agent's name"),
		ValidArgsFunction: a.completeAgents(),
	}
	cmd.RunE = a.does(func(ctx context.Context, c *client.Client, args []string) error {
		if replace {
			if b.file == "" {
				return usagef("--replace needs the whole agent in -f FILE")
			}
			whole, err := a.readBody(b.file)
			if err != nil {
				return err
			}
			agent, err := c.ReplaceAgent(ctx, args[0], whole, revoke)
			if err != nil {
				return err
			}
			return a.showAgent(agent)
		}
		made, err := f.patch(cmd)
		if err != nil {
			return err
		}
		patch, err := b.patch(a, made)
		if err != nil {
			return err
		}
		agent, err := c.PatchAgent(ctx, args[0], patch, revoke)
		if err != nil {
			return err
		}
		return a.showAgent(agent)
	})
	f.add(cmd)
	b.flag(cmd, agentFlagNames...)
	cmd.Flags().BoolVar(&replace, "replace", false, "put the file in the place of the whole agent")
	cmd.Flags().BoolVar(&revoke, "revoke", false, "also end the agent's sessions")
	return cmd
}

func (a *app) agentDelete() *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:               "delete NAME",
		Short:             "Delete an agent, which ends every token that rests on it",
		Example:           "  deputy agent delete support-triage-agent --reason 'replaced by triage-2'",
		Args:              exactly("the agent's name"),
		ValidArgsFunction: a.completeAgents(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			deleted, err := c.DeleteAgent(ctx, args[0], f.reason, f.options()...)
			if err != nil {
				return err
			}
			return a.showDeleted(deleted, &f)
		}),
	}
	f.add(a, cmd, wire.WaitCommitted)
	return cmd
}

func (a *app) agentLifecycle(step client.Lifecycle, short string) *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:               string(step) + " NAME",
		Short:             short,
		Example:           "  deputy agent " + string(step) + " support-triage-agent --reason INC-42",
		Args:              exactly("the agent's name"),
		ValidArgsFunction: a.completeAgents(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			status, err := c.AgentLifecycle(ctx, args[0], step, f.reason, f.options()...)
			if err != nil {
				return err
			}
			return f.stopped(a, status, &status.Stop, func(s *sheet) {
				s.field("Agent", status.Agent.ID)
				s.field("Status", string(status.Agent.Status))
				s.field("Revoked", joined(status.Handles))
			})
		}),
	}
	f.add(a, cmd, wire.WaitCommitted)
	return cmd
}

func (a *app) agentRevoke(verb, wait, short string) *cobra.Command {
	return a.killSwitch(&cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Example: "  deputy agent " + verb + ` support-triage-agent --reason INC-42
  deputy agent ` + verb + " support-triage-agent --dry-run",
		Args:              exactly("the agent's name"),
		ValidArgsFunction: a.completeAgents(),
	}, "agent", wait, func(ctx context.Context, c *client.Client, name string, k *killFlags) (*wire.Kill, error) {
		return c.KillAgent(ctx, name, k.request(), k.dryRun, k.options()...)
	})
}

func (a *app) agentAccess() *cobra.Command {
	return &cobra.Command{
		Use:               "access NAME",
		Short:             "Show what an agent may get right now, and where each scope comes from",
		Example:           "  deputy agent access inbox-assistant",
		Args:              exactly("the agent's name"),
		ValidArgsFunction: a.completeAgents(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			access, err := c.AgentAccess(ctx, args[0])
			if err != nil {
				return err
			}
			err = a.show(access, func(s *sheet) {
				s.row("SCOPE", "USABLE", "APPLICATION", "FROM", "BECAUSE")
				for _, scope := range access.Scopes {
					sources := make([]string, len(scope.From))
					for i, from := range scope.From {
						sources[i] = from.Kind
						if from.PrincipalID != "" {
							sources[i] += " of " + from.PrincipalID + " until " + s.when(from.ExpiresAt)
						}
					}
					s.row(scope.Scope, yesNo(scope.Usable), scope.Application, brief(commas(sources)), scope.Because)
				}
			})
			if err == nil && access.Truncated {
				a.note("more delegations exist than were looked at; 'deputy delegation list --agent %s' shows them", args[0])
			}
			return err
		}),
	}
}

func (a *app) agentAssign() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "assign NAME APPLICATION…",
		Short: "Let an agent call applications, or with --remove no longer",
		Example: `  deputy agent assign support-triage-agent zendesk
  deputy agent assign support-triage-agent zendesk --remove`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("name the agent, then one application or more")
			}
			return nil
		},
		ValidArgsFunction: a.completeAgents(),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			agent, err := assign(ctx, c, args[0], args[1:], remove)
			if err != nil {
				return err
			}
			return a.showAgent(agent)
		}),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take the assignments away")
	return cmd
}

// assign adds applications to an agent or takes them away.
func assign(ctx context.Context, c *client.Client, name string, applications []string, remove bool) (*wire.Agent, error) {
	agent, err := c.Agent(ctx, name)
	if err != nil {
		return nil, err
	}
	wanted := slices.DeleteFunc(slices.Clone(agent.Applications), func(have string) bool {
		return slices.Contains(applications, have)
	})
	if !remove {
		wanted = append(wanted, applications...)
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	if slices.Equal(wanted, agent.Applications) {
		return agent, nil
	}
	return c.PatchAgent(ctx, name, map[string]any{"applications": wanted}, false)
}

func (a *app) showAgent(g *wire.Agent) error {
	return a.show(g, func(s *sheet) {
		s.field("Name", g.ID)
		s.field("Description", g.Profile.Description)
		s.field("Owner group", g.Profile.OwnerGroup)
		s.field("Type", string(g.Profile.AgentType))
		s.field("Status", string(g.Status))
		s.field("Default scopes", string(g.DefaultScopes))
		s.field("Longest session", secondsText(g.MaxSessionDuration))
		s.field("Applications", joined(g.Applications))
		s.field("Groups", commas(g.Groups))
		for _, key := range slices.Sorted(maps.Keys(g.Labels)) {
			s.field("Label", key+"="+g.Labels[key])
		}
		s.credentials(g.Credentials)
		s.field("Handle", string(g.Handle))
		s.field("Created", s.when(g.CreatedAt))
		s.field("Updated", s.when(g.UpdatedAt))
		s.newCredential(g.Credential)
	})
}
