package fsm

import (
	"hash/maphash"
	"math/bits"
)

// nameIndex finds a row by its name. The tree of the same rows has them in order.
type nameIndex[V any] struct {
	hashIndex[V]
	seed maphash.Seed
	name func(V) string
}

func newNameIndex[V any](seed maphash.Seed, name func(V) string) *nameIndex[V] {
	return &nameIndex[V]{newHashIndex[V](), seed, name}
}

// hashName is that of Go's own maps: quick, and nobody can choose names that clash. Its seed differs between the
// replicas, and so may where a row is found, never which.
func hashName(seed maphash.Seed, name string) uint64 { return maphash.String(seed, name) }

// hashPair is the hash of a principal and an agent, of the hashes of their names.
func hashPair(principal, agent uint64) uint64 {
	return bits.RotateLeft64(principal, hashBits/2) ^ agent*3
}

// face is an index as of one moment, for any number of readers.
type face[V any] struct {
	root *indexNode[V]
	seed maphash.Seed
	name func(V) string
}

// find looks a name up; it allocates nothing.
func (f face[V]) find(name string) (row V, ok bool) {
	return f.findHash(hashName(f.seed, name), name)
}

// findHash is find for a name whose hash the caller needs as well.
func (f face[V]) findHash(hash uint64, name string) (row V, ok bool) {
	list := f.root.list(hash)
	for i := range list {
		if list[i].hash == hash && f.name(list[i].row) == name {
			return list[i].row, true
		}
	}
	return row, false
}

func (x *nameIndex[V]) face() face[V] { return face[V]{x.root, x.seed, x.name} }

// freeze returns the face as of now; what is written from now on is copied first.
func (x *nameIndex[V]) freeze() face[V] { return face[V]{x.hashIndex.freeze(), x.seed, x.name} }

// set puts a row in the place of the one that has its name, if any.
func (x *nameIndex[V]) set(row V) {
	name := x.name(row)
	hash := hashName(x.seed, name)
	list := x.without(hash, name, 1)
	x.put(hash, append(list, indexed[V]{hash, row}))
}

func (x *nameIndex[V]) delete(name string) {
	if _, ok := x.face().find(name); ok {
		hash := hashName(x.seed, name)
		x.put(hash, x.without(hash, name, 0))
	}
}

// without copies the list of a hash but for the row of that name, with room for some more.
func (x *nameIndex[V]) without(hash uint64, name string, room int) []indexed[V] {
	list := x.root.list(hash)
	next := make([]indexed[V], 0, len(list)+room)
	for _, item := range list {
		if item.hash != hash || x.name(item.row) != name {
			next = append(next, item)
		}
	}
	return next
}

// rows is a table of the mint path: in order of the names, and findable at once.
type rows[V any] struct {
	*tree[named[V]]
	byName *nameIndex[V]
}

func newRows[V any](seed maphash.Seed, name func(V) string) *rows[V] {
	return &rows[V]{newNamed[V](), newNameIndex(seed, name)}
}

func (r *rows[V]) find(name string) (V, bool) { return r.byName.face().find(name) }

func (r *rows[V]) set(row V) {
	r.tree.set(named[V]{r.byName.name(row), row})
	r.byName.set(row)
}

// index makes the rows findable after they were loaded into the tree.
func (r *rows[V]) index() {
	all := make([]indexed[V], 0, r.len())
	r.work.Scan(func(n named[V]) bool {
		all = append(all, indexed[V]{hashName(r.byName.seed, n.key), n.value})
		return true
	})
	r.byName.fill(all)
}

func (r *rows[V]) delete(name string) {
	r.tree.delete(named[V]{key: name})
	r.byName.delete(name)
}

// freezeNames returns the frozen face of the index. Taken along with the tree's, for the same View.
func (r *rows[V]) freezeNames() face[V] { return r.byName.freeze() }
