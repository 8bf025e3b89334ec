package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func (a *app) approvalCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "approval",
		Aliases: []string{"approvals"},
		Short:   "What agents ask humans for, and the answers",
		Example: `  deputy approval list --status pending
  deputy approval approve apr_01ks8n1x5b5e5fh2wwt0rrnq7a --note INC-42`,
	}, a.approvalList(), a.approvalGet(), a.approvalDecide(true), a.approvalDecide(false), a.approvalWait())
}

func (a *app) approvalList() *cobra.Command {
	var l listing
	var f client.ApprovalFilter
	var status string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List approvals, the oldest first",
		Example: `  deputy approval list --status pending
  deputy approval list --agent support-triage-agent --all -o json`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			f.Status = identity.ApprovalStatus(status)
			p, err := read(ctx, &l, func(ctx context.Context, l client.List) (*client.Page[wire.Approval], error) {
				return c.Approvals(ctx, f, l)
			})
			if err != nil {
				return err
			}
			return showPage(a, p, "ID STATUS AGENT FOR WHAT REASON ASKED-BY EXPIRES", func(s *sheet, x *wire.Approval) {
				s.row(x.ID, string(x.Status), x.AgentID, x.PrincipalUserID, brief(approvalSubject(x)), brief(x.TriggerReason), x.RequestedBy[0], s.when(x.ExpiresAt))
			})
		}),
	}
	l.flags(cmd)
	cmd.Flags().StringVar(&status, "status", "", "only those that are pending, approved, denied, consumed or expired")
	cmd.Flags().StringVar(&f.Agent, "agent", "", "only those of this agent")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	mustComplete(cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(
		[]string{"pending", "approved", "denied", "consumed", "expired"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// approvalSubject is what is asked for, in a few words.
func approvalSubject(x *wire.Approval) string {
	if x.Kind == identity.ApprovalTool {
		return strings.TrimPrefix(x.Application+" ", " ") + x.Tool
	}
	if x.RequestedScopes == "" {
		return "default scopes"
	}
	return string(x.RequestedScopes)
}

func (a *app) approvalGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Aliases: []string{"show"},
		Short:   "Show what is asked for, by whom, and what came of it",
		Example: "  deputy approval get apr_01ks8n1x5b5e5fh2wwt0rrnq7a",
		Args:    exactly("the approval's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			approval, err := c.Approval(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showApproval(approval)
		}),
	}
}

func (a *app) approvalDecide(yes bool) *cobra.Command {
	verb, short := "deny", "Say no, or take back a yes that was not used yet"
	if yes {
		verb, short = "approve", "Say yes to what somebody else has asked for"
	}
	var note string
	cmd := &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Example: "  deputy approval " + verb + " apr_01ks8n1x5b5e5fh2wwt0rrnq7a --note INC-42",
		Args:    exactly("the approval's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			answer := c.Deny
			if yes {
				answer = c.Approve
			}
			approval, err := answer(ctx, args[0], note)
			if err != nil {
				return err
			}
			return a.showApproval(approval)
		}),
	}
	cmd.Flags().StringVar(&note, "note", "", "kept with the decision, shown to whoever asked")
	return cmd
}

func (a *app) approvalWait() *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use:     "wait ID",
		Short:   "Wait until somebody has decided; exit code 0 means that it was approved",
		Example: "  deputy approval wait apr_01ks8n1x5b5e5fh2wwt0rrnq7a --for 10m && deputy token mint",
		Args:    exactly("the approval's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			approval, err := awaitApproval(ctx, c, args[0], patience)
			if err != nil {
				return err
			}
			if err := a.showApproval(approval); err != nil {
				return err
			}
			if approval.Status != identity.ApprovalApproved && approval.Status != identity.ApprovalConsumed {
				return identity.Errorf(identity.CodeApprovalRequired, "approval %s is %s", approval.ID, approval.Status)
			}
			return nil
		}),
	}
	cmd.Flags().DurationVar(&patience, "for", 10*time.Minute, "give up after this long")
	before(cmd, func() error {
		if patience < time.Second || patience > 24*time.Hour {
			return usagef("--for is %s; it must be between 1s and 24h", patience)
		}
		a.patience = max(a.patience, patience)
		return nil
	})
	return cmd
}

// awaitApproval asks again and again, each time for as long as a node lets it wait.
func awaitApproval(ctx context.Context, c *client.Client, id string, patience time.Duration) (*wire.Approval, error) {
	until := time.Now().Add(patience)
	for {
		left := min(time.Until(until), wire.MaxApprovalWait*time.Second)
		approval, err := c.AwaitApproval(ctx, id, max(left, time.Second))
		if err != nil || approval.Status != identity.ApprovalPending || time.Until(until) < time.Second {
			return approval, err
		}
	}
}

func (a *app) showApproval(x *wire.Approval) error {
	return a.show(x, func(s *sheet) {
		s.field("Approval", x.ID)
		s.field("Status", string(x.Status))
		s.field("Agent", x.AgentID)
		principal := x.PrincipalUserID
		if principal == "" {
			principal = "nobody (autonomous)"
		}
		s.field("On behalf of", principal)
		if x.Kind == identity.ApprovalTool {
			s.field("Session", x.SessionID)
			s.field("Application", x.Application)
			s.field("Tool", x.Tool)
			s.field("Arguments", x.ArgumentsHash)
		} else {
			s.field("Hop of", x.ParentSessionID)
			s.field("Scopes", approvalSubject(x))
			s.field("Audience", joined(x.Audience))
			if x.MaxDuration > 0 {
				s.field("Lasts", secondsText(x.MaxDuration))
			}
		}
		s.field("Set off by", x.TriggerReason)
		s.field("Policy", x.PolicyID)
		s.field("Asked by", joined(x.RequestedBy))
		s.field("Asked", s.when(x.CreatedAt))
		s.field("Expires", s.when(x.ExpiresAt))
		s.field("Decided by", x.DecidedBy)
		s.field("Decided", s.when(x.DecidedAt))
		s.field("Note", x.Note)
		s.field("Used by", x.UsedBy)
		s.field("Used for", x.UsedFor)
	})
}
