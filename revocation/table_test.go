package revocation

import (
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestHandlesOfOneHashAreToldApart(t *testing.T) {
	// Every key gets the last group of the index, and the same tag, so that all of them collide and wrap around.
	const hash = 1<<(64-shardBits) - 1
	seed := maphash.MakeSeed()
	sh := new(shard)
	table := sh.begin(25)
	var keys []key
	for i := range 5 {
		for _, prefix := range []string{identity.PrefixSession, identity.PrefixDelegation} {
			k := key{hash: hash, text: identity.FormatID(prefix, [16]byte{1, 15: byte(i)})}
			k.read()
			keys = append(keys, k)
		}
		keys = append(keys, key{kind: kindText, hash: hash, text: fmt.Sprintf("agt_a#%d", i)})
	}
	for i := range keys {
		require.Nil(t, table.find(&keys[i]))
		table = sh.makeRoom(table, &keys[i], seed)
		sh.insert(table, &keys[i], newMark(keys[i].kind, Entry{Expires: identity.Instant(i)}))
		for j := range keys {
			slot := table.find(&keys[j])
			require.Equal(t, j <= i, slot != nil)
			if slot != nil {
				require.Equal(t, identity.Instant(j), slot.load().expires())
			}
		}
	}
	// A dead entry in the middle of a probe must not end it.
	for i := range keys {
		slot := table.find(&keys[i])
		sh.remove(slot, slot.load())
		for j := range keys {
			require.Equal(t, j > i, table.find(&keys[j]) != nil)
		}
	}
	require.Equal(t, len(table.tags)-1, table.start(hash))
}

// A reader may hold a table that has grown since. It shares the index with the new one, so it meets numbers of
// what it does not have.
func TestAReaderOfAnOldTableLeavesOutWhatCameLater(t *testing.T) {
	seed := maphash.MakeSeed()
	sh := new(shard)
	table := sh.begin(2 * chunkSlots) // an index that never grows here
	keyed := func(i int) key {
		k := keyOf(seed, identity.AgentHandle(strings.Repeat("a", 60), uint64(i)))
		k.read()
		return k
	}
	var olds []*agedTable
	for i := range 2 * chunkSlots {
		k := keyed(i)
		table = sh.makeRoom(table, &k, seed)
		if len(olds) == 0 || olds[len(olds)-1].table != table {
			olds = append(olds, &agedTable{table, i})
		}
		sh.insert(table, &k, newMark(k.kind, Entry{Expires: 1}))
	}
	require.Greater(t, len(olds), 5, "first chunks, chunks and segments of text")
	for _, old := range olds {
		for i := range 2 * chunkSlots {
			k := keyed(i)
			if found := old.find(&k); i < old.entries {
				require.NotNil(t, found, "entry %d of %d", i, old.entries)
			}
		}
		walked := 0
		require.True(t, old.walk(mark.taken, func(Entry) bool { walked++; return true }))
		require.GreaterOrEqual(t, walked, old.entries)
	}
}

type agedTable struct {
	*table
	entries int // that it was made after
}

func TestPurgeWorksInBoundedSteps(t *testing.T) {
	s := NewSet()
	const n = 10_000
	for i := range n {
		s.Add(Entry{Handle: identity.AgentHandle("a", uint64(i)), Expires: 1})
	}
	steps := 0
	for s.Len() > 0 {
		removed := s.sweep(1, 400)
		require.Positive(t, removed)
		require.Less(t, removed, 1000, "a few shards a step")
		steps++
	}
	require.Greater(t, steps, 20)
}

func TestPurgeGivesMemoryBack(t *testing.T) {
	s := NewSet()
	const n = 50_000
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
	for _, at := range s.shards() {
		if t := at.Load(); t != nil {
			slots += capacity(t.chunks)
			for _, segment := range t.texts {
				text += len(segment)
			}
		}
	}
	return slots, text
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
		k.read()
		require.NotEqual(t, kindText, k.kind, h)
		require.Equal(t, prefix, k.kind.prefix())
	}
}
