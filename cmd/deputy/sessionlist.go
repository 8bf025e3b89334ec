package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

func (a *app) sessionList() *cobra.Command {
	var l listing
	var filter client.SessionFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sessions that have not ended, as the nodes remember them",
		Example: `  deputy session list --agent inbox-assistant --active
  deputy session list --principal user@company.com --all -o json | jq -r '.sessions[].session_id'`,
		Args: exactly(),
		RunE: a.does(func(ctx context.Context, c *client.Client, _ []string) error {
			list, next, err := readSessions(ctx, c, filter, &l)
			if err != nil {
				return err
			}
			return a.showSessions(list, next)
		}),
	}
	l.flags(cmd)
	cmd.Flags().StringVar(&filter.Agent, "agent", "", "only those with this agent in their chain")
	cmd.Flags().StringVar(&filter.Principal, "principal", "", "only those on behalf of this principal")
	cmd.Flags().BoolVar(&filter.Active, "active", false, "only those that are not revoked")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	return cmd
}

// readSessions gets the page asked for, or all of them: complete is then what every page was.
func readSessions(ctx context.Context, c *client.Client, filter client.SessionFilter, l *listing) (list *wire.SessionList, next string, err error) {
	list = &wire.SessionList{Sessions: []wire.SessionInfo{}, Complete: true}
	for {
		p, err := c.Sessions(ctx, filter, l.list)
		if err != nil {
			return nil, "", err
		}
		list.Sessions = append(list.Sessions, p.Items...)
		list.Complete = list.Complete && p.Complete
		list.Nodes = worseOf(list.Nodes, p.Nodes)
		if !l.all || p.Next == "" || p.Next == l.list.After {
			return list, p.Next, nil
		}
		l.list.After = p.Next
	}
}

// worseOf keeps of each node what it said when it lacked something: a page without it is a gap in the whole list.
func worseOf(before, now []wire.SessionNode) []wire.SessionNode {
	for _, n := range before {
		if n.Replied && n.Complete {
			continue
		}
		replaced := false
		for i := range now {
			if now[i].ID == n.ID {
				now[i], replaced = n, true
			}
		}
		if !replaced {
			now = append(now, n)
		}
	}
	return now
}

func (a *app) showSessions(list *wire.SessionList, next string) error {
	err := a.show(list, func(s *sheet) {
		s.row("SESSION", "AGENT", "PRINCIPAL", "SCOPES", "STARTED", "ENDS", "STATE", "NODE")
		for i := range list.Sessions {
			n := &list.Sessions[i]
			principal, state := "", "active"
			if n.PrincipalUserID != nil {
				principal = *n.PrincipalUserID
			}
			if n.Revoked {
				state = "revoked"
			}
			s.row(n.SessionID, strings.Join(n.Chain, " > "), principal, brief(string(n.Scopes)), s.when(n.StartedAt), s.when(n.ExpiresAt), state, n.Node)
		}
	})
	if err != nil {
		return err
	}
	if next != "" {
		a.note("there are more: --after %s, or --all", next)
	}
	a.noteNodes(list.Nodes)
	return nil
}

// noteNodes warns of every node whose sessions are not all there.
func (a *app) noteNodes(nodes []wire.SessionNode) {
	for _, n := range nodes {
		switch {
		case !n.Replied:
			a.note("warning: the sessions that %s has started are missing: %s", n.ID, n.Error)
		case n.Dropped > 0:
			a.note("warning: %s had no room for %d sessions, which may run until %s", n.ID, n.Dropped, n.DroppedUntil)
		case !n.Complete:
			a.note("warning: %s was restarted, and has forgotten what it had started before %s", n.ID, n.Since)
		}
	}
}

func (a *app) sessionGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Short:   "Say what is known of a session, and whether it was revoked",
		Example: "  deputy session get ses_01ks8n1x5b5e5fh2wwt0rrnq7a",
		Args:    exactly("the session's id"),
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			state, err := c.Session(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showState(state)
		}),
	}
}

