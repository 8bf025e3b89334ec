package fsm

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type namedRow struct {
	name    string
	version int
}

func newTestIndex() *nameIndex[*namedRow] {
	return newNameIndex(maphash.MakeSeed(), func(r *namedRow) string { return r.name })
}

func TestFrozenFaceOfAnIndexNeverChanges(t *testing.T) {
	type frozen struct {
		face face[*namedRow]
		want map[string]int
	}
	rapid.Check(t, func(t *rapid.T) {
		x, book := newTestIndex(), map[string]int{}
		var faces []frozen
		known := []string{"a", "b", "c", "agent-1", "agent-2", "agent-3", ""}
		names := rapid.SampledFrom(known)
		for version := range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := names.Draw(t, "name")
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 4: // lists become nodes
				for i := range rapid.IntRange(0, 20*indexList).Draw(t, "many") {
					many := fmt.Sprintf("many-%d", i)
					x.set(&namedRow{many, version})
					book[many] = version
				}
			case 0:
				x.delete(name)
				delete(book, name)
			case 1:
				faces = append(faces, frozen{x.freeze(), maps.Clone(book)})
			default:
				x.set(&namedRow{name, version})
				book[name] = version
			}
		}
		for _, f := range append(faces, frozen{x.face(), book}) {
			for _, name := range append(known, "many-0", "many-777", "never") {
				row, ok := f.face.find(name)
				version, known := f.want[name]
				require.Equal(t, known, ok, name)
				if ok {
					require.Equal(t, &namedRow{name, version}, row)
				}
			}
			for name, version := range f.want {
				if row, ok := f.face.find(name); !ok || row.version != version {
					t.Fatalf("%s is missing or another one", name)
				}
			}
		}
	})
}

func TestIndexFindsEachOfManyNames(t *testing.T) {
	x := newTestIndex()
	const many = 50_000
	for i := range many {
		x.set(&namedRow{fmt.Sprintf("agent-%06d", i), i})
	}
	f := x.freeze()
	for i := range many {
		row, ok := f.find(fmt.Sprintf("agent-%06d", i))
		require.True(t, ok)
		require.Equal(t, i, row.version)
	}
	_, ok := f.find("agent-050000")
	require.False(t, ok)
}

func TestIndexIsReadBesideItsWriter(t *testing.T) {
	x := newTestIndex()
	x.set(&namedRow{"steady", 1})
	f := x.freeze()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 2000 {
				if row, ok := f.find("steady"); !ok || row.version != 1 {
					t.Error("a frozen face changed")
					return
				}
			}
		})
	}
	for i := range 2000 {
		x.set(&namedRow{"steady", i + 2})
		x.set(&namedRow{fmt.Sprint(i), i})
		if i%7 == 0 {
			x.freeze()
		}
	}
	readers.Wait()
}

func TestClashingHashesAreToldApartByName(t *testing.T) {
	x := newTestIndex()
	one, two := &namedRow{"one", 1}, &namedRow{"two", 2}
	hash := hashName(x.seed, "one")
	x.put(hash, []indexed[*namedRow]{{hash, two}, {hash, one}}) // as if "two" had the same hash

	row, ok := x.face().find("one")
	require.True(t, ok)
	require.Same(t, one, row)
	x.delete("one")
	_, ok = x.face().find("one")
	require.False(t, ok)
	require.Len(t, x.root.list(hash), 1)
}

// However many hashes are the same, the index neither loses one nor splits for ever.
func TestRowsOfOneHashStayInOneList(t *testing.T) {
	x := newHashIndex[int]()
	const hash, many = 0x1234_5678_9abc_def0, 3 * indexList
	for i := range many {
		x.put(hash, append(slices.Clone(x.root.list(hash)), indexed[int]{hash, i}))
	}
	require.Len(t, x.root.list(hash), many)
	require.Empty(t, x.root.list(hash^1<<60), "the last four bits are told apart")
}

func TestFindingAllocatesNothing(t *testing.T) {
	x := newTestIndex()
	x.set(&namedRow{"agent-1", 1})
	f := x.freeze()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, ok := f.find("agent-1"); !ok {
			t.Error("not found")
		}
	}))
}
