package fsm

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// aHandle draws handles of every shape, close together, so that blocks fill, part and meet.
var aHandle = rapid.Custom(func(t *rapid.T) identity.Handle {
	n := rapid.IntRange(0, 400).Draw(t, "n")
	switch rapid.IntRange(0, 9).Draw(t, "shape") {
	case 0:
		return identity.AgentHandle(fmt.Sprintf("agent-%d", n%7), uint64(n))
	case 1:
		return identity.PrincipalHandle(strings.Repeat("u", n)+"@example.com", uint64(n))
	case 2: // an id that is misspelt, among those that are not
		return identity.Handle(strings.ToUpper(spreadID(identity.PrefixSession, n)[:12]) + "x")
	case 3:
		return identity.Handle(spreadID(identity.PrefixSession, n)[:20])
	case 4:
		return identity.Handle(spreadID(identity.PrefixDelegation, n))
	default:
		return identity.Handle(spreadID(identity.PrefixSession, n))
	}
})

func spreadID(prefix string, n int) string {
	var entropy [10]byte
	binary.BigEndian.PutUint32(entropy[2:], uint32(n)*2654435761)
	return identity.NewID(prefix, identity.Instant(1_800_000_000_000+n%5), entropy)
}

var aRevocation = rapid.Custom(func(t *rapid.T) identity.Revocation {
	r := identity.Revocation{
		Handle: aHandle.Draw(t, "handle"),
		Reason: rapid.SampledFrom([]string{"", "INC-1", "INC-2", "left the company"}).Draw(t, "reason"),
		By:     rapid.SampledFrom([]string{"tok_a", "tok_b"}).Draw(t, "by"),
		At:     identity.Instant(rapid.IntRange(0, 50).Draw(t, "at")), Index: rapid.Uint64Range(1, 1000).Draw(t, "index"),
	}
	r.Expires = r.At + identity.Instant(rapid.IntRange(0, 20).Draw(t, "life"))
	switch rapid.IntRange(0, 30).Draw(t, "odd") {
	case 0:
		r.Expires = endOfTime
	case 1:
		r.At, r.Index = math.MinInt64, math.MaxUint64
	}
	return r
})

func allOf(t frozenRevocations) (list []identity.Revocation) {
	t.scan(func(r *identity.Revocation) bool {
		list = append(list, *r)
		return true
	})
	return list
}

func inOrder(model map[identity.Handle]identity.Revocation) (list []identity.Revocation) {
	for _, h := range slices.Sorted(maps.Keys(model)) {
		list = append(list, model[h])
	}
	return list
}

func TestRevocationsBehaveLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, model := newRevocations(), map[identity.Handle]identity.Revocation{}
		var kept frozenRevocations // of some View, which must stay as it was
		var keptModel []identity.Revocation
		freeze := func() {
			kept, keptModel = table.freeze(), inOrder(model)
		}
		freeze()
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				for _, r := range rapid.SliceOfN(aRevocation, 1, 200).Draw(t, "revocations") {
					table.set(&r)
					model[r.Handle] = r
				}
			},
			"purge": func(t *rapid.T) {
				now := identity.Instant(rapid.IntRange(0, 80).Draw(t, "now"))
				limit := rapid.IntRange(0, 300).Draw(t, "limit")
				ended := slices.DeleteFunc(inOrder(model), func(r identity.Revocation) bool { return r.Expires > now })
				slices.SortStableFunc(ended, func(a, b identity.Revocation) int { return cmp.Compare(a.Expires, b.Expires) })
				ended = ended[:min(limit, len(ended))]

				shown := []identity.Revocation{}
				removed := table.purge(now, limit, func(r *identity.Revocation) { shown = append(shown, *r) })

				require.Equal(t, len(ended), removed)
				require.Equal(t, append([]identity.Revocation{}, ended...), shown)
				for _, r := range ended {
					delete(model, r.Handle)
				}
			},
			"freeze": func(*rapid.T) { freeze() },
			"load all into another": func(*rapid.T) {
				other := newRevocations()
				for _, r := range inOrder(model) {
					other.load(&r)
				}
				table = other
				freeze()
			},
			"load out of order": func(t *rapid.T) {
				for _, r := range rapid.SliceOfN(aRevocation, 1, 50).Draw(t, "revocations") {
					table.load(&r)
					model[r.Handle] = r
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(model), table.len())
				require.Equal(t, inOrder(model), allOf(table.work()))
				require.Equal(t, keptModel, allOf(kept))
				require.Equal(t, len(keptModel), kept.count)
				asked := aHandle.Draw(t, "asked")
				r, ok := table.get(asked)
				want, known := model[asked]
				require.Equal(t, known, ok)
				if ok {
					require.Equal(t, want, *r)
				}
				after := []identity.Revocation{}
				table.work().ascend(asked, func(r *identity.Revocation) bool {
					after = append(after, *r)
					return len(after) < 10
				})
				behind := slices.DeleteFunc(inOrder(model), func(r identity.Revocation) bool { return r.Handle < asked })
				require.Equal(t, append([]identity.Revocation{}, behind[:min(10, len(behind))]...), after)
				soonest := 0
				table.blocks.work.Scan(func(at filed) bool {
					b := at.block
					_, ends := table.byExpiry.get(endingOf(b))
					require.True(t, ends, "each block is in both orders")
					require.LessOrEqual(t, b.count, maxBlock)
					require.Positive(t, b.count)
					soonest++
					return true
				})
				require.Equal(t, soonest, table.byExpiry.len(), "each block is in both orders")
			},
		})
	})
}

func TestABlockKeepsAnyValueWhatever(t *testing.T) {
	facts := []fact{
		{text: "a", at: math.MinInt64, expires: math.MaxInt64, index: math.MaxUint64, cause: &cause{"r", "b"}},
		{text: strings.Repeat("a", identity.MaxHandleLength), at: math.MaxInt64, expires: math.MinInt64, index: 0, cause: &cause{"r2", ""}},
		{text: "b", at: 5, expires: 1, index: 7, cause: &cause{"r", "b"}},
	}
	b := newBlock("", facts)
	require.Equal(t, identity.Instant(math.MinInt64), b.soonest)
	require.Len(t, b.causes, 2)
	for i := range facts {
		r := b.revocation(i)
		require.Equal(t, identity.Revocation{
			Handle: identity.Handle(facts[i].text), Reason: facts[i].cause.reason, By: facts[i].cause.by, At: facts[i].at,
			Expires: facts[i].expires, Index: facts[i].index,
		}, *r)
		require.Equal(t, r.Expires, b.expires(i))
	}
}

func TestPurgedBlocksAreJoined(t *testing.T) {
	table := newRevocations()
	const n = 20_000
	for i := range n {
		table.set(&identity.Revocation{Handle: identity.Handle(spreadID(identity.PrefixSession, i)), Expires: identity.Instant(i % 100), Index: 1})
	}
	require.Equal(t, n*98/100, table.purge(97, n, nil))
	require.Equal(t, n*2/100, table.len())
	require.Less(t, table.blocks.len(), n*2/100/(smallBlock/2), "what is left of blocks does not stand alone")
}
