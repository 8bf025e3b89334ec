package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

func (a *app) sessionCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "session",
		Aliases: []string{"sessions"},
		Short:   "Sessions: single runs of an agent, each with one token",
	}, a.sessionCreate(), a.sessionList(), a.sessionGet(), a.sessionEnd())
}

func (a *app) sessionCreate() *cobra.Command {
	var request wire.SessionRequest
	var b body
	var principal string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Start a session and show its token",
		Example: `  deputy session create --agent support-triage-agent --scope zendesk.tickets.read \
    --reason 'scheduled run at 2026-04-17T08:00Z'
  deputy session create --agent inbox-assistant --principal user@company.com \
    --scope gmail.read --scope gmail.draft --duration 4h --reason "user clicked 'summarize inbox'"
  deputy session create -f session.json -o json | jq -r .access_token`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			body, err := b.or(a, func() (any, error) {
				if request.AgentID == "" {
					return nil, usagef("--agent is needed, or the API's JSON with -f FILE")
				}
				if principal != "" {
					request.PrincipalUserID = &principal
				}
				request.MaxDuration = seconds(lasts)
				return &request, nil
			})
			if err != nil {
				return err
			}
			session, err := c.CreateSession(ctx, body, nil)
			if err != nil {
				return err
			}
			return a.showSession(session)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.AgentID, "agent", "", "who runs")
	flags.StringVar(&principal, "principal", "", "on whose behalf (default: nobody's, an autonomous run)")
	flags.StringArrayVar(&request.RequestedScopes, "scope", nil, "a scope wanted (repeatable; default: all it may get)")
	flags.StringArrayVar(&request.Audience, "audience", nil, "application or audience URI that will be called (repeatable)")
	flags.StringVar(&request.TriggerReason, "reason", "", "what set it off")
	flags.DurationVar(&lasts, "duration", 0, "the longest it should last (default: the agent's maximum)")
	b.flag(cmd, "agent", "principal", "scope", "audience", "reason", "duration")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	mustComplete(cmd.RegisterFlagCompletionFunc("audience", a.completeApplications()))
	return cmd
}

func (a *app) showSession(n *wire.Session) error {
	return a.show(n, func(s *sheet) {
		s.field("Session", n.SessionID)
		s.field("Agent", n.AgentID)
		if n.PrincipalUserID != nil {
			s.field("On behalf of", *n.PrincipalUserID)
			s.field("Delegation", n.DelegationID)
		} else {
			s.field("On behalf of", "nobody (autonomous)")
		}
		s.field("Scope", n.Scope)
		s.field("Ends", s.when(n.ExpiresAt))
		s.field("Token", n.AccessToken)
	})
}
