package fsm

// hashIndex finds rows by a hash in a few steps whatever their number, for the mint path. A search in a tree of a
// million looks at twenty keys, each somewhere else in memory, and those misses cost as much as a quarter of a
// signature.
//
// It is a trie over the hash, copied on write: a node belongs to the epoch that made it, and a node of an earlier
// epoch, which some View may show, is copied before it is changed. All but its last level stays in the processor's
// caches, so that a search costs one miss for the list and one for the row.
type hashIndex[V any] struct {
	root  *indexNode[V]
	epoch uint64
}

const (
	indexBits = 4 // of the hash that one level takes
	indexFan  = 1 << indexBits
	// indexList is how many rows a list may hold before it becomes a node. A search walks through the list in one
	// piece of memory, and a write copies it whole: 15 rows on average at a million, of 16 or 24 bytes each.
	indexList = 48
	hashBits  = 64
)

// indexNode is never given up again while the index lives: those of a million rows take two megabytes.
type indexNode[V any] struct {
	epoch uint64
	kids  [indexFan]indexKid[V]
}

type indexKid[V any] struct {
	list  []indexed[V] // replaced, never modified
	below *indexNode[V]
}

type indexed[V any] struct {
	hash uint64
	row  V
}

func newHashIndex[V any]() hashIndex[V] { return hashIndex[V]{root: new(indexNode[V])} }

// list returns the rows that have the hash, among some others.
func (n *indexNode[V]) list(hash uint64) []indexed[V] {
	for {
		kid := &n.kids[hash%indexFan]
		if kid.below == nil {
			return kid.list
		}
		n = kid.below
		hash >>= indexBits
	}
}

// freeze returns the index as of now; what is written from now on is copied first.
func (x *hashIndex[V]) freeze() *indexNode[V] {
	x.epoch++
	return x.root
}

// put replaces the list of the hash, which the caller has made of the one that list returned.
func (x *hashIndex[V]) put(hash uint64, list []indexed[V]) {
	place, depth := x.place(hash)
	if len(list) <= indexList || depth*indexBits >= hashBits {
		place.list = list
		return
	}
	place.list, place.below = nil, &indexNode[V]{epoch: x.epoch}
	shift := depth * indexBits
	for i, item := range list {
		kid := &place.below.kids[item.hash>>shift%indexFan]
		kid.list = append(kid.list, list[i])
	}
}

// place returns where the list of a hash is, on a path that this epoch may write, and how many levels down.
func (x *hashIndex[V]) place(hash uint64) (place *indexKid[V], depth int) {
	at := &x.root
	for {
		if (*at).epoch != x.epoch {
			copied := **at
			copied.epoch = x.epoch
			*at = &copied
		}
		place = &(*at).kids[hash%indexFan]
		depth++
		if place.below == nil {
			return place, depth
		}
		at = &place.below
		hash >>= indexBits
	}
}

// fill makes the index of all its rows at once, which takes a tenth of putting them in one by one. It reorders them.
func (x *hashIndex[V]) fill(rows []indexed[V]) {
	x.root = &indexNode[V]{epoch: x.epoch}
	x.fillNode(x.root, rows, make([]indexed[V], len(rows)), 0)
}

func (x *hashIndex[V]) fillNode(n *indexNode[V], rows, spare []indexed[V], depth int) {
	shift := depth * indexBits
	var ends [indexFan + 1]int
	for i := range rows {
		ends[rows[i].hash>>shift%indexFan+1]++
	}
	for i := range indexFan {
		ends[i+1] += ends[i]
	}
	next := ends
	for i := range rows {
		kid := rows[i].hash >> shift % indexFan
		spare[next[kid]] = rows[i]
		next[kid]++
	}
	for i := range n.kids {
		from, to := ends[i], ends[i+1]
		switch kid := &n.kids[i]; {
		case from == to:
		case to-from <= indexList || (depth+1)*indexBits >= hashBits:
			kid.list = append(make([]indexed[V], 0, to-from), spare[from:to]...)
		default:
			kid.below = &indexNode[V]{epoch: x.epoch}
			x.fillNode(kid.below, spare[from:to], rows[from:to], depth+1)
		}
	}
}
