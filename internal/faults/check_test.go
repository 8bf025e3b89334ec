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

// checkFresh reads what was acknowledged since the last check, object by object, at every running node.
func (l *load) checkFresh(t *testing.T) int {
	t.Helper()
	l.mu.Lock()
	fresh, index := l.fresh, l.index
	l.fresh = map[string]kind{}
	l.mu.Unlock()
	l.atEveryNode(t, func(ctx context.Context, c *client.Client) error {
		c.Observe(index)
		for id, k := range fresh {
			if err := l.checkOne(ctx, c, id, k); err != nil {
				return err
			}
		}
		return nil
	})
	return len(fresh)
}

// checkOne notes a broken promise; the error is that of asking.
func (l *load) checkOne(ctx context.Context, c *client.Client, id string, promised kind) error {
	var seen kind
	gone := func(err error) error {
		if identity.CodeOf(err) != identity.CodeNotFound {
			return fmt.Errorf("%s: %w", id, err)
		}
		l.lose(id, "it was acknowledged and is gone")
		return nil
	}
	switch promised {
	case agentMade, agentSuspended:
		a, err := c.Agent(ctx, id)
		if err != nil {
			return gone(err)
		}
		seen = agentKind(a.Status)
	case delegationMade, delegationWithdrawn:
		d, err := c.Delegation(ctx, id)
		if err != nil {
			return gone(err)
		}
		seen = delegationKind(d.Status)
	}
	l.keeps(id, promised, seen)
	return nil
}

// keeps notes a broken promise. An object may be further along than was acknowledged, never less far: the next
// write to it may have committed and its answer been lost, or be on its way.
func (l *load) keeps(id string, promised, seen kind) {
	if seen < promised {
		l.lose(id, fmt.Sprintf("state %d was acknowledged, %d is there", promised, seen))
	}
}

func (l *load) lose(id, how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losses[id] = how
}

// lost counts the objects of which an acknowledged write is missing at some node.
func (l *load) lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.losses)
}

func (l *load) requireNothingLost(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Empty(t, l.losses)
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

// requireAll reads everything at every node, which must be all that was acknowledged.
func (l *load) requireAll(t *testing.T) {
	t.Helper()
	l.checkAll(t)
	l.requireNothingLost(t)
}

// checkAll reads everything, list by list, at every node, and holds it against every acknowledged write.
func (l *load) checkAll(t *testing.T) {
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
		for id, k := range promised {
			if state, ok := seen[id]; ok {
				l.keeps(id, k, state)
			} else {
				l.lose(id, "it was acknowledged and is gone")
			}
		}
		return nil
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
