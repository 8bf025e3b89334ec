package revocation

import (
	"fmt"
	"hash/maphash"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestHandlesOfOneHashAreToldApart(t *testing.T) {
	// Every key gets the last slot of the table, so that all of them collide and wrap around.
	const hash = 1<<(64-shardBits) - 1
	table := newTable(8, 100)
	var keys []key
	for i := range 5 {
		keys = append(keys,
			key{kind: kindSession, hash: hash, hi: 1, lo: uint64(i)},
			key{kind: kindDelegation, hash: hash, hi: 1, lo: uint64(i)},
			key{kind: kindText, hash: hash, text: fmt.Sprintf("agt_a#%d", i)},
		)
	}
	for i := range keys {
		require.Nil(t, table.find(&keys[i]))
		require.True(t, table.hasRoom(&keys[i]))
		table.insert(&keys[i], newMark(keys[i].kind, Entry{Expires: identity.Instant(i)}))
		for j := range keys {
			slot := table.find(&keys[j])
			require.Equal(t, j <= i, slot != nil)
			if slot != nil {
				require.Equal(t, identity.Instant(j), slot.load().expires())
			}
		}
	}
	// A dead slot in the middle of a probe must not end it.
	for i := range keys {
		slot := table.find(&keys[i])
		table.remove(slot, slot.load())
		for j := range keys {
			require.Equal(t, j > i, table.find(&keys[j]) != nil)
		}
	}
	require.Equal(t, len(table.slots)-1, table.start(hash))
}

func TestPurgeWorksInBoundedSteps(t *testing.T) {
	s := NewSet()
	const n = 10_000
	for i := range n {
		s.Add(Entry{Handle: identity.AgentHandle("a", uint64(i)), Expires: 1})
	}
	steps := 0
	for s.Len() > 0 {
		removed := s.sweep(1, 100)
		require.Positive(t, removed)
		require.Less(t, removed, n/shardCount*5, "one or two shards a step")
		steps++
	}
	require.Greater(t, steps, shardCount/4)
}

func TestPurgeGivesMemoryBack(t *testing.T) {
	s := NewSet()
	const n = 20_000
	for i := range n {
		s.Add(Entry{Handle: identity.AgentHandle("a", uint64(i)), Expires: identity.Instant(i)})
	}
	slots, text := size(s)
	require.Equal(t, n/2, s.Purge(n/2-1))
	slotsLeft, textLeft := size(s)
	require.Less(t, slotsLeft, slots*2/3)
	require.Less(t, textLeft, text*2/3)
	for i := range n {
		require.Equal(t, i >= n/2, s.Revoked(identity.AgentHandle("a", uint64(i))))
	}
	require.Equal(t, n/2, s.Purge(n))
	slotsLeft, textLeft = size(s)
	require.Zero(t, slotsLeft)
	require.Zero(t, textLeft)
}

func size(s *Set) (slots, text int) {
	for i := range s.shards {
		if t := s.shards[i].table.Load(); t != nil {
			slots += len(t.slots)
			text += len(t.text)
		}
	}
	return slots, text
}

func TestFullTextBuildsANewTable(t *testing.T) {
	table := newTable(100, 0)
	long := key{kind: kindText, text: string(make([]byte, identity.MaxHandleLength))}
	require.False(t, table.hasRoom(&long))
	table = table.rebuilt(maphash.MakeSeed(), len(long.text))
	require.True(t, table.hasRoom(&long))
}

func TestSlotIsThreeWords(t *testing.T) {
	require.Equal(t, uintptr(24), unsafe.Sizeof(slot{}))
	require.Equal(t, uintptr(128), unsafe.Sizeof(shard{}))
}

func TestMarkKeepsEverything(t *testing.T) {
	for _, e := range []Entry{{Expires: 0}, {Expires: latestExpiry}, {Expires: 5, Provisional: true}} {
		for k := kindText; k <= kindAPIToken; k++ {
			m := newMark(k, e)
			require.NotEqual(t, empty, m)
			require.Equal(t, k, m.kind())
			require.Equal(t, e.Expires, m.expires())
			require.Equal(t, e.Provisional, !m.final())
		}
	}
}

func TestHandlesOfGeneratedIDsTakeNoText(t *testing.T) {
	seed := maphash.MakeSeed()
	for _, prefix := range []string{identity.PrefixSession, identity.PrefixDelegation, identity.PrefixCredential, identity.PrefixAPIToken} {
		h := identity.Handle(identity.NewID(prefix, 5, [10]byte{7}))
		k := keyOf(seed, h)
		require.Empty(t, k.text, h)
		require.Equal(t, prefix, k.kind.prefix())
	}
}
