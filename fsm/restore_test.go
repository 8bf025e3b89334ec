package fsm

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"unique"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

var anInstant = rapid.Custom(func(t *rapid.T) identity.Instant {
	return identity.Instant(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-300, 70_000), rapid.Just[int64](math.MinInt64)).Draw(t, "instant"))
})

// What is read by hand is what the codec reads, of all that the codec writes.
func TestRecordsReadByHandAreThoseOfTheCodec(t *testing.T) {
	long := rapid.Map(rapid.StringN(1, 20, -1), func(s string) string { return strings.Repeat(s, 66_000/len(s)+1) })
	text := rapid.OneOf(rapid.Just(""), rapid.StringN(0, 40, -1), rapid.StringN(250, 300, -1), long)
	rapid.Check(t, func(t *rapid.T) {
		w := wireRecord{
			ID: rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"), Agent: text.Draw(t, "agent"), Principal: text.Draw(t, "principal"),
			Scopes: text.Draw(t, "scopes"), Origin: text.Draw(t, "origin"), Reason: text.Draw(t, "reason"),
			Created: anInstant.Draw(t, "created"), Expires: anInstant.Draw(t, "expires"), Withdrawn: anInstant.Draw(t, "withdrawn"),
			Revision: rapid.Uint64().Draw(t, "revision"), Made: rapid.Uint64().Draw(t, "made"), MaxHops: rapid.Byte().Draw(t, "hops"),
			Inactive: rapid.Bool().Draw(t, "inactive"),
		}
		var b frameBuffer
		require.NoError(t, codec.NewEncoder(&b, handle).Encode(&w))
		want, err := w.record()
		require.NoError(t, err)

		var s shared
		r, got := wireReader{b: append(b, 0xff)}, new(record)
		agent, principal, ok := s.delegation(&r, got)

		if w.Revision > math.MaxInt64 || w.Made > math.MaxInt64 || w.Agent == "" || bytes.Equal(w.ID, make([]byte, 16)) {
			require.False(t, ok, "left to the codec")
			return
		}
		require.True(t, ok)
		require.Equal(t, []byte{0xff}, r.b, "it stops where the record ends")
		got.agent, got.principal = unique.Make(string(agent)), string(principal)
		require.Equal(t, want, got)
	})
}

func TestRevocationsReadByHandAreThoseOfTheCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := aRevocation.Draw(t, "revocation")
		var b frameBuffer
		require.NoError(t, codec.NewEncoder(&b, handle).Encode(&want))
		var s shared
		var got identity.Revocation
		r := wireReader{b: b}
		if !s.revocation(&r, &got) {
			require.Greater(t, want.Index, uint64(math.MaxInt64))
			return
		}
		require.Equal(t, want, got)
		require.Empty(t, r.b)
	})
}

// No garbage makes it read past the end, and what it does not know is the codec's.
func TestReadingByHandGivesUpOnWhatItDoesNotKnow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s shared
		r := wireReader{b: rapid.SliceOf(rapid.Byte()).Draw(t, "garbage")}
		s.delegation(&r, new(record))
		r = wireReader{b: rapid.SliceOf(rapid.Byte()).Draw(t, "garbage")}
		s.revocation(&r, new(identity.Revocation))
	})
}

// The orders of a state that was restored are those of the state that was built by commands, also of delegations whose
// agent or principal is gone.
func TestARestoredTableIsInTheOrdersOfTheOneItWasTakenOf(t *testing.T) {
	whole := t
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(whole)
		agents, principals := rapid.IntRange(1, 6).Draw(t, "agents"), rapid.IntRange(1, 6).Draw(t, "principals")
		for i := range agents {
			m.do(CreateAgent{testAgent(fmt.Sprintf("agent-%d", i))})
		}
		n := rapid.IntRange(1, 120).Draw(t, "delegations")
		for i := range n {
			d := testDelegation(uint64(rapid.IntRange(1, 1000).Draw(t, "id")), fmt.Sprintf("user-%d@x", rapid.IntRange(0, principals-1).Draw(t, "principal")),
				fmt.Sprintf("agent-%d", rapid.IntRange(0, agents-1).Draw(t, "agent")))
			d.Expires += identity.Instant(rapid.IntRange(0, 3).Draw(t, "expires"))
			m.do(CreateDelegation{Delegation: d, EnsurePrincipal: true})
			if i%7 == 3 {
				m.do(WithdrawDelegation{ID: d.ID})
			}
		}
		// What a deletion leaves for later purges is in the table with names that no agent and no principal has.
		s := m.fsm.state
		if rapid.Bool().Draw(t, "gone") {
			s.agents.delete("agent-0")
			s.principals.delete("user-0@x")
		}
		m.fsm.publish(s)

		other := New(Options{Revocations: revocation.NewSet()})
		taken, err := m.fsm.Snapshot()
		require.NoError(t, err)
		var b memorySink
		require.NoError(t, taken.Persist(&b))
		require.NoError(t, other.Restore(io.NopCloser(bytes.NewReader(b.Bytes()))))

		want, got := m.fsm.state.delegations, other.state.delegations
		want.fileAll()
		require.Equal(t, want.byID.work.Items(), got.byID.work.Items())
		require.Equal(t, want.byExpiry.work.Items(), got.byExpiry.work.Items())
		for name, orders := range map[string][2]order{"agent": {want.byAgent, got.byAgent}, "principal": {want.byPrincipal, got.byPrincipal}} {
			requireSameRecords(t, orders[0], orders[1], name)
		}
		require.Equal(t, allPairs(want.pairs.root), allPairs(got.pairs.root))
	})
}

