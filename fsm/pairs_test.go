package fsm

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"testing"
	"unique"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// lentRecords makes records of one pair, none like another.
type lentRecords struct{ made uint64 }

func (l *lentRecords) next(expires int) *record {
	l.made++
	r := &record{principal: "p@x", agent: unique.Make("agent"), expires: identity.Instant(expires)}
	binary.BigEndian.PutUint64(r.id[8:], l.made)
	return r
}

// recordsOf are those of a pair, the one that lasts longest last.
func recordsOf(p pair) []*record {
	list := make([]*record, 0, p.len())
	p.descend(func(r *record) bool {
		list = append(list, r)
		return true
	})
	slices.Reverse(list)
	return list
}

// What a View shows of a pair stays as it was, whatever is added and removed after it.
func TestAPairIsWhatWasAddedAndNotRemoved(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type shown struct {
			pair pair
			want []*record
		}
		var lent lentRecords
		var now shown
		for range rapid.SampledFrom([]int{0, 0, 1, 2, MaxPairDelegations + 1, mostLate + 100}).Draw(t, "at first") {
			now.want = append(now.want, lent.next(5))
		}
		if last := len(now.want) - 1; last >= 0 { // as it is restored
			now.pair = pair{now.want[last], shorterOf(slices.Clone(now.want[:last]))}
		}
		before := []shown{now}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			want := slices.Clone(now.want)
			if len(want) > 0 && rapid.Bool().Draw(t, "remove") {
				from := rapid.SampledFrom([]int{0, len(want) - 1, rapid.IntRange(0, len(want)-1).Draw(t, "from")}).Draw(t, "which")
				to := min(len(want), from+rapid.SampledFrom([]int{1, 2, 200, 2000}).Draw(t, "how many"))
				odd := rapid.Bool().Draw(t, "every second")
				var gone []*record
				for i := from; i < to; i++ {
					if odd && i%2 == 0 {
						continue
					}
					changed := *want[i] // as a withdrawal does
					changed.inactive = true
					gone = append(gone, &changed)
				}
				if rapid.Bool().Draw(t, "one that it does not have") {
					gone = append(gone, lent.next(rapid.IntRange(0, 10).Draw(t, "its expiry")))
					slices.SortFunc(gone, byExpiryOrder)
				}
				want = slices.DeleteFunc(want, func(r *record) bool {
					_, found := slices.BinarySearchFunc(gone, r, byExpiryOrder)
					return found
				})
				now.pair = now.pair.without(gone)
			} else {
				expires := rapid.IntRange(0, 9).Draw(t, "expires")
				for range rapid.SampledFrom([]int{1, 1, 3, mostLate}).Draw(t, "added") {
					r := lent.next(expires)
					at, _ := slices.BinarySearchFunc(want, r, byExpiryOrder)
					want = slices.Insert(want, at, r)
					now.pair = now.pair.with(r)
				}
			}
			now.want = want
			before = append(before, now)
			if others := now.pair.others; others != nil {
				require.LessOrEqual(t, len(others.late), mostLate)
				require.LessOrEqual(t, others.cut, len(others.early), "no more is kept for nothing than is of use")
			}
		}
		for _, s := range before {
			require.Equal(t, len(s.want), s.pair.len())
			have := recordsOf(s.pair)
			require.Len(t, have, len(s.want))
			for i := range have {
				require.Same(t, s.want[i], have[i])
			}
		}
	})
}

func TestAPairIsLookedAtUntilItIsEnough(t *testing.T) {
	t.Parallel()
	var p pair
	p.descend(func(*record) bool { t.Fatal("there is none"); return false })
	var lent lentRecords
	const all = mostLate + 3
	for i := range all {
		p = p.with(lent.next(i))
	}
	require.NotEmpty(t, p.others.early)
	for _, enough := range []int{1, 2, 3, mostLate, all} {
		seen := 0
		p.descend(func(r *record) bool {
			require.Equal(t, identity.Instant(all-1-seen), r.expires)
			seen++
			return seen < enough
		})
		require.Equal(t, enough, seen)
	}
}

// TestPairsOfOneHashAreToldApart: a hash says nothing of who may act for whom.
func TestPairsOfOneHashAreToldApart(t *testing.T) {
	t.Parallel()
	d := newRecords(maphash.MakeSeed())
	const hash = 42
	lent := map[[2]string]*record{}
	for _, names := range [][2]string{{"ann@x", "inbox"}, {"ann@x", "calendar"}, {"bob@x", "inbox"}} {
		r := &record{principal: names[0], agent: unique.Make(names[1]), id: [16]byte{byte(len(lent))}}
		lent[names] = r
		before := pairIn(d.pairs.root, hash, r.principal, r.agent)
		require.Zero(t, before)
		d.putPair(hash, before, before.with(r))
	}
	for names, r := range lent {
		require.Same(t, r, pairIn(d.pairs.root, hash, names[0], unique.Make(names[1])).lead)
	}
	require.Zero(t, pairIn(d.pairs.root, hash, "bob@x", unique.Make("calendar")))

	gone := lent[[2]string{"ann@x", "inbox"}]
	before := pairIn(d.pairs.root, hash, gone.principal, gone.agent)
	d.putPair(hash, before, before.without([]*record{gone}))
	require.Zero(t, pairIn(d.pairs.root, hash, gone.principal, gone.agent))
	delete(lent, [2]string{"ann@x", "inbox"})
	for names, r := range lent {
		require.Same(t, r, pairIn(d.pairs.root, hash, names[0], unique.Make(names[1])).lead)
	}
}

// A mint looks for the pair beside agent and principal by hashes alone: what it finds so may be of others.
func TestAMintTellsPairsOfOneHashApart(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("inbox")})
	must1[*identity.Delegation](m, CreateDelegation{Delegation: testDelegation(1, "ann@x", "inbox"), EnsurePrincipal: true})
	must1[*identity.Delegation](m, CreateDelegation{Delegation: testDelegation(2, "bob@x", "inbox"), EnsurePrincipal: true})
	d := m.fsm.state.delegations
	agent := unique.Make("inbox")
	hash := hashPair(hashName(d.seed, "ann@x"), hashName(d.seed, "inbox"))
	anns := pairIn(d.pairs.root, hash, "ann@x", agent)
	bobs := pairIn(d.pairs.root, hashPair(hashName(d.seed, "bob@x"), hashName(d.seed, "inbox")), "bob@x", agent)
	require.NotNil(t, anns.lead)
	require.NotNil(t, bobs.lead)

	// As if the hash of ann's pair were that of bob's, too, and bob's came first.
	d.putPair(hash, anns, bobs)
	d.putPair(hash, pair{}, anns)
	m.fsm.publish(m.fsm.state)
	lent, err := m.fsm.View().ActiveDelegation("inbox", "ann@x", "", epoch)
	require.Nil(t, err)
	require.Equal(t, "ann@x", lent.Delegation.Principal)
	require.Equal(t, anns.lead.key(), lent.Delegation.ID)

	d.putPair(hash, anns, pair{})
	m.fsm.publish(m.fsm.state)
	_, err = m.fsm.View().ActiveDelegation("inbox", "ann@x", "", epoch)
	require.Equal(t, identity.CodeDelegationMissing, err.Code, "bob's is not hers")
}
