package fsm

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

func TestReachCountsWhatAStopWouldTouch(t *testing.T) {
	m := backedUp(t)
	v := m.fsm.View()
	require.Equal(t, Reach{Delegations: 15, Principals: 4}, v.AgentReach("inbox"), "20, less one withdrawn and four of a killed principal")
	require.Equal(t, Reach{Delegations: 4, Agents: 1}, v.PrincipalReach("user1@x"))
	require.Zero(t, v.AgentReach("nobody"))
	require.Zero(t, v.PrincipalReach("nobody"))
	m.pass(5 * time.Hour)
	m.do(Tick{})
	require.Zero(t, m.fsm.View().AgentReach("inbox"), "all have ended")

	require.Equal(t, []revocation.Entry{{Handle: "ses_x", Expires: mustRevocation(t, v, "ses_x").Expires}}, v.EntriesOf([]identity.Handle{"ses_x", "ses_y"}))
}

func mustRevocation(t *testing.T, v *View, h identity.Handle) *identity.Revocation {
	t.Helper()
	r, ok := v.Revocation(h)
	require.True(t, ok)
	return r
}

func TestReachIsBounded(t *testing.T) {
	s := newState(revocation.NewSet())
	row := newAgentRow(testAgent("a"), new(texts))
	s.agents.set(row)
	s.principals.set(&principalRow{Principal: identity.Principal{ID: "p"}})
	for i := range uint64(maxReach + 1) {
		r := &record{principal: "p", agent: row.text, expires: epoch + 1}
		copy(r.id[:], binaryID(i))
		s.delegations.byAgent.set(r)
	}
	v := s.view()
	require.Equal(t, Reach{Delegations: maxReach, Principals: 1, Truncated: true}, v.AgentReach("a"))
}

func binaryID(i uint64) []byte { return []byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)} }

// TestASnapshotOfAnOlderBuildIsRead: it has none of the fields that came later.
func TestASnapshotOfAnOlderBuildIsRead(t *testing.T) {
	type olderMeta struct {
		Index        uint64            `codec:"ix"`
		Time         identity.Instant  `codec:"t"`
		Generation   uint64            `codec:"g"`
		Horizon      horizon           `codec:"h"`
		KeysRevision uint64            `codec:"kr"`
		Settings     identity.Settings `codec:"s"`
		NextInternal uint64            `codec:"ni"`
		NextClient   uint64            `codec:"nc"`
	}
	older := frames(func(w *frameWriter) {
		w.section(sectionMeta)
		w.record(&olderMeta{Index: 7, Time: epoch, Settings: identity.Settings{LeaseMillis: 10_000, OfflineTTLSeconds: 300}})
	})
	m := newMachine(t)
	require.NoError(t, m.fsm.Restore(io.NopCloser(bytes.NewReader(older))))
	require.Equal(t, 10*time.Second, m.fsm.View().LeaseBound())
	require.Empty(t, m.fsm.View().Closed())
	require.Equal(t, older, m.snapshot(), "fields that are not set are not written, so an older build reads it, too")
}

func TestOfSeveralShorteningsTheLongestCounts(t *testing.T) {
	l := longer{}.replaced(10_000, 1000, time.Millisecond, epoch)
	require.Equal(t, longer{10_000, epoch.Add(17 * time.Second)}, l)
	l = l.replaced(1000, 5000, time.Millisecond, epoch.Add(2*time.Second))
	require.Equal(t, longer{10_000, epoch.Add(17 * time.Second)}, l)
	l = l.replaced(5000, 1000, time.Millisecond, epoch.Add(14*time.Second))
	require.Equal(t, longer{10_000, epoch.Add(25 * time.Second)}, l, "leases of 5 s may run until then")
	require.Equal(t, longer{}, l.replaced(1000, 20_000, time.Millisecond, epoch.Add(15*time.Second)))
	require.Equal(t, longer{1000, epoch.Add(31200 * time.Millisecond)}, l.replaced(1000, 500, time.Millisecond, epoch.Add(25*time.Second)))
	absurd := longer{}.replaced(1<<62, 1, time.Second, epoch)
	require.Equal(t, endOfTime, longer{}.replaced(1<<62, 1, time.Second, endOfTime).Until)
	require.Greater(t, absurd.Until, epoch)
	require.Equal(t, longer{}, longer{}.replaced(-5, 1, time.Second, epoch))
}
