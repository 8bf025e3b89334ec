package server

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// TestAWriteThatWaitedForOthersIsNotToldThatThereIsNoLeader, where there is one.
func TestAWriteThatWaitedForOthersIsNotToldThatThereIsNoLeader(t *testing.T) {
	t.Parallel()
	late := fmt.Errorf("waiting: %w", cluster.ErrTimeout)
	for _, c := range []struct {
		name  string
		body  fsm.Body
		err   error
		leads bool
		code  identity.Code
	}{
		{"in a crowd", fsm.CreateDelegation{}, late, true, identity.CodeOverloaded},
		{"without a leader", fsm.CreateDelegation{}, late, false, identity.CodeNoLeader},
		{"at a node that has just stepped down", fsm.CreateDelegation{}, cluster.ErrNotLeader, true, identity.CodeNoLeader},
		{"perhaps made", fsm.CreateDelegation{}, cluster.ErrOutcomeUnknown, true, identity.CodeOutcomeUnknown},
		{"refused at once", fsm.CreateDelegation{}, cluster.ErrOverloaded, true, identity.CodeOverloaded},
		{"a join, which goes on asking", fsm.AdmitMember{}, late, true, identity.CodeNoLeader},
	} {
		require.Equal(t, c.code, identity.CodeOf(proposalError(c.err, termsOf(c.body), c.leads)), c.name)
	}
	for _, body := range []fsm.Body{fsm.Revoke{}, fsm.KillAgent{}, fsm.KillPrincipal{}, fsm.WithdrawDelegation{}} {
		require.True(t, mayBeKept(body))
		err := proposalError(late, termsOf(body), true)
		require.Equal(t, identity.CodeNoLeader, identity.CodeOf(err), "%T is kept by the node that was asked", body)
	}
}
