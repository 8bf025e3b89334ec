package fsm

import (
	"github.com/tidwall/btree"
)

// tree is an ordered table with two faces: the one that Apply writes, and the frozen one that the last View
// shows. Copying is O(1); after it, a write copies the nodes on its path, once per published View.
//
// The frozen face is safe for any number of readers while the other is written: nodes carry the id of the
// tree that may write them, a copy gives both sides a new id, and without locks a read writes nothing.
type tree[T any] struct {
	work   *btree.BTreeG[T]
	frozen *btree.BTreeG[T]
	hint   btree.PathHint // of getNear and setNear
	dirty  bool
}

func newTree[T any](less func(a, b T) bool) *tree[T] {
	t := &tree[T]{work: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}), dirty: true}
	t.freeze()
	return t
}

func (t *tree[T]) get(key T) (T, bool) { return t.work.Get(key) }

func (t *tree[T]) set(item T) {
	t.work.Set(item)
	t.dirty = true
}

// getNear is get for items that mostly are near the one before.
func (t *tree[T]) getNear(key T) (T, bool) { return t.work.GetHint(key, &t.hint) }

// setNear is set for such items.
func (t *tree[T]) setNear(item T) {
	t.work.SetHint(item, &t.hint)
	t.dirty = true
}

// load is set for items that mostly come in order.
func (t *tree[T]) load(item T) {
	t.work.Load(item)
	t.dirty = true
}

func (t *tree[T]) delete(key T) {
	t.work.Delete(key)
	t.dirty = true
}

func (t *tree[T]) len() int { return t.work.Len() }

// freeze returns the frozen face as of now.
func (t *tree[T]) freeze() *btree.BTreeG[T] {
	if t.dirty {
		t.frozen, t.dirty = t.work.Copy(), false
	}
	return t.frozen
}

// named is an item of a table that is kept by one text. The key shares its bytes with the value.
type named[V any] struct {
	key   string
	value V
}

func newNamed[V any]() *tree[named[V]] {
	return newTree(func(a, b named[V]) bool { return a.key < b.key })
}

// find looks a name up in either face; it allocates nothing.
func find[V any](t *btree.BTreeG[named[V]], key string) (V, bool) {
	item, ok := t.Get(named[V]{key: key})
	return item.value, ok
}

// page lists at most limit values after a key, ascending.
func page[V, R any](t *btree.BTreeG[named[V]], after string, limit int, show func(V) *R) []*R {
	var out []*R
	t.Ascend(named[V]{key: after}, func(item named[V]) bool {
		if len(out) >= limit {
			return false
		}
		if item.key != after || after == "" {
			out = append(out, show(item.value))
		}
		return true
	})
	return out
}
