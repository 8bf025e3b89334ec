package fsm

import (
	"slices"
	"testing"
	"unique"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// What a View shows of a pair stays as it was, whatever is added and removed after it.
func TestAPairIsWhatWasAddedAndNotRemoved(t *testing.T) {
	t.Parallel()
	agent := unique.Make("agent")
	rapid.Check(t, func(t *rapid.T) {
		type shown struct {
			pair pair
			want []*record
		}
		var now shown
		var before []shown
		for n := range rapid.IntRange(1, 60).Draw(t, "steps") {
			want := slices.Clone(now.want)
			if len(want) > 0 && rapid.Bool().Draw(t, "remove") {
				var gone []*record
				for _, at := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(want)-1), 1, len(want), rapid.ID).Draw(t, "at") {
					changed := *want[at] // as a withdrawal does
					changed.inactive = true
					gone = append(gone, &changed)
				}
				if rapid.Bool().Draw(t, "more") {
					gone = append(gone, &record{principal: "p@x", agent: agent, expires: identity.Instant(rapid.IntRange(0, 10).Draw(t, "its expiry")), id: [16]byte{255}})
				}
				slices.SortFunc(gone, byExpiryOrder)
				want = slices.DeleteFunc(want, func(r *record) bool {
					return slices.ContainsFunc(gone, func(g *record) bool { return g.id == r.id })
				})
				now.pair = now.pair.without(gone)
			} else {
				r := &record{principal: "p@x", agent: agent, expires: identity.Instant(rapid.IntRange(0, 9).Draw(t, "expires")), id: [16]byte{byte(n)}}
				want = append(want, r)
				slices.SortFunc(want, byExpiryOrder)
				now.pair = now.pair.with(r)
			}
			now.want = want
			before = append(before, now)
		}
		for _, s := range before {
			require.Equal(t, len(s.want), s.pair.len())
			var have []*record
			s.pair.descend(func(r *record) bool {
				have = append(have, r)
				return true
			})
			slices.Reverse(have)
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
	for i := range 3 {
		p = p.with(&record{agent: noText, expires: identity.Instant(i)})
	}
	for enough := 1; enough <= 3; enough++ {
		seen := 0
		p.descend(func(r *record) bool {
			require.Equal(t, identity.Instant(2-seen), r.expires)
			seen++
			return seen < enough
		})
		require.Equal(t, enough, seen)
	}
}
