package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

func (a *app) revocationCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "revocation",
		Aliases: []string{"revocations"},
		Short:   "Revocations: what was stopped, by whom and why",
	}, a.revocationCreate(), a.revocationList())
}

func (a *app) revocationCreate() *cobra.Command {
	var request wire.RevocationRequest
	var b body
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Stop one session, delegation, agent or principal",
		Example: `  deputy revocation create --session ses_01ks8n1x5b5e5fh2wwt0rrnq7a --reason INC-42
  deputy revocation create --agent support-triage-agent --reason INC-42`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			body, err := b.or(a, func() (any, error) {
				named := 0
				for _, id := range []string{request.SessionID, request.DelegationID, request.AgentID, request.PrincipalID} {
					if id != "" {
						named++
					}
				}
				if named != 1 {
					return nil, usagef("exactly one of --session, --delegation, --agent and --principal is needed")
				}
				return &request, nil
			})
			if err != nil {
				return err
			}
			revocation, err := c.Revoke(ctx, body)
			if err != nil {
				return err
			}
			return a.showRevocation(revocation)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.SessionID, "session", "", "a session's id")
	flags.StringVar(&request.DelegationID, "delegation", "", "a delegation's id")
	flags.StringVar(&request.AgentID, "agent", "", "an agent's name")
	flags.StringVar(&request.PrincipalID, "principal", "", "a principal's id")
	reasonFlag(cmd, &request.Reason)
	b.flag(cmd, "session", "delegation", "agent", "principal", "reason")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	return cmd
}

func (a *app) revocationList() *cobra.Command {
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the revocation set",
		Example: "  deputy revocation list",
		Args:    exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := read(ctx, &l, c.Revocations)
			if err != nil {
				return err
			}
			return showPage(a, p, "HANDLE REVOKED BY FORGOTTEN REASON", func(s *sheet, r *wire.RevocationRecord) {
				s.row(string(r.Handle), s.when(r.RevokedAt), r.By, s.when(r.ExpiresAt), brief(r.Reason))
			})
		}),
	}
	l.flags(cmd)
	return cmd
}

func (a *app) showRevocation(r *wire.Revocation) error {
	err := a.show(r, func(s *sheet) {
		s.field("Revoked", joined(r.Handles))
		s.field("Committed", yesNo(r.Committed))
		s.field("Index", count(int(r.Index)))
	})
	if err == nil && !r.Known {
		a.note("no node has seen that id; it is revoked all the same, but check the spelling")
	}
	return err
}

func (s *sheet) revocation(r *wire.RevocationRecord) {
	if r == nil {
		return
	}
	s.field("Revoked at", s.when(r.RevokedAt))
	s.field("By", r.By)
	s.field("Reason", r.Reason)
}
