package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func leaves(n int) []Hash {
	all := make([]Hash, n)
	for i := range all {
		all[i] = sha256.Sum256([]byte{byte(i), byte(i >> 8)})
	}
	return all
}

// naiveRoot is RFC 6962 section 2.1, word for word.
func naiveRoot(records []Hash) Hash {
	if len(records) == 1 {
		return sha256.Sum256(append([]byte{0}, records[0][:]...))
	}
	k := 1
	for k*2 < len(records) {
		k *= 2
	}
	left, right := naiveRoot(records[:k]), naiveRoot(records[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

func TestTreeIsThatOfTheRFC(t *testing.T) {
	for n := 1; n < 130; n++ {
		require.Equal(t, naiveRoot(leaves(n)), rootOf(leaves(n)), n)
	}
	require.Equal(t, naiveRoot(leaves(maxCheckpointRecords)), rootOf(leaves(maxCheckpointRecords)), "the largest fits")
	// The empty leaf's hash, from the test vectors of the RFC's reference implementation.
	empty := sha256.Sum256([]byte{leafPrefix})
	require.Equal(t, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", hex.EncodeToString(empty[:]))
}

func TestPathProvesItsLeafAndNoOther(t *testing.T) {
	for n := 1; n < 70; n++ {
		all := leaves(n)
		root := rootOf(all)
		for i := range all {
			path := inclusionPath(i, all)
			got, ok := rootFromPath(&all[i], uint64(i), uint64(n), path)
			require.True(t, ok)
			require.Equal(t, root, got, "%d of %d", i, n)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "size")
		all := leaves(n)
		root := rootOf(all)
		i := rapid.IntRange(0, n-1).Draw(t, "leaf")
		record, index, size, path := all[i], uint64(i), uint64(n), inclusionPath(i, all)
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0:
			record[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case 1:
			index = uint64(rapid.IntRange(0, n).Draw(t, "index"))
			if index == uint64(i) {
				return
			}
		case 2:
			if len(path) == 0 {
				return
			}
			path[rapid.IntRange(0, len(path)-1).Draw(t, "step")][3] ^= 4
		case 3:
			path = append(path, Hash{})
		case 4:
			if len(path) == 0 {
				return
			}
			path = path[:len(path)-1]
		case 5: // an inner node passed off as a record
			if n < 2 {
				return
			}
			record = nodeHash(&all[0], &all[1])
		}
		got, ok := rootFromPath(&record, index, size, path)
		require.False(t, ok && got == root)
	})
}
