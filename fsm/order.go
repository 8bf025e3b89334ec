package fsm

import (
	"cmp"
	"encoding/binary"
)

// placed is a record beside a number by which it is ordered, as paired is beside its hash: a search compares numbers, which
// lie together in the node, and looks at a record only where they are equal. Records of one agent, say, were made at any
// time, and lie all over the memory.
type placed struct {
	key uint64
	*record
}

func byKeyOrder(a, b placed) int {
	if c := cmp.Compare(a.key, b.key); c != 0 {
		return c
	}
	return byIDOrder(a.record, b.record)
}

// order is a tree of records by a key, equals by id.
type order struct {
	*tree[placed]
	key func(*record) uint64
}

func newOrder(key func(*record) uint64) order { return order{newTree(less(byKeyOrder)), key} }

func (o order) place(r *record) placed { return placed{o.key(r), r} }
func (o order) set(r *record)          { o.tree.set(o.place(r)) }
func (o order) delete(r *record)       { o.tree.delete(o.place(r)) }

// nameBits of a key by name are those of the hash, and what is left is the beginning of an id: the second it was made in,
// so that most records of one name differ in their keys. Those of two names with the same bits lie among each other.
const nameBits = 26

// nameKey orders by name, in the order of its hashes, and then by id.
func nameKey(hash uint64, id [16]byte) uint64 {
	const idBits = 64 - nameBits
	return hash>>idBits<<idBits | binary.BigEndian.Uint64(id[:])>>nameBits
}

// mayBeOf reports whether two keys by name may be of one name.
func mayBeOf(a, b uint64) bool { return a>>(64-nameBits) == b>>(64-nameBits) }
