package fsm

// nameIndex finds a row by its name in a few steps whatever the number of rows, for the mint path. The tree of the
// same rows has them in order; but a search in a tree of a million compares twenty names, each somewhere else
// in memory, and those misses cost as much as a quarter of a signature.
//
// It is a trie of fixed depth over a hash of the name, copied on write: a node belongs to the epoch that made
// it, and a node of an earlier epoch, which some View may show, is copied before it is changed.
type nameIndex[V any] struct {
	root  *indexRoot[V]
	epoch uint64
	name  func(V) string
}

// Each of the three levels takes six bits of the hash. 2¹⁸ buckets hold one row each at a quarter of a
// million, and some forty at ten million, which a search walks through in one piece of memory.
const (
	indexBits = 6
	indexFan  = 1 << indexBits
	indexMask = indexFan - 1
)

type indexRoot[V any] struct {
	epoch uint64
	mids  [indexFan]*indexMid[V]
}

type indexMid[V any] struct {
	epoch uint64
	pages [indexFan]*indexPage[V]
}

type indexPage[V any] struct {
	epoch   uint64
	buckets [indexFan][]indexed[V] // replaced, never modified
}

type indexed[V any] struct {
	hash uint64
	row  V
}

func newNameIndex[V any](name func(V) string) *nameIndex[V] {
	return &nameIndex[V]{root: new(indexRoot[V]), name: name}
}

// hashName is FNV-1a: the same on every replica, and good enough where a clash only costs a comparison.
func hashName(hash uint64, name string) uint64 {
	for i := 0; i < len(name); i++ {
		hash = (hash ^ uint64(name[i])) * 1099511628211
	}
	return hash
}

const hashSeed = 14695981039346656037

// slotsOf spreads the hash, of which FNV mixes the low bits best.
func slotsOf(hash uint64) (mid, page, bucket int) {
	hash ^= hash >> 32
	return int(hash & indexMask), int(hash >> indexBits & indexMask), int(hash >> (2 * indexBits) & indexMask)
}

// face is an index as of one moment, for any number of readers.
type face[V any] struct {
	root *indexRoot[V]
	name func(V) string
}

// find looks a name up; it allocates nothing.
func (f face[V]) find(name string) (row V, ok bool) {
	hash := hashName(hashSeed, name)
	m, p, b := slotsOf(hash)
	mid := f.root.mids[m]
	if mid == nil {
		return row, false
	}
	page := mid.pages[p]
	if page == nil {
		return row, false
	}
	for i := range page.buckets[b] {
		if slot := &page.buckets[b][i]; slot.hash == hash && f.name(slot.row) == name {
			return slot.row, true
		}
	}
	return row, false
}

func (x *nameIndex[V]) face() face[V] { return face[V]{x.root, x.name} }

// freeze returns the face as of now; what is written from now on is copied first.
func (x *nameIndex[V]) freeze() face[V] {
	x.epoch++
	return x.face()
}

// set puts a row in the place of the one that has its name, if any.
func (x *nameIndex[V]) set(row V) {
	name := x.name(row)
	hash := hashName(hashSeed, name)
	bucket := x.bucket(hash)
	next := make([]indexed[V], 0, len(*bucket)+1)
	for _, slot := range *bucket {
		if slot.hash != hash || x.name(slot.row) != name {
			next = append(next, slot)
		}
	}
	*bucket = append(next, indexed[V]{hash, row})
}

func (x *nameIndex[V]) delete(name string) {
	if _, ok := x.face().find(name); !ok {
		return
	}
	hash := hashName(hashSeed, name)
	bucket := x.bucket(hash)
	var next []indexed[V]
	for _, slot := range *bucket {
		if slot.hash != hash || x.name(slot.row) != name {
			next = append(next, slot)
		}
	}
	*bucket = next
}

// bucket returns the place of a hash, on a path that this epoch may write.
func (x *nameIndex[V]) bucket(hash uint64) *[]indexed[V] {
	m, p, b := slotsOf(hash)
	if x.root.epoch != x.epoch {
		root := *x.root
		root.epoch = x.epoch
		x.root = &root
	}
	mid := x.root.mids[m]
	switch {
	case mid == nil:
		mid = &indexMid[V]{epoch: x.epoch}
		x.root.mids[m] = mid
	case mid.epoch != x.epoch:
		copied := *mid
		copied.epoch = x.epoch
		mid = &copied
		x.root.mids[m] = mid
	}
	page := mid.pages[p]
	switch {
	case page == nil:
		page = &indexPage[V]{epoch: x.epoch}
		mid.pages[p] = page
	case page.epoch != x.epoch:
		copied := *page
		copied.epoch = x.epoch
		page = &copied
		mid.pages[p] = page
	}
	return &page.buckets[b]
}

// rows is a table of the mint path: in order of the names, and findable at once.
type rows[V any] struct {
	*tree[named[V]]
	byName *nameIndex[V]
}

func newRows[V any](name func(V) string) *rows[V] {
	return &rows[V]{newNamed[V](), newNameIndex(name)}
}

func (r *rows[V]) find(name string) (V, bool) { return r.byName.face().find(name) }

func (r *rows[V]) set(row V) {
	r.tree.set(named[V]{r.byName.name(row), row})
	r.byName.set(row)
}

// load is set for rows that mostly come in order.
func (r *rows[V]) load(row V) {
	r.tree.load(named[V]{r.byName.name(row), row})
	r.byName.set(row)
}

func (r *rows[V]) delete(name string) {
	r.tree.delete(named[V]{key: name})
	r.byName.delete(name)
}

// freezeNames returns the frozen face of the index. Taken along with the tree's, for the same View.
func (r *rows[V]) freezeNames() face[V] { return r.byName.freeze() }
