package fsm

import (
	"slices"

	"github.com/deputy-id/deputy/revocation"
)

// ids counts the handles that are ids, by what they begin with.
func (t *revocations) ids() map[string]int {
	counts := make(map[string]int)
	t.work().blocks.Scan(func(at filed) bool {
		if b := at.block; b.prefix != "" {
			counts[b.prefix] += b.count
		}
		return true
	})
	return counts
}

// shares deals all blocks out to some.
func (t *revocations) shares(n int) [][]filed {
	blocks := t.work().blocks.Items()
	return slices.Collect(slices.Chunk(blocks, max(1, (len(blocks)+n-1)/n)))
}

// enterAll puts what blocks hold into the set.
func enterAll(set *revocation.Set, blocks []filed) {
	for _, at := range blocks {
		b := at.block
		for i := range b.count {
			set.Add(revocation.Entry{Handle: b.handle(i), Expires: b.expires(i)})
		}
	}
}
