package revocation_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// universe is small, so that drawn entries often meet.
var universe = func() (handles []identity.Handle) {
	for i := range 6 {
		handles = append(handles, tokenHandles(i)...)
	}
	slices.Sort(handles)
	return slices.Compact(handles)
}()

var (
	anEntry = rapid.Custom(func(t *rapid.T) revocation.Entry {
		return revocation.Entry{
			Handle:      rapid.SampledFrom(universe).Draw(t, "handle"),
			Expires:     identity.Instant(rapid.IntRange(1, 9).Draw(t, "expires")),
			Provisional: rapid.Bool().Draw(t, "provisional"),
		}
	})
	entries = rapid.SliceOfN(anEntry, 0, 60)
)

// setOf merges lists in order.
func setOf(lists ...[]revocation.Entry) *revocation.Set {
	s := revocation.NewSet()
	for _, list := range lists {
		s.Merge(slices.Values(list))
	}
	return s
}

// revoked lists what a set says of the universe.
func revoked(s *revocation.Set) (handles []identity.Handle) {
	for _, h := range universe {
		if s.Revoked(h) {
			handles = append(handles, h)
		}
	}
	return handles
}

// requireSame compares all that can be told of two sets: what is revoked, what is final, and what is left
// after every step of a purge.
func requireSame(t *rapid.T, a, b *revocation.Set) {
	for step := identity.Instant(0); step < 10; step++ {
		require.Equal(t, a.Len(), b.Len())
		require.Equal(t, final(a), final(b))
		require.Equal(t, revoked(a), revoked(b))
		require.Equal(t, a.PurgeProvisional(step), b.PurgeProvisional(step))
		require.Equal(t, a.Purge(step), b.Purge(step))
	}
}

func TestMergeIsCommutative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := entries.Draw(t, "a"), entries.Draw(t, "b")
		requireSame(t, setOf(a, b), setOf(b, a))
	})
}

func TestMergeIsAssociative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := entries.Draw(t, "a"), entries.Draw(t, "b"), entries.Draw(t, "c")

		// (a ∪ b) ∪ c by way of what a snapshot would carry, and a ∪ (b ∪ c) likewise.
		for i := range a {
			a[i].Provisional = false
		}
		for i := range b {
			b[i].Provisional = false
		}
		left, right := setOf(), setOf(a)
		left.Merge(setOf(a, b).Final())
		left.Merge(slices.Values(c))
		bc := setOf(b, c)
		right.Merge(bc.Final())
		right.Merge(slices.Values(slices.DeleteFunc(slices.Clone(c), func(e revocation.Entry) bool { return !e.Provisional })))
		requireSame(t, left, right)
	})
}

func TestMergeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := entries.Draw(t, "a")
		s := setOf(a)
		require.Zero(t, s.Merge(slices.Values(a)))
		require.Zero(t, s.Merge(s.Final()))
		requireSame(t, s, setOf(a))
	})
}

func TestUnionNeverLoses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := entries.Draw(t, "a"), entries.Draw(t, "b")
		s := setOf(a, b)
		for _, e := range slices.Concat(a, b) {
			require.True(t, s.Revoked(e.Handle))
			if !e.Provisional {
				require.GreaterOrEqual(t, final(s)[e.Handle], e.Expires)
			}
		}
	})
}

func TestSetBehavesLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, model := revocation.NewSet(), map[identity.Handle]revocation.Entry{}
		purge := func(now identity.Instant, provisionalOnly bool) (removed int) {
			for h, e := range model {
				if e.Expires <= now && (e.Provisional || !provisionalOnly) {
					delete(model, h)
					removed++
				}
			}
			return removed
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				e := anEntry.Draw(t, "entry")
				old, known := model[e.Handle]
				require.Equal(t, !known, s.Add(e))
				if !known || old.Provisional && !e.Provisional || old.Provisional == e.Provisional && old.Expires < e.Expires {
					model[e.Handle] = e
				}
			},
			"purge": func(t *rapid.T) {
				now := identity.Instant(rapid.IntRange(0, 10).Draw(t, "now"))
				require.Equal(t, purge(now, false), s.Purge(now))
			},
			"purge provisional": func(t *rapid.T) {
				now := identity.Instant(rapid.IntRange(0, 10).Draw(t, "now"))
				require.Equal(t, purge(now, true), s.PurgeProvisional(now))
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(model), s.Len())
				finals := map[identity.Handle]identity.Instant{}
				for h, e := range model {
					if !e.Provisional {
						finals[h] = e.Expires
					}
				}
				require.Equal(t, finals, final(s))
				for _, h := range universe {
					_, known := model[h]
					require.Equal(t, known, s.Revoked(h))
				}
			},
		})
	})
}
