package fsm

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
	"github.com/deputy-id/deputy/revocation"
)

// Of an agent and of principals that were deleted, delegations are left to later purges. They come among all others, in
// many frames, and are decoded on all processors while others are filed.
func TestDelegationsOfTheDeletedAreRestoredBesideAllOthers(t *testing.T) {
	m := newMachine(t)
	const agents, principals = 8, 64
	delegations := 8000
	if racedetector.Enabled { // one goroutine does it all
		delegations = 2000
	}
	for i := range agents {
		m.do(CreateAgent{testAgent(fmt.Sprintf("agent-%d", i))})
	}
	for i := range delegations {
		d := testDelegation(uint64(i+1), fmt.Sprintf("user-%d@x", i*31%principals), fmt.Sprintf("agent-%d", i*17%agents))
		m.do(CreateDelegation{Delegation: d, EnsurePrincipal: true})
	}
	s := m.fsm.state
	s.agents.delete("agent-3")
	for i := range principals / 2 {
		s.principals.delete(fmt.Sprintf("user-%d@x", 2*i))
	}
	m.fsm.publish(s)

	taken := persist(t, m.fsm)
	s.delegations.fileAll()
	for range 5 {
		other := New(Options{Revocations: revocation.NewSet()})
		require.NoError(t, other.Restore(io.NopCloser(bytes.NewReader(taken))))
		requireSameRecords(t, s.delegations.byAgent, other.state.delegations.byAgent, "agent")
		requireSameRecords(t, s.delegations.byPrincipal, other.state.delegations.byPrincipal, "principal")
		require.True(t, bytes.Equal(taken, persist(t, other)))
	}
}

func TestSnapshotWithAHandleThatNoCommandCarriesIsRefused(t *testing.T) {
	for _, bad := range []identity.Handle{"", identity.Handle(strings.Repeat("x", identity.MaxHandleLength+1))} {
		var encoded []byte
		require.NoError(t, codec.NewEncoderBytes(&encoded, handle).Encode(&identity.Revocation{Handle: bad}))
		d := &decoder{codec: codec.NewDecoderBytes(nil, handle)}
		_, err := d.revocation(encoded, &frame{})
		require.ErrorIs(t, err, ErrSnapshotCorrupt)
	}
}
