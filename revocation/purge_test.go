package revocation_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

func TestPurgeDropsWhatHasExpiredAndNothingElse(t *testing.T) {
	s := revocation.NewSet()
	const n = 3000
	for i := range n {
		for _, h := range tokenHandles(i)[:5] {
			s.Add(revocation.Entry{Handle: h, Expires: now + identity.Instant(i)})
		}
	}
	require.Zero(t, s.Purge(now-1))
	require.Equal(t, 5*1001, s.Purge(now+1000))
	require.Zero(t, s.Purge(now+1000))
	require.Equal(t, 5*(n-1001), s.Len())
	for i := range n {
		for _, h := range tokenHandles(i)[:5] {
			require.Equal(t, i > 1000, s.Revoked(h))
		}
	}
	require.Equal(t, 5*(n-1001), s.Purge(now+n))
	require.Zero(t, s.Len())
	require.False(t, s.Revoked(tokenHandles(n-1)...))

	require.True(t, s.Add(revocation.Entry{Handle: tokenHandles(1)[0], Expires: now}), "a purged set takes entries again")
	require.True(t, s.Revoked(tokenHandles(1)...))
}

func TestExpiredEntryStaysRevokedUntilPurged(t *testing.T) {
	s := revocation.NewSet()
	s.Add(revocation.Entry{Handle: "agt_a#1", Expires: 1})
	require.True(t, s.Revoked("agt_a#1"))
	require.Equal(t, 1, s.Purge(1))
	require.False(t, s.Revoked("agt_a#1"))
}

func TestPurgeOfProvisionalLeavesFinalEntries(t *testing.T) {
	s := revocation.NewSet()
	for i := range 2000 {
		s.Add(revocation.Entry{Handle: id(identity.PrefixSession, i), Expires: now, Provisional: i%2 == 0})
	}
	for i := range 500 { // half of the provisional ones are committed
		s.Add(revocation.Entry{Handle: id(identity.PrefixSession, i*2), Expires: now})
	}
	require.Equal(t, 500, s.Provisional(), "what was committed since is no longer provisional")
	require.Zero(t, s.PurgeProvisional(now-1))
	require.Equal(t, 500, s.PurgeProvisional(now))
	require.Zero(t, s.PurgeProvisional(now+hour))
	require.Zero(t, s.Provisional())
	require.Equal(t, 1500, s.Len())
	require.Len(t, final(s), 1500)
}
