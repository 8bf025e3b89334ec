package server_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/internal/testcluster"
)

// TestWritesAtTheSameTimeAreEachAnsweredAndFoundEverywhere, though many of them share an entry of the log: through any node,
// refused ones among them, and read back at the index that each was answered with.
func TestWritesAtTheSameTimeAreEachAnsweredAndFoundEverywhere(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	f := seed(t, c)
	const callers, each = 32, 8
	var (
		lock    sync.Mutex
		made    = map[string]wire.Delegation{}
		indexes = map[uint64]int{}
		strange []error
	)
	// They stop what they have made at the same time, and lend to an agent that is not there.
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			cl := c.Client(caller % 3)
			for i := range each {
				user := fmt.Sprintf("user-%d@company.com", caller)
				d, err := cl.CreateDelegation(t.Context(), wire.DelegationRequest{
					PrincipalID: user, AgentID: f.agent.ID, Scopes: "zendesk.tickets.read", Duration: 3600, Reason: fmt.Sprint(i),
				}, true)
				_, refused := cl.CreateDelegation(t.Context(), wire.DelegationRequest{
					PrincipalID: user, AgentID: "nobody", Scopes: "zendesk.tickets.read", Duration: 3600,
				}, true)
				lock.Lock()
				switch {
				case err != nil:
					strange = append(strange, err)
				case !isStatus(refused, 404):
					strange = append(strange, fmt.Errorf("lending to nobody: %w", refused))
				case d.PrincipalID != user || d.Reason != fmt.Sprint(i) || made[d.ID].ID != "":
					strange = append(strange, fmt.Errorf("%s was answered %+v", user, d))
				default:
					made[d.ID] = *d
					indexes[d.Revision]++
				}
				lock.Unlock()
				if i%4 == 3 && err == nil {
					if _, err := cl.WithdrawDelegation(t.Context(), d.ID, "done"); err != nil {
						lock.Lock()
						strange = append(strange, err)
						lock.Unlock()
					}
				}
			}
		})
	}
	calling.Wait()
	require.Empty(t, strange)
	require.Len(t, made, callers*each)
	require.Less(t, len(indexes), len(made), "some shared an entry")

	last, err := c.Client().CreatePrincipal(t.Context(), wire.PrincipalRequest{ID: "last@company.com"})
	require.NoError(t, err)
	for node := range 3 {
		cl := c.Client(node)
		cl.Observe(last.Revision)
		for id, want := range made {
			got, err := cl.Delegation(t.Context(), id)
			require.NoError(t, err, "at node %d", node)
			want.Status, want.WithdrawnAt, want.Revision, want.Expired = got.Status, got.WithdrawnAt, got.Revision, got.Expired
			require.Equal(t, want, *got)
		}
	}
}
