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

// key is a handle, made ready for looking up.
type key struct {
	kind   kind
	hash   uint64
	hi, lo uint64 // of an id
	text   string // of anything else
}

// shard is taken from the top bits of the hash; the place in a table from the ones below.
func (k *key) shard() uint64 { return k.hash >> (64 - shardBits) }

// idLength is that of every id with a four-character prefix.
const idLength = len(identity.PrefixSession) + 26

// keyOf never fails: a handle that only looks like an id is kept as text. Such a handle costs the
// allocation of ParseID's error, and never comes from a token, as nothing mints it.
func keyOf(seed maphash.Seed, h identity.Handle) key {
	text := string(h)
	if len(text) == idLength {
		if kind := kindOf(text); kind != kindText {
			if id, err := identity.ParseID(kind.prefix(), text); err == nil {
				return key{
					kind: kind,
					hash: maphash.Bytes(seed, id[:]),
					hi:   binary.BigEndian.Uint64(id[:8]),
					lo:   binary.BigEndian.Uint64(id[8:]),
				}
			}
		}
	}
	return key{kind: kindText, hash: maphash.String(seed, text), text: text}
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

// idBytes undoes the split of an id into two words.
func idBytes(hi, lo uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id
}
