package client

import (
	"cmp"
	"context"
	"slices"

	"github.com/deputy-id/deputy/api/wire"
)

// Replay tells what drafts would make of what the audit trail has recorded: as much of it as one answer goes through. Its
// Cursor, and From and To, go into the next question.
func (c *Client) Replay(ctx context.Context, r wire.ReplayRequest, drafts []wire.PolicyRequest) (*wire.Replay, error) {
	return repeat[wire.Replay](ctx, c, at(policiesPath, "simulate"), nil, &wire.SimulateRequest{Policies: drafts, Replay: &r})
}

// ReplayAll goes through all of it, and sums up. Where a node does not answer any more the sum is not complete, and says
// which one is missing.
func (c *Client) ReplayAll(ctx context.Context, r wire.ReplayRequest, drafts []wire.PolicyRequest) (*wire.Replay, error) {
	var all *wire.Replay
	for {
		part, err := c.Replay(ctx, r, drafts)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = part
		} else {
			addReplay(all, part, int(r.Examples))
		}
		if part.Cursor == "" || !part.Complete && part.Records == 0 {
			return all, nil
		}
		r.SinceSeconds, r.From, r.To, r.After = 0, part.From, part.To, part.Cursor
	}
}

func addReplay(all, part *wire.Replay, examples int) {
	for _, sum := range []struct{ to, one *int64 }{
		{&all.Records, &part.Records},
		{&all.Allowed, &part.Allowed},
		{&all.Denied, &part.Denied},
		{&all.Breaks, &part.Breaks},
		{&all.Frees, &part.Frees},
		{&all.Stale, &part.Stale},
		{&all.Skipped, &part.Skipped},
		{&all.ApprovalRequired, &part.ApprovalRequired},
	} {
		*sum.to += *sum.one
	}
	addTally(&all.OtherAgents, part.OtherAgents)
	addTally(&all.OtherScopes, part.OtherScopes)
	all.Agents = joined(all.Agents, part.Agents, func(x *wire.ReplayAgent) string { return x.AgentID }, func(to, x *wire.ReplayAgent) {
		addTally(&to.ReplayTally, x.ReplayTally)
		to.LastAt = max(to.LastAt, x.LastAt)
	})
	slices.SortStableFunc(all.Agents, func(x, y wire.ReplayAgent) int { return byMost(x.ReplayTally, y.ReplayTally) })
	all.Scopes = joined(all.Scopes, part.Scopes, func(x *wire.ReplayScope) string { return x.Scope }, func(to, x *wire.ReplayScope) {
		addTally(&to.ReplayTally, x.ReplayTally)
	})
	slices.SortStableFunc(all.Scopes, func(x, y wire.ReplayScope) int { return byMost(x.ReplayTally, y.ReplayTally) })
	all.Policies = joined(all.Policies, part.Policies, func(x *wire.ReplayPolicy) string { return x.PolicyID }, func(to, x *wire.ReplayPolicy) {
		to.Breaks, to.ApprovalRequired, to.Monitored = to.Breaks+x.Breaks, to.ApprovalRequired+x.ApprovalRequired, to.Monitored+x.Monitored
	})
	all.Reasons = joined(all.Reasons, part.Reasons, func(x *wire.ReplayReason) string { return x.Reason + x.Detail }, func(to, x *wire.ReplayReason) { to.Count += x.Count })
	if examples == 0 {
		examples = wire.DefaultReplayedShown
	}
	all.Examples = append(all.Examples, part.Examples[:min(len(part.Examples), max(examples-len(all.Examples), 0))]...)
	all.Complete, all.Nodes, all.Cursor = part.Complete, part.Nodes, part.Cursor
}

func addTally(to *wire.ReplayTally, one wire.ReplayTally) {
	to.Breaks, to.ApprovalRequired, to.Frees = to.Breaks+one.Breaks, to.ApprovalRequired+one.ApprovalRequired, to.Frees+one.Frees
}

func byMost(x, y wire.ReplayTally) int {
	return cmp.Or(cmp.Compare(y.Breaks, x.Breaks), cmp.Compare(y.Frees, x.Frees))
}

// joined adds what is in both lists, and appends what is only in the other.
func joined[T any](list, other []T, name func(*T) string, add func(to, one *T)) []T {
	for i := range other {
		same := slices.IndexFunc(list, func(x T) bool { return name(&x) == name(&other[i]) })
		if same >= 0 {
			add(&list[same], &other[i])
		} else {
			list = append(list, other[i])
		}
	}
	return list
}
