package audit

import (
	"crypto/sha256"
	"math/bits"
)

// The Merkle tree of RFC 6962 section 2.1 over the records between two checkpoints. A leaf's data is the record's
// hash, of 32 bytes. Leaves and inner nodes are hashed under different first bytes, so neither passes for the other.
const (
	leafPrefix = 0x00
	nodePrefix = 0x01
)

// maxTreeDepth bounds a tree and a proof; maxCheckpointRecords leaves fit.
const maxTreeDepth = 17

func leafHash(record *Hash) Hash {
	var data [1 + len(record)]byte
	data[0] = leafPrefix
	copy(data[1:], record[:])
	return sha256.Sum256(data[:])
}

func nodeHash(left, right *Hash) Hash {
	var data [1 + 2*len(left)]byte
	data[0] = nodePrefix
	copy(data[1:], left[:])
	copy(data[1+len(left):], right[:])
	return sha256.Sum256(data[:])
}

// tree grows leaf by leaf and keeps only the roots of its complete subtrees, one for each bit of its size, the
// largest first. It is a value: a copy is a tree of its own.
type tree struct {
	size  uint32
	depth int
	roots [maxTreeDepth]Hash
}

func (t *tree) add(record *Hash) {
	h := leafHash(record)
	// As in adding one to a binary number: each trailing one-bit is a subtree of the same size to join with.
	for n := t.size; n&1 == 1; n >>= 1 {
		t.depth--
		h = nodeHash(&t.roots[t.depth], &h)
	}
	t.roots[t.depth] = h
	t.depth++
	t.size++
}

// root of a tree that is not empty.
func (t *tree) root() Hash {
	h := t.roots[t.depth-1]
	for i := t.depth - 2; i >= 0; i-- {
		h = nodeHash(&t.roots[i], &h)
	}
	return h
}

// inclusionPath returns the hashes that lead from leaf index to the root, from the bottom up (RFC 6962 section
// 2.1.1). There is at least one leaf.
func inclusionPath(index int, leaves []Hash) []Hash {
	if len(leaves) == 1 {
		return nil
	}
	split := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // the largest power of two below the size
	if index < split {
		right := rootOf(leaves[split:])
		return append(inclusionPath(index, leaves[:split]), right)
	}
	left := rootOf(leaves[:split])
	return append(inclusionPath(index-split, leaves[split:]), left)
}

// rootOf hashes the records' hashes into one.
func rootOf(records []Hash) Hash {
	var t tree
	for i := range records {
		t.add(&records[i])
	}
	return t.root()
}

// rootFromPath computes what the root must be if the record is leaf index of size (RFC 9162 section 2.1.3.2). It
// returns false where the path's length doesn't fit.
func rootFromPath(record *Hash, index, size uint64, path []Hash) (Hash, bool) {
	if index >= size || len(path) > maxTreeDepth {
		return Hash{}, false
	}
	node, last := index, size-1
	h := leafHash(record)
	for i := range path {
		if last == 0 {
			return Hash{}, false
		}
		if node&1 == 1 || node == last {
			h = nodeHash(&path[i], &h)
			for node&1 == 0 && node != 0 {
				node, last = node>>1, last>>1
			}
		} else {
			h = nodeHash(&h, &path[i])
		}
		node, last = node>>1, last>>1
	}
	return h, last == 0
}
