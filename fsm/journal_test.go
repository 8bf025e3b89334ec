package fsm

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

func newJournaled(t testing.TB) (*machine, *revocation.Journal) {
	t.Helper()
	set := revocation.NewSet()
	j := revocation.NewJournal(set)
	return &machine{t: t, set: set, now: epoch, fsm: New(Options{
		Revocations: set, Journal: j, LocalNode: "n1", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})}, j
}

// written is what the journal has from a cursor on, by index.
func written(t *testing.T, j *revocation.Journal, cursor uint64) map[uint64]revocation.Change {
	t.Helper()
	r, ok := j.Read(cursor, 1<<20)
	require.True(t, ok)
	changes := map[uint64]revocation.Change{}
	for _, c := range r.Changes {
		require.NotContains(t, changes, c.Index, "one change an entry of the log")
		changes[c.Index] = c
	}
	return changes
}

func TestEveryDeniedHandleIsInTheJournalAtItsIndex(t *testing.T) {
	m, j := newJournaled(t)
	must1[*identity.Agent](m, CreateAgent{Agent: identity.Agent{Name: "a", Type: identity.AgentAutonomous, Status: identity.StatusActive, MaxSessionSeconds: 3600}})
	m.do(Tick{})
	require.Empty(t, written(t, j, 0), "nothing was denied")
	require.Equal(t, revocation.Position{Applied: m.index}, j.Position())

	kill := must1[*AgentChange](m, KillAgent{Name: "a"})
	at := m.index
	m.do(Batch{Bodies: []Body{Revoke{Handles: []identity.Handle{"ses_x"}}, Revoke{Handles: []identity.Handle{"ses_y", "ses_z"}}}})
	m.refused(identity.CodeNotFound, KillAgent{Name: "nobody"})
	changes := written(t, j, 0)
	require.Len(t, changes, 2)
	require.Equal(t, kill.Handles[0], changes[at].Entries[0].Handle)
	require.Len(t, changes[at+1].Entries, 3)
	for _, c := range changes {
		require.Equal(t, revocation.Committed, c.Kind)
		for _, e := range c.Entries {
			r, ok := m.fsm.View().Revocation(e.Handle)
			require.True(t, ok)
			require.Equal(t, r.Expires, e.Expires)
			require.Equal(t, c.Index, r.Index)
		}
	}
	require.Equal(t, revocation.Position{Applied: m.index, Last: at + 1}, j.Position())

	// Denied again, it may have to be known for longer.
	m.pass(time.Hour)
	m.do(Revoke{Handles: []identity.Handle{"ses_x"}})
	again := written(t, j, 0)[m.index]
	require.Len(t, again.Entries, 1)
	require.Greater(t, again.Entries[0].Expires, changes[at+1].Entries[0].Expires)

	m.pass(1000 * time.Hour)
	m.do(Purge{})
	require.Equal(t, revocation.Change{Kind: revocation.Purged, Index: m.index, Before: m.now}, written(t, j, 0)[m.index])
	m.do(Purge{})
	require.NotContains(t, written(t, j, 0), m.index, "nothing was left to forget")
}

// Who sees an index finds in the journal all that was denied up to there.
func TestJournalIsNeverBehindTheView(t *testing.T) {
	m, j := newJournaled(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			m.do(Revoke{Handles: []identity.Handle{"ses_x"}})
		}
	}()
	for {
		applied := m.fsm.Applied()
		if at := j.Position(); at.Last < applied || at.Applied < applied {
			require.FailNow(t, "behind", "the view is at %d, the journal at %+v", applied, at)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestInstalledSnapshotEndsWhatTheJournalKnows(t *testing.T) {
	m, j := newJournaled(t)
	m.do(Revoke{Handles: []identity.Handle{"ses_x"}})
	m.do(Tick{})
	text := m.snapshot()

	other, k := newJournaled(t)
	require.NoError(t, other.fsm.Restore(io.NopCloser(bytes.NewReader(text))))
	require.True(t, other.set.Revoked("ses_x"))
	require.Equal(t, revocation.Position{Applied: m.index, Last: m.index}, k.Position())
	_, ok := k.Resume(m.index - 1)
	require.False(t, ok, "what the snapshot brought was not seen one by one")
	_, ok = j.Resume(m.index - 1)
	require.True(t, ok)
}

func TestLogHasANameThatARecoveryChanges(t *testing.T) {
	m, _ := newJournaled(t)
	require.Empty(t, m.fsm.View().Log())
	settings := identity.Settings{ClusterID: "clu_1", Issuer: "https://deputy.example.com", OfflineTTLSeconds: 300, LeaseMillis: 10_000}
	m.do(PutSettings{Settings: settings})
	m.do(AdmitMember{Member: identity.Member{ID: "n1", Key: make([]byte, 32), ClusterAddr: "a", GossipAddr: "b"}})
	first := m.fsm.View().Log()
	require.NotEmpty(t, first)
	m.do(Revoke{Handles: []identity.Handle{"ses_x"}})
	require.Equal(t, first, m.fsm.View().Log())

	names := map[string]bool{first: true}
	for range 2 {
		require.Nil(t, m.do(Recover{Node: "n1"}).Err)
		name := m.fsm.View().Log()
		require.NotContains(t, names, name)
		names[name] = true
		other, _ := newJournaled(t)
		require.NoError(t, other.fsm.Restore(io.NopCloser(bytes.NewReader(m.snapshot()))))
		require.Equal(t, name, other.fsm.View().Log(), "a snapshot has it")
	}
}
