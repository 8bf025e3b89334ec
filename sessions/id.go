package sessions

import (
	"cmp"
	"encoding/binary"

	"github.com/deputy-id/deputy/identity"
)

// id is the 128 bits of a generated id. They sort like its text, by the time of its making. The zero id stands for none.
type id struct{ hi, lo uint64 }

func parseID(prefix, text string) (id, bool) {
	b, err := identity.ParseID(prefix, text)
	if err != nil {
		return id{}, false
	}
	return id{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, true
}

func (i id) text(prefix string) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], i.hi)
	binary.BigEndian.PutUint64(b[8:], i.lo)
	return identity.FormatID(prefix, b)
}

func (i id) none() bool { return i == id{} }

// made is when the id says that it was made: the first 48 bits of a UUIDv7 are milliseconds.
func (i id) made() identity.Instant { return identity.Instant(i.hi >> 16) }

func compareIDs(a, b id) int {
	if c := cmp.Compare(a.hi, b.hi); c != 0 {
		return c
	}
	return cmp.Compare(a.lo, b.lo)
}
