package fsm

import (
	"bytes"
	"hash/maphash"
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// secretIndex finds an API token by the hash of its secret. Every request of a runtime begins with that, and
// go-memdb, which has the same tokens, leaves five pieces of garbage at each search.
type secretIndex struct {
	hashIndex[*identity.APIToken]
	seed maphash.Seed
}

// secrets is a secretIndex as of one moment, for any number of readers.
type secrets struct {
	root *indexNode[*identity.APIToken]
	seed maphash.Seed
}

func (x *secretIndex) set(t *identity.APIToken) {
	key := maphash.Bytes(x.seed, t.Hash)
	x.put(key, append(x.without(key, t.Hash), indexed[*identity.APIToken]{key, t}))
}

func (x *secretIndex) delete(t *identity.APIToken) {
	key := maphash.Bytes(x.seed, t.Hash)
	x.put(key, x.without(key, t.Hash))
}

// without copies the list of a key but for the token of that secret.
func (x *secretIndex) without(key uint64, secret []byte) []indexed[*identity.APIToken] {
	return slices.DeleteFunc(slices.Clone(x.root.list(key)), func(item indexed[*identity.APIToken]) bool {
		return item.hash == key && bytes.Equal(item.row.Hash, secret)
	})
}

func (x *secretIndex) freeze() secrets { return secrets{x.hashIndex.freeze(), x.seed} }

// find allocates nothing.
func (s secrets) find(secret []byte) (*identity.APIToken, bool) {
	key := maphash.Bytes(s.seed, secret)
	for _, item := range s.root.list(key) {
		if item.hash == key && bytes.Equal(item.row.Hash, secret) {
			return item.row, true
		}
	}
	return nil, false
}
