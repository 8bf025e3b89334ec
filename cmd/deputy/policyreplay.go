package main

import (
	"context"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// replayPatience is what a replay may take beyond --timeout: a node goes through some ten thousand records a second.
const replayPatience = 10 * time.Minute

// drafts are the policies of a folder or a file.
func (a *app) drafts(path string) (list []wire.PolicyRequest, err error) {
	files, err := a.readPolicies(path)
	for _, p := range files {
		list = append(list, wire.PolicyRequest{ID: p.ID, Text: p.Text, Mode: identity.PolicyMode(p.Mode), Description: p.Description})
	}
	return list, err
}

// replayDrafts tells whom drafts would break.
func (a *app) replayDrafts(ctx context.Context, c *client.Client, f *simulateFlags, path string) error {
	from, err := timeOrAgo("since", f.since, a.now())
	if err != nil {
		return err
	}
	if path == "" {
		return usagef("which drafts are to be tried on the records? name them with --file or --policies")
	}
	drafts, err := a.drafts(path)
	if err != nil {
		return err
	}
	r, err := c.ReplayAll(ctx, wire.ReplayRequest{From: identity.InstantOf(from), AgentID: f.request.AgentID, Examples: int64(f.examples)}, drafts)
	if err != nil {
		return err
	}
	if err := a.showReplay(r); err != nil {
		return err
	}
	silent := map[string]string{}
	for _, n := range r.Nodes {
		if !n.Replied {
			silent[n.ID] = n.Error
		}
	}
	a.noteSilent(silent)
	return nil
}

func (a *app) showReplay(r *wire.Replay) error {
	return a.show(r, func(s *sheet) {
		s.field("Records", fmt.Sprintf("%d, from %s to %s", r.Records, s.when(r.From), s.when(r.To)))
		s.field("As before", fmt.Sprintf("%d allowed, %d denied", r.Allowed, r.Denied))
		s.field("Would break", fmt.Sprintf("%d, of which %d could be approved by a human", r.Breaks, r.ApprovalRequired))
		s.field("Would be let through", fmt.Sprint(r.Frees))
		s.field("Denied already", fmt.Sprintf("%d, by policies that came since", r.Stale))
		s.field("Not replayed", fmt.Sprint(r.Skipped))
		table := func(heading string, rows int, row func(int) []string) {
			if rows == 0 {
				return
			}
			s.gap()
			s.row(heading, "WOULD BREAK", "COULD BE APPROVED", "WOULD BE LET THROUGH")
			for i := range rows {
				s.row(row(i)...)
			}
		}
		tally := func(name string, t wire.ReplayTally) []string {
			return []string{name, fmt.Sprint(t.Breaks), fmt.Sprint(t.ApprovalRequired), fmt.Sprint(t.Frees)}
		}
		table("AGENT", len(r.Agents), func(i int) []string { return tally(r.Agents[i].AgentID, r.Agents[i].ReplayTally) })
		table("SCOPE", len(r.Scopes), func(i int) []string { return tally(r.Scopes[i].Scope, r.Scopes[i].ReplayTally) })
		if len(r.Policies) > 0 {
			s.gap()
			s.row("POLICY", "WOULD BREAK", "COULD BE APPROVED", "IN MODE MONITOR")
			for _, p := range r.Policies {
				s.row(p.PolicyID, fmt.Sprint(p.Breaks), fmt.Sprint(p.ApprovalRequired), fmt.Sprint(p.Monitored))
			}
		}
		if len(r.Examples) > 0 {
			s.gap()
			s.row("RECORD", "TIME", "OUTCOME", "AGENT", "FOR", "WHAT", "BECAUSE")
			for i := range r.Examples {
				x := &r.Examples[i]
				what, because := string(x.Scopes), ""
				if x.Tool != "" {
					what = x.Tool
				}
				if x.Refusal != nil {
					because = x.Refusal.Detail
				}
				s.row(x.Record, s.when(x.Time), x.Outcome, x.AgentID, x.PrincipalUserID, brief(what), because)
			}
		}
		if len(r.Reasons) > 0 {
			s.gap()
			s.row("NOT REPLAYED", "RECORDS", "SUCH AS", "BECAUSE")
			for _, x := range r.Reasons {
				s.row(x.Reason, fmt.Sprint(x.Count), joined(x.Records), x.Detail)
			}
		}
	})
}