func (a *app) showState(state *wire.SessionState) error {
	err := a.show(state, func(s *sheet) {
		s.field("Session", state.SessionID)
		if state.Known {
			s.field("Agent", state.AgentID)
			if len(state.Chain) > 1 {
				s.field("Chain", strings.Join(state.Chain, " > "))
			}
			principal := state.PrincipalUserID
			if principal == "" {
				principal = "nobody (autonomous)"
			}
			s.field("On behalf of", principal)
			s.field("Delegation", state.DelegationID)
			s.field("Hop of", state.ParentSessionID)
			s.field("Scopes", strings.Join(state.Scopes, " "))
			s.field("Audience", strings.Join(state.Audience, " "))
			s.field("Set off by", state.TriggerReason)
			s.field("Node", state.Node)
			s.field("Began", s.when(state.StartedAt))
			s.field("Ends", s.when(state.ExpiresAt))
		} else {
			s.field("Began", s.when(state.StartedAt))
			s.field("Over by", s.when(state.EndsBy))
		}
		s.field("Revoked", yesNo(state.Revoked))
		s.field("By way of", string(state.RevokedBy))
		s.revocation(state.Revocation)
	})
	if err == nil && !state.Known {
		a.note("no node that answered remembers it: it has ended, or was never started, or see below")
		a.noteNodes(state.Nodes)
	}
	return err
}

func (a *app) sessionEnd() *cobra.Command {
	var f stopFlags
	var of client.SessionFilter
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "end [ID]",
		Aliases: []string{"revoke", "delete"},
		Short:   "End a session, or all of an agent or a principal: their tokens are dead at every node",
		Example: `  deputy session end ses_01ks8n1x5b5e5fh2wwt0rrnq7a --reason done
  deputy session end --agent inbox-assistant --dry-run
  deputy session end --principal user@company.com --reason INC-42 --wait fenced`,
		Args: func(_ *cobra.Command, args []string) error {
			named := len(args)
			for _, name := range []string{of.Agent, of.Principal} {
				if name != "" {
					named++
				}
			}
			if named != 1 {
				return usagef("exactly one is needed: a session's id, --agent or --principal")
			}
			if dryRun && len(args) > 0 {
				return usagef("--dry-run goes with --agent or --principal; 'deputy session get %s' tells what is known of the one", args[0])
			}
			return nil
		},
		RunE: a.does(func(ctx context.Context, c *client.Client, args []string) error {
			switch {
			case len(args) > 0:
				revocation, err := c.EndSession(ctx, args[0], f.reason, f.options()...)
				if err != nil {
					return err
				}
				return a.showRevocation(revocation, &f)
			case dryRun:
				counted, err := c.CountSessionsOf(ctx, of)
				if err != nil {
					return err
				}
				return a.showCount(counted)
			}
			ended, err := c.EndSessionsOf(ctx, of, f.reason, f.options()...)
			if err != nil {
				return err
			}
			return f.stopped(a, ended, &ended.Stop, func(s *sheet) {
				s.field("Sessions of", ended.AgentID+ended.PrincipalID)
				s.field("Status", string(ended.Status))
				s.field("Revoked", joined(ended.Handles))
			})
		}),
	}
	f.add(a, cmd, wire.WaitCommitted)
	cmd.Flags().StringVar(&of.Agent, "agent", "", "end all sessions of this agent, which may start new ones")
	cmd.Flags().StringVar(&of.Principal, "principal", "", "end all sessions of this principal, whose delegations stay")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing; say how many would end")
	mustComplete(cmd.RegisterFlagCompletionFunc("agent", a.completeAgents()))
	return cmd
}

// showCount shows a dry run.
func (a *app) showCount(counted *wire.SessionsEnded) error {
	err := a.show(counted, func(s *sheet) {
		s.field("Dry run", "nothing was changed")
		s.field("Sessions of", counted.AgentID+counted.PrincipalID)
		s.field("Status", string(counted.Status))
		s.field("Would revoke", joined(counted.Handles))
		if counted.Count != nil {
			more := ""
			if counted.Count.Truncated {
				more = " or more"
			}
			s.field("Would end", count(int(counted.Count.Sessions))+more)
		}
	})
	if err == nil && counted.Count != nil {
		a.noteNodes(counted.Count.Nodes)
	}
	return err
}
