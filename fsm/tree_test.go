package fsm

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/btree"
	"pgregory.net/rapid"
)

// TestAFrozenTreeNeverChanges writes to a tree in every way that Apply does, and looks at all that was frozen
// on the way when it is over. Run with -race it also reads while the tree is written.
func TestAFrozenTreeNeverChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree := newTree(func(a, b int) bool { return a < b })
		have := map[int]bool{}
		var frozen []*btree.BTreeG[int]
		var want [][]int
		read := make(chan *btree.BTreeG[int], 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for f := range read {
				f.Scan(func(int) bool { return true })
				f.Get(500)
			}
		}()
		for range rapid.IntRange(1, 20).Draw(rt, "rounds") {
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 1000), 0, 200).Draw(rt, "items") {
				switch n % 5 {
				case 0, 1:
					tree.set(n)
					have[n] = true
				case 2:
					tree.load(n)
					have[n] = true
				case 3:
					tree.delete(n - 1)
					delete(have, n-1)
				default:
					if least, ok := tree.work.PopMin(); ok {
						tree.dirty = true
						delete(have, least)
					}
				}
			}
			f := tree.freeze()
			require.Same(rt, f, tree.freeze(), "without a write there is nothing to copy")
			var all []int
			for n := range have {
				all = append(all, n)
			}
			slices.Sort(all)
			frozen, want = append(frozen, f), append(want, all)
			read <- f
		}
		close(read)
		<-done
		for i, f := range frozen {
			require.ElementsMatch(rt, want[i], f.Items())
			require.True(rt, slices.IsSorted(f.Items()))
			require.Equal(rt, len(want[i]), f.Len())
		}
	})
}
