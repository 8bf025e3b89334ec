package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) revocationCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "revocation",
		Aliases: []string{"revocations"},
		Short:   "Revocations: what was stopped, by whom and why",
	}, a.revocationCreate(), a.revocationList(), a.revocationExport(), a.revocationWatch())
}

func (a *app) revocationCreate() *cobra.Command {
	var request wire.RevocationRequest
	var f stopFlags
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
				request.Reason = f.reason
				return &request, nil
			})
			if err != nil {
				return err
			}
			revocation, err := c.Revoke(ctx, body, f.options()...)
			if err != nil {
				return err
			}
			return a.showRevocation(revocation, &f)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.SessionID, "session", "", "a session's id")
	flags.StringVar(&request.DelegationID, "delegation", "", "a delegation's id")
	flags.StringVar(&request.AgentID, "agent", "", "an agent's name")
	flags.StringVar(&request.PrincipalID, "principal", "", "a principal's id")
	f.add(a, cmd, wire.WaitCommitted)
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

func (a *app) showRevocation(r *wire.Revocation, f *stopFlags) error {
	switch {
	case r.Known:
	case len(r.Handles) > 0 && strings.HasPrefix(string(r.Handles[0]), identity.PrefixSession):
		a.note("a session is ended by its id, whether any node knows it or not: 'deputy session get %s' tells whether one does", r.Handles[0])
	default:
		a.note("no node has seen that id; it is revoked all the same, but check the spelling")
	}
	return f.stopped(a, r, &r.Stop, func(s *sheet) { s.field("Revoked", joined(r.Handles)) })
}

func (s *sheet) revocation(r *wire.RevocationRecord) {
	if r == nil {
		return
	}
	s.field("Revoked at", s.when(r.RevokedAt))
	s.field("By", r.By)
	s.field("Reason", r.Reason)
}

func (a *app) revocationExport() *cobra.Command {
	var since string
	var state bool
	cmd := a.takesLong(&cobra.Command{
		Use:   "export",
		Short: "Write all that is stopped as JSON lines, for a replay after a restore",
		Long: `Write what is suspended, deactivated or withdrawn, and the whole revocation set, to standard output, a JSON object
a line whatever -o says. At its end standard error has how many there were, and since when all deletions are among
them: without these lines the export is not whole.

Of agents, principals and delegations that there are the cluster knows for good whether they are stopped. What was
deleted - agents, principals, credentials, applications, API tokens - is known as long as its revocation, of which
'deputy cluster settings show' tells how long that is at least. Therefore export at least that often, keep the files,
and after a restore replay all since the backup, in any order.`,
		Example: `  deputy revocation export > later.jsonl
  deputy revocation export --since 2026-04-12T08:00:00Z > later.jsonl`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			var from identity.Instant
			if since != "" {
				at, err := time.Parse(time.RFC3339, since)
				if err != nil {
					return usagef("--since is %q; it must be a time such as 2026-04-12T08:00:00Z", since)
				}
				from = identity.InstantOf(at)
			}
			return a.export(ctx, c, from, state)
		}),
	})
	cmd.Flags().StringVar(&since, "since", "", "only what was stopped at that time or later")
	cmd.Flags().BoolVar(&state, "state", true, "also what is suspended, deactivated or withdrawn; false: the revocation set alone")
	return cmd
}

// export writes what is stopped by its state first: what is deleted meanwhile is then among the revocations.
func (a *app) export(ctx context.Context, c *client.Client, from identity.Instant, state bool) error {
	stopped, revoked := 0, 0
	lines := json.NewEncoder(a.out)
	if state {
		for s, err := range c.ExportStopped(ctx) {
			if err != nil {
				return fmt.Errorf("after %d handles, which are not all: %w", stopped, err)
			}
			if s.ChangedAt < from {
				continue
			}
			if err := lines.Encode(s); err != nil {
				return err
			}
			stopped++
		}
	}
	for r, err := range c.ExportRevocations(ctx) {
		if err != nil {
			return fmt.Errorf("after %d handles, which are not all: %w", stopped+revoked, err)
		}
		if r.RevokedAt < from {
			continue
		}
		if err := lines.Encode(r); err != nil {
			return err
		}
		revoked++
	}
	// Asked last, as revocations may be forgotten on the way.
	settings, err := c.Settings(ctx)
	if err != nil {
		return fmt.Errorf("after all %d handles, asking since when deletions are among them: %w", stopped+revoked, err)
	}
	if state {
		a.note("%d suspended, deactivated or withdrawn", stopped)
	}
	a.note("%d revocations", revoked)
	switch known := max(from, settings.DeletionsKnownSince); {
	case known.IsZero():
		a.note("all deletions are among them")
	case known == from:
		a.note("all deletions since %s are among them", known)
	default:
		a.note("all deletions since %s are among them; those before are in earlier exports only, so replay these as well", known)
	}
	return nil
}
