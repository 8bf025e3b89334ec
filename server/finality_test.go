package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// member is a node's end of fences, with a log of its own that nobody writes to but the test.
func member() *Server {
	revoked := revocation.NewSet()
	s := &Server{revoked: revoked, journal: revocation.NewJournal(revoked)}
	s.fsm = fsm.New(fsm.Options{Revocations: revoked, Logger: slog.New(slog.DiscardHandler)})
	s.lease = cluster.NewLease(cluster.LeaseOptions{})
	return s
}

func (s *Server) applyTick(t *testing.T, index uint64) {
	t.Helper()
	tick, err := fsm.Encode(fsm.Command{Time: 1, By: "n1", Body: fsm.Tick{}})
	require.NoError(t, err)
	s.fsm.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: tick})
}

func TestFenceIsFinalHereBeforeItIsAcknowledged(t *testing.T) {
	s := member()
	const handle = identity.Handle("agt_mailer#7")
	body, err := json.Marshal(fence{Index: 9, Entries: []fenceEntry{{handle, 5000}}})
	require.NoError(t, err)
	// The log has not come here yet, and the deny that was said before has run out.
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.serveFence(over, cluster.Member{}, body)
	require.ErrorIs(t, err, context.Canceled)
	s.revoked.PurgeProvisional(identity.Instant(1 << 46))
	require.True(t, s.revoked.Revoked(handle), "it is felt at once, and stays")
}

func TestFenceForAStateIsNotAcknowledgedBeforeThatStateIsServed(t *testing.T) {
	s := member()
	body, err := json.Marshal(fence{Index: 9, Entries: []fenceEntry{{"agt_mailer#7", 5000}}})
	require.NoError(t, err)
	s.applyTick(t, 8)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.serveFence(over, cluster.Member{}, body)
	require.ErrorIs(t, err, context.Canceled)
	s.applyTick(t, 9)
	_, err = s.serveFence(t.Context(), cluster.Member{}, body)
	require.NoError(t, err)
}
