package fsm

import (
	"cmp"
	"math"
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// place is where a fact is.
type place struct {
	expires identity.Instant
	block   *block
	i       int
}

// comparePlaces orders by expiry, then handle: blocks do not overlap.
func comparePlaces(a, b place) int {
	if c := cmp.Compare(a.expires, b.expires); c != 0 {
		return c
	}
	if a.block != b.block {
		return cmp.Compare(a.block.first, b.block.first)
	}
	return cmp.Compare(a.i, b.i)
}

// purge removes the revocations that end first, if they have ended by now, and at most limit of them. It shows each
// beforehand.
func (t *revocations) purge(now identity.Instant, limit int, show func(*identity.Revocation)) (removed int) {
	if limit <= 0 {
		return 0
	}
	t.flush()
	var ended []place
	latest := now
	t.byExpiry.work.Scan(func(next ending) bool {
		if next.soonest > latest {
			return false
		}
		at, ok := t.blocks.get(filedAs(next.first, nil))
		if !ok {
			panic("BUG: a block that is to end is not there")
		}
		b := at.block
		for i := range b.count {
			if expires := b.expires(i); expires <= latest {
				ended = append(ended, place{expires, b, i})
			}
		}
		if len(ended) > 2*limit { // far more than may go: keep the first, and look no further than they do
			slices.SortFunc(ended, comparePlaces)
			ended = ended[:limit]
			latest = ended[limit-1].expires
		}
		return true
	})
	slices.SortFunc(ended, comparePlaces)
	ended = ended[:min(limit, len(ended))]

	gone := make(map[*block][]int)
	var order []*block // of a map's there is none
	for _, p := range ended {
		if show != nil {
			show(p.block.revocation(p.i))
		}
		if gone[p.block] == nil {
			order = append(order, p.block)
		}
		gone[p.block] = append(gone[p.block], p.i)
	}
	slices.SortFunc(order, func(a, b *block) int { return cmp.Compare(a.first, b.first) })
	for _, b := range order {
		t.without(b, gone[b])
	}
	t.count -= len(ended)
	t.merge(order)
	return len(ended)
}

// without makes a block anew without some of its facts.
func (t *revocations) without(b *block, gone []int) {
	facts := b.facts(t.scratch[:0])
	t.scratch = facts
	var dropped [maxBlock]bool
	for _, i := range gone {
		dropped[i] = true
	}
	kept := facts[:0]
	for i, f := range facts {
		if !dropped[i] {
			kept = append(kept, f)
		}
	}
	t.drop(b)
	if len(kept) > 0 {
		t.add(newBlock(b.prefix, kept))
	}
}

// merge joins what a purge has left of blocks with the block after it, where both are few.
func (t *revocations) merge(changed []*block) {
	for _, old := range changed {
		b, next := t.work().around(old.last())
		if b == nil || next == nil || b.prefix != next.prefix || min(b.count, next.count) >= smallBlock || b.count+next.count > maxBlock/2+smallBlock {
			continue
		}
		facts := next.facts(b.facts(t.scratch[:0]))
		t.scratch = facts
		t.drop(b)
		t.drop(next)
		t.add(newBlock(b.prefix, facts))
	}
}

// soonestOf is the least expiry of some facts.
func soonestOf(facts []fact) identity.Instant {
	least := identity.Instant(math.MaxInt64)
	for i := range facts {
		least = min(least, facts[i].expires)
	}
	return least
}
