package revocation_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

const (
	now  = identity.Instant(1_800_000_000_000)
	hour = identity.Instant(3_600_000)
)

// id makes the i-th id of a kind.
func id(prefix string, i int) identity.Handle {
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[2:], uint64(i)*0x9e3779b97f4a7c15)
	return identity.Handle(identity.NewID(prefix, now, entropy))
}

// tokenHandles is what a user-delegated token lists.
func tokenHandles(i int) []identity.Handle {
	return []identity.Handle{
		id(identity.PrefixSession, i),
		id(identity.PrefixDelegation, i),
		identity.AgentHandle(fmt.Sprintf("support-triage-agent-%d", i%1000), uint64(i)),
		identity.PrincipalHandle(fmt.Sprintf("user%d@company.com", i), uint64(i)),
		id(identity.PrefixCredential, i),
		identity.KeyHandle("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
	}
}

func final(s *revocation.Set) map[identity.Handle]identity.Instant {
	entries := map[identity.Handle]identity.Instant{}
	for e := range s.Final() {
		entries[e.Handle] = e.Expires
	}
	return entries
}

func TestEmptySetRevokesNothing(t *testing.T) {
	s := revocation.NewSet()
	require.False(t, s.Revoked())
	require.False(t, s.Revoked(tokenHandles(1)...))
	require.Zero(t, s.Len())
	require.Empty(t, final(s))
	require.Zero(t, s.Purge(now))
	require.Zero(t, s.PurgeProvisional(now))
}

func TestEachHandleOfATokenKillsIt(t *testing.T) {
	for i, h := range tokenHandles(1) {
		s := revocation.NewSet()
		require.True(t, s.Add(revocation.Entry{Handle: h, Expires: now + hour}))
		require.True(t, s.Revoked(tokenHandles(1)...), h)
		require.True(t, s.Revoked(h))

		others := slices.Delete(tokenHandles(1), i, i+1)
		require.False(t, s.Revoked(others...), h)
		require.Equal(t, map[identity.Handle]identity.Instant{h: now + hour}, final(s))
	}
}

func TestARevokedHandleIsFoundAmongManyWhereverItStands(t *testing.T) {
	var many []identity.Handle
	for i := range 4 {
		many = append(many, tokenHandles(i)...)
	}
	for n := range len(many) + 1 {
		for i := range n {
			s := revocation.NewSet()
			s.Add(revocation.Entry{Handle: id(identity.PrefixJoinToken, 1), Expires: now})
			require.False(t, s.Revoked(many[:n]...))
			s.Add(revocation.Entry{Handle: many[i], Expires: now + hour})
			require.True(t, s.Revoked(many[:n]...), "handle %d of %d", i, n)
		}
	}
}

func TestSetIsExact(t *testing.T) {
	s := revocation.NewSet()
	const n = 8_000
	for i := range n {
		for j, h := range tokenHandles(i) {
			if (i+j)%2 == 0 && j < 5 {
				s.Add(revocation.Entry{Handle: h, Expires: now})
			}
		}
	}
	for i := range n {
		for j, h := range tokenHandles(i) {
			if want := (i+j)%2 == 0 && j < 5; s.Revoked(h) != want {
				t.Fatalf("%s: revoked must be %t", h, want)
			}
		}
	}
	require.Equal(t, n*5/2, s.Len())
	require.Len(t, final(s), n*5/2)
}

func TestWhatIsExpectedIsNotThereYet(t *testing.T) {
	s := revocation.NewSet()
	const n = 50_000
	for i := range n / 2 {
		s.Add(revocation.Entry{Handle: id(identity.PrefixSession, i), Expires: now})
	}
	for _, prefix := range []string{identity.PrefixSession, identity.PrefixDelegation} {
		s.Expect(identity.Handle(prefix), n)
	}
	require.Equal(t, n/2, s.Len())
	require.Len(t, final(s), n/2)
	for i := range n {
		require.Equal(t, i < n/2, s.Revoked(id(identity.PrefixSession, i)))
		require.Equal(t, i >= n/2, s.Add(revocation.Entry{Handle: id(identity.PrefixSession, i), Expires: now}))
		require.True(t, s.Revoked(id(identity.PrefixSession, i)))
		require.False(t, s.Revoked(id(identity.PrefixDelegation, i)))
	}
	require.Equal(t, n, s.Purge(now)+s.Purge(now))
}

func TestHandlesThatLookAlikeAreNotMixedUp(t *testing.T) {
	session := id(identity.PrefixSession, 1)
	body := strings.TrimPrefix(string(session), identity.PrefixSession)
	alike := []identity.Handle{
		session,
		identity.Handle(identity.PrefixDelegation + body),
		identity.Handle(identity.PrefixCredential + body),
		identity.Handle(identity.PrefixAPIToken + body),
		identity.Handle(identity.PrefixSession + strings.ToUpper(body)),
		identity.Handle(identity.PrefixSession + "z" + body[1:]), // 131 bits
		identity.Handle(identity.PrefixSession + body[1:]),
		session + "0",
		identity.Handle(body),
		identity.Handle("agt_" + body),
		identity.PrefixSession,
		"agt_a#1", "agt_a#11", "agt_a#2", "usr_a#1",
	}
	for _, h := range alike {
		s := revocation.NewSet()
		s.Add(revocation.Entry{Handle: h, Expires: now})
		for _, other := range alike {
			require.Equal(t, h == other, s.Revoked(other), "%s added, %s asked", h, other)
		}
		require.Equal(t, []identity.Handle{h}, slices.Collect(maps.Keys(final(s))))
	}
}

func TestFinalWinsOverProvisionalAndTheLaterExpiryWins(t *testing.T) {
	h := identity.AgentHandle("a", 7)
	early, late := revocation.Entry{Handle: h, Expires: now}, revocation.Entry{Handle: h, Expires: now + hour}
	heard, heardLater := early, late
	heard.Provisional, heardLater.Provisional = true, true

	for name, tc := range map[string]struct {
		add  []revocation.Entry
		want map[identity.Handle]identity.Instant
	}{
		"later expiry":                    {[]revocation.Entry{late, early}, map[identity.Handle]identity.Instant{h: now + hour}},
		"provisional alone":               {[]revocation.Entry{heard, heardLater}, map[identity.Handle]identity.Instant{}},
		"provisional becomes final":       {[]revocation.Entry{heard, late}, map[identity.Handle]identity.Instant{h: now + hour}},
		"gossip does not prolong a final": {[]revocation.Entry{early, heardLater}, map[identity.Handle]identity.Instant{h: now}},
	} {
		t.Run(name, func(t *testing.T) {
			forth, back := revocation.NewSet(), revocation.NewSet()
			require.Equal(t, 1, forth.Merge(slices.Values(tc.add)))
			slices.Reverse(tc.add)
			require.Equal(t, 1, back.Merge(slices.Values(tc.add)))

			for _, s := range []*revocation.Set{forth, back} {
				require.True(t, s.Revoked(h))
				require.Equal(t, 1, s.Len())
				require.Equal(t, tc.want, final(s))
			}
		})
	}
}

func TestHandlesThatNoTokenCanCarryAreLeftOut(t *testing.T) {
	s := revocation.NewSet()
	longest := identity.Handle(strings.Repeat("x", identity.MaxHandleLength))
	require.False(t, s.Add(revocation.Entry{Handle: "", Expires: now}))
	require.False(t, s.Add(revocation.Entry{Handle: longest + "x", Expires: now}))
	require.False(t, s.Revoked("", longest+"x"))
	require.Zero(t, s.Len())

	require.True(t, s.Add(revocation.Entry{Handle: longest, Expires: now}))
	require.True(t, s.Revoked(longest))
}

func TestExpiryOutsideOfItsRangeMovesToTheNearerEnd(t *testing.T) {
	s := revocation.NewSet()
	s.Add(revocation.Entry{Handle: "agt_past#1", Expires: -5})
	s.Add(revocation.Entry{Handle: "agt_future#1", Expires: 1<<62 + 1})
	require.Equal(t, map[identity.Handle]identity.Instant{"agt_past#1": 0, "agt_future#1": 1<<48 - 1}, final(s))
	require.Equal(t, 1, s.Purge(1))
	require.True(t, s.Revoked("agt_future#1"))
}

func TestFinalMayBeLeftEarly(t *testing.T) {
	s := revocation.NewSet()
	for i := range 10 {
		s.Add(revocation.Entry{Handle: id(identity.PrefixSession, i), Expires: now})
	}
	for range s.Final() {
		break
	}
}

func TestRevokedDoesNotAllocate(t *testing.T) {
	s := revocation.NewSet()
	handles := tokenHandles(1)
	ask := func(want bool) {
		t.Helper()
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if s.Revoked(handles...) != want {
				t.Error("wrong answer")
			}
		}))
	}
	ask(false)
	for i := range 2_000 {
		for _, h := range tokenHandles(i + 2)[:5] {
			s.Add(revocation.Entry{Handle: h, Expires: now})
		}
	}
	ask(false)
	s.Add(revocation.Entry{Handle: handles[5], Expires: now})
	ask(true)
}

// Whatever two texts are, one is revoked by the other if and only if they are the same.
func FuzzSetIsExact(f *testing.F) {
	for _, h := range tokenHandles(1) {
		f.Add(string(h), string(h))
		f.Add(string(h), strings.ToUpper(string(h)))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		s := revocation.NewSet()
		carried := a != "" && len(a) <= identity.MaxHandleLength
		require.Equal(t, carried, s.Add(revocation.Entry{Handle: identity.Handle(a), Expires: now}))
		require.Equal(t, carried, s.Revoked(identity.Handle(a)))
		require.Equal(t, carried && a == b, s.Revoked(identity.Handle(b)))
		for h := range final(s) {
			require.Equal(t, a, string(h))
		}
	})
}