func TestAnIndexMadeAtOnceFindsWhatOneMadeRowByRowDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few bits, so that lists grow past their bound and some hashes are the same.
		hashes := rapid.SliceOfN(rapid.Uint64Range(0, 1<<12), 0, 3000).Draw(t, "hashes")
		slow, quick := newHashIndex[int](), newHashIndex[int]()
		var rows []indexed[int]
		for i, hash := range hashes {
			slow.put(hash, append(slices.Clone(slow.root.list(hash)), indexed[int]{hash, i}))
			rows = append(rows, indexed[int]{hash, i})
		}
		quick.fill(rows)
		of := func(list []indexed[int], hash uint64) (found []int) {
			for _, item := range list {
				if item.hash == hash {
					found = append(found, item.row)
				}
			}
			slices.Sort(found)
			return found
		}
		for _, hash := range append(hashes, 1<<13) {
			require.Equal(t, of(slow.root.list(hash), hash), of(quick.root.list(hash), hash))
		}
		if len(hashes) > 0 { // and it is written to like any other
			quick.put(hashes[0], append(slices.Clone(quick.root.list(hashes[0])), indexed[int]{hashes[0], -1}))
			require.Contains(t, of(quick.root.list(hashes[0]), hashes[0]), -1)
		}
	})
}

func TestRecordsOfOneHashAreInTheOrderOfTheirPairs(t *testing.T) {
	l := &loader{state: newState(revocation.NewSet())}
	for i := range 20 {
		r := &record{principal: fmt.Sprintf("user-%d", i%3), agent: unique.Make(fmt.Sprintf("agent-%d", i%2)), expires: identity.Instant(i), id: [16]byte{byte(i)}}
		l.records.add(&loadedRecord{record: r})
	}
	var items []keyed
	for i := range l.records.len() {
		items = append(items, keyed{7, uint32(i)})
	}
	same := l.ofHash(items)
	require.True(t, slices.IsSortedFunc(same, byPairOrder))
	require.Len(t, same, l.records.len())
}

func TestLoadedRecordsAreFoundInTheirPieces(t *testing.T) {
	var l loadedRecords
	for i := range 2*pieceSize + 1 {
		require.Equal(t, i, l.len())
		l.add(&loadedRecord{agent: uint32(i)})
	}
	for _, i := range []int{0, 1, pieceSize - 1, pieceSize, 2*pieceSize - 1, 2 * pieceSize} {
		require.Equal(t, uint32(i), l.at(i).agent)
	}
}

func TestSortingByDigitsIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOf(rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 3))).Draw(t, "keys")
		items := make([]keyed, len(keys))
		for i, key := range keys {
			items[i] = keyed{key, uint32(i)}
		}
		want := slices.Clone(items)
		slices.SortStableFunc(want, func(a, b keyed) int {
			switch {
			case a.key < b.key:
				return -1
			case a.key > b.key:
				return 1
			}
			return 0
		})
		require.Equal(t, want, sortKeyed(items, make([]keyed, len(items))))
	})
	require.Less(t, expiryKey(-5), expiryKey(0))
	require.Less(t, expiryKey(5), expiryKey(math.MaxInt64))
	require.NotZero(t, hashName(maphash.MakeSeed(), "a"))
}

// requireSameRecords holds two orders by name to each other. Names lie in each in the order of its own hashes.
func requireSameRecords(t require.TestingT, want, got order, what string) {
	records := func(o order) (all []*record) {
		var before placed
		o.work.Scan(func(item placed) bool {
			require.Equal(t, o.place(item.record), item, what)
			require.True(t, before.record == nil || byKeyOrder(before, item) < 0, what)
			before = item
			all = append(all, item.record)
			return true
		})
		slices.SortFunc(all, byIDOrder)
		return all
	}
	require.Equal(t, records(want), records(got), what)
}
