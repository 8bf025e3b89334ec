package revocation

import (
	"encoding/binary"
	"hash/maphash"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// kind says how a handle is stored. Handles of generated ids have one canonical spelling, so their 128 bits
// stand for them exactly; all others are kept as text.
type kind uint8

const (
	kindText kind = 1 + iota // agents, principals, signing keys, and whatever else may come
	kindSession
	kindDelegation
	kindCredential
	kindAPIToken
)

// prefix of the ids that the kind stands for.
func (k kind) prefix() string {
	switch k {
	case kindSession:
		return identity.PrefixSession
	case kindDelegation:
		return identity.PrefixDelegation
	case kindCredential:
		return identity.PrefixCredential
	case kindAPIToken:
		return identity.PrefixAPIToken
	default:
		return ""
	}
}

// key is a handle, made ready for looking up. Its hash is that of the spelling, so that a miss, which is what nearly
// every question ends with, never has to read an id.
type key struct {
	hash   uint64
	text   string
	kind   kind   // 0: not read yet
	hi, lo uint64 // of an id
}

// shard is taken from the top bits of the hash; the place in a table from the ones below, and the tag from the lowest.
func (k *key) shard() uint64 { return k.hash >> (64 - shardBits) }

// idLength is that of every id with a four-character prefix.
const idLength = len(identity.PrefixSession) + 26

func keyOf(seed maphash.Seed, h identity.Handle) key {
	return key{hash: maphash.String(seed, string(h)), text: string(h)}
}

// read finds out how the handle is stored. It never fails: a handle that only looks like an id is kept as text. Such a
// handle costs the allocation of ParseID's error, and never comes from a token, as nothing mints it.
func (k *key) read() {
	if k.kind != 0 {
		return
	}
	k.kind = kindText
	if len(k.text) != idLength {
		return
	}
	if kind := kindOf(k.text); kind != kindText {
		if id, err := identity.ParseID(kind.prefix(), k.text); err == nil {
			k.kind = kind
			k.hi, k.lo = binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
		}
	}
}

// partCount is how many parts a set has.
const (
	partBits  = 3
	partCount = 1 << partBits
	// partFactor brings the seven beginnings of what tokens list into parts of their own.
	partFactor = 0x192b
)

// partOf says by a handle's first four characters alone in which part it is kept, however it goes on.
func partOf(text string) uint32 {
	if len(text) < len(identity.PrefixSession) {
		return 0
	}
	return (uint32(text[0]) | uint32(text[1])<<8 | uint32(text[2])<<16 | uint32(text[3])<<24) * partFactor >> (32 - partBits)
}

func kindOf(text string) kind {
	switch {
	case strings.HasPrefix(text, identity.PrefixSession):
		return kindSession
	case strings.HasPrefix(text, identity.PrefixDelegation):
		return kindDelegation
	case strings.HasPrefix(text, identity.PrefixCredential):
		return kindCredential
	case strings.HasPrefix(text, identity.PrefixAPIToken):
		return kindAPIToken
	default:
		return kindText
	}
}

// appendID spells the id whose two words are given.
func appendID(dst []byte, kind kind, hi, lo uint64) []byte {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return identity.AppendFormattedID(dst, kind.prefix(), id)
}
