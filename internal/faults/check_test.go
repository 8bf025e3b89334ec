package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// checkWait bounds the reading of everything at one node.
const checkWait = 2 * time.Minute

// requireFresh reads what was acknowledged since the last check, object by object, at every running node.
func (l *load) requireFresh(t *testing.T) int {
	t.Helper()
	l.mu.Lock()
	fresh, index := l.fresh, l.index
	l.fresh = map[string]kind{}
	l.mu.Unlock()
	l.atEveryNode(t, func(ctx context.Context, c *client.Client) error {
		c.Observe(index)
		for id, k := range fresh {
			if err := checkOne(ctx, c, id, k); err != nil {
				return err
			}
		}
		return nil
	})
	return len(fresh)
}

func checkOne(ctx context.Context, c *client.Client, id string, promised kind) error {
	var seen kind
	switch promised {
	case agentMade, agentSuspended:
		a, err := c.Agent(ctx, id)
		if err != nil {
			return fmt.Errorf("agent %s: %w", id, err)
		}
		seen = agentKind(a.Status)
	case delegationMade, delegationWithdrawn:
		d, err := c.Delegation(ctx, id)
		if err != nil {
			return fmt.Errorf("delegation %s: %w", id, err)
		}
		seen = delegationKind(d.Status)
	}
	return kept(id, promised, seen)
}

// kept reports a broken promise. An object may be further along than was acknowledged, never less far: the
// next write to it may have committed and its answer been lost, or be on its way.
func kept(id string, promised, seen kind) error {
	if seen < promised {
		return fmt.Errorf("%s: state %d was acknowledged, %d is there", id, promised, seen)
	}
	return nil
}

func agentKind(s identity.Status) kind {
	if s == identity.StatusSuspended {
		return agentSuspended
	}
	return agentMade
}

func delegationKind(s identity.DelegationStatus) kind {
	if s == identity.DelegationWithdrawn {
		return delegationWithdrawn
	}
	return delegationMade
}

// requireAll reads everything, list by list, at every node, and holds it against every acknowledged write.
func (l *load) requireAll(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	promised, index := maps.Clone(l.promised), l.index
	l.mu.Unlock()
	l.atEveryNode(t, func(ctx context.Context, c *client.Client) error {
		c.Observe(index)
		seen := map[string]kind{}
		for a, err := range client.All(ctx, client.List{Limit: 1000}, c.Agents) {
			if err != nil {
				return err
			}
			seen[a.ID] = agentKind(a.Status)
		}
		delegations := func(ctx context.Context, page client.List) (*client.Page[wire.Delegation], error) {
			return c.Delegations(ctx, client.DelegationFilter{}, page)
		}
		for d, err := range client.All(ctx, client.List{Limit: 1000}, delegations) {
			if err != nil {
				return err
			}
			seen[d.ID] = delegationKind(d.Status)
		}
		var broken []error
		for id, k := range promised {
			state, ok := seen[id]
			if !ok {
				broken = append(broken, fmt.Errorf("%s was acknowledged and is gone", id))
			} else if err := kept(id, k, state); err != nil {
				broken = append(broken, err)
			}
		}
		if len(broken) > 10 {
			broken = append(broken[:10], fmt.Errorf("and %d more of %d", len(broken)-10, len(promised)))
		}
		return errors.Join(broken...)
	})
}

// atEveryNode asks all running nodes at the same time.
func (l *load) atEveryNode(t *testing.T, ask func(context.Context, *client.Client) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), checkWait)
	defer cancel()
	running := l.fleet.running()
	answers := make(chan error, len(running))
	for _, n := range running {
		c := n.client(t, l.fleet.token)
		go func() {
			err := ask(ctx, c)
			if err != nil {
				err = fmt.Errorf("at %s: %w", n.id, err)
			}
			answers <- err
		}()
	}
	var failures []error
	for range running {
		failures = append(failures, <-answers)
	}
	require.NoError(t, errors.Join(failures...))
}
