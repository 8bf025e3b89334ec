package client

import (
	"context"
	"iter"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// Stopped is an agent, a principal or a delegation that is stopped by its own state, whether or not there still is a
// revocation of it.
type Stopped struct {
	Handle    identity.Handle  `json:"handle"`
	Reason    string           `json:"reason"`
	ChangedAt identity.Instant `json:"changed_at"` // it was stopped at that time, or before
}

// ExportStopped walks all agents, principals and delegations, as long as the loop goes on, and gives those that are
// suspended, deactivated or withdrawn, by handles that a replay after a restore stops them by. Revocations are
// forgotten when no token can carry them; these are not.
//
// For an export that lacks nothing walk ExportRevocations after it: what is deleted meanwhile is in that.
func (c *Client) ExportStopped(ctx context.Context) iter.Seq2[Stopped, error] {
	whole := List{Limit: wire.MaxLimit}
	lists := []iter.Seq2[Stopped, error]{
		stoppedIn(All(ctx, whole, c.Agents), func(a *wire.Agent) (Stopped, bool) {
			return Stopped{a.Handle, "the agent is " + string(a.Status), a.UpdatedAt}, a.Status != identity.StatusActive
		}),
		stoppedIn(All(ctx, whole, c.Principals), func(p *wire.Principal) (Stopped, bool) {
			return Stopped{p.Handle, "the principal is " + string(p.Status), p.UpdatedAt}, p.Status != identity.StatusActive
		}),
		stoppedIn(All(ctx, whole, func(ctx context.Context, l List) (*Page[wire.Delegation], error) {
			return c.Delegations(ctx, DelegationFilter{}, l)
		}), func(d *wire.Delegation) (Stopped, bool) {
			return Stopped{identity.DelegationHandle(d.ID), "the delegation was withdrawn", d.WithdrawnAt}, d.Status == identity.DelegationWithdrawn
		}),
	}
	return func(yield func(Stopped, error) bool) {
		for _, list := range lists {
			for s, err := range list {
				if !yield(s, err) || err != nil {
					return
				}
			}
		}
	}
}

// stoppedIn leaves out of a list what is not stopped.
func stoppedIn[T any](list iter.Seq2[T, error], look func(*T) (Stopped, bool)) iter.Seq2[Stopped, error] {
	return func(yield func(Stopped, error) bool) {
		for item, err := range list {
			if err != nil {
				yield(Stopped{}, err)
				return
			}
			if s, stopped := look(&item); stopped && !yield(s, nil) {
				return
			}
		}
	}
}
