package revocation

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestHandlesOfOneHashAreToldApart(t *testing.T) {
	// Every key gets the last line of the index, and the same tag, so that all of them collide, fill it and wrap around.
	const hash = 1<<(64-shardBits) - 1
	seed := maphash.MakeSeed()
	sh := new(shard)
	table := sh.begin(43)
	var keys []key
	for i := range 14 {
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
	require.Equal(t, len(table.lines)-1, table.start(hash))
	require.Greater(t, len(keys), linePlaces)
	var h head
	h.store(table.lines, table.size)
	require.True(t, h.has(hash))
	require.False(t, h.has(hash&^1), "another tag, behind a full line")
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

func TestALineTellsItsTagsFromAllOthers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		var l line
		tags := map[uint64]bool{}
		for i := range random.IntN(linePlaces) {
			tag := tagOf(uint64(random.IntN(64))) // few, so that they are alike
			tags[tag] = true
			l[i/wordPlaces].Store(l[i/wordPlaces].Load() | tag<<(i%wordPlaces*tagBits))
		}
		for hash := range uint64(70) {
			found, full := l.match(tagOf(hash))
			require.Equal(t, tags[tagOf(hash)], found)
			require.False(t, full)
			require.Equal(t, found, l.may(tagOf(hash)) != 0)
		}
	}
	var full line
	for i := range full {
		full[i].Store(fourfold(tagOf(1)))
	}
	require.NotZero(t, full.may(tagOf(2)), "what was looked for may be in the next")
}

// Readers come to the line that writers meant, whatever the size.
func TestHeadsLeadToEveryLineOfEverySize(t *testing.T) {
	require.GreaterOrEqual(t, linesOf(sizes-1), uint64(100_000))
	require.Nil(t, new(head).line(1))
	for size := range uint64(30) {
		entries := int(linesOf(size) * builtLine)
		require.LessOrEqual(t, linesOf(sizeFor(entries)), linesOf(size))
		require.Less(t, linesOf(size), linesOf(sizeFor(entries+1)))
		lines := newLines(size)
		require.False(t, misplaced(lines))
		var h head
		h.store(lines, size)
		for hash := uint64(0); hash>>(64-shardBits) == 0; hash += 1 << (64 - shardBits) / (4 * linesOf(size)) {
			require.Same(t, &lines[lineOf(hash, linesOf(size))], h.line(hash))
		}
	}
}

func TestWhatTokensListLiesInPartsOfItsOwn(t *testing.T) {
	seen := map[uint32]string{}
	for _, prefix := range []string{identity.PrefixSession, identity.PrefixDelegation, identity.PrefixCredential, identity.PrefixAPIToken, "agt_", "usr_", "key_"} {
		part := partOf(prefix + "x")
		require.Empty(t, seen[part], prefix)
		seen[part] = prefix
	}
	require.Less(t, partOf("\xff\xff\xff\xff"), uint32(partCount))
	require.Zero(t, partOf("ses"))
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
