package revocation

import "github.com/deputy-id/deputy/identity"

// mark packs all that an entry is, beside its handle, into one word that is read and written atomically:
//
//	bit 63      final, that is not provisional
//	bits 62–15  expiry, milliseconds since the epoch
//	bits 14–3   zero
//	bits 2–0    kind of the handle
//
// For one handle the kind is always the same, so the larger of two marks is the final one, or else the one
// that expires later. That makes joining two entries an integer maximum, and union commutative, associative
// and idempotent by construction.
type mark uint64

const (
	empty mark = 0        // the slot was never taken
	dead  mark = kindMask // the slot's entry was purged; no kind is that large

	finalBit     mark = 1 << 63
	expiryShift       = 15
	expiryBits        = 48
	latestExpiry      = identity.Instant(1<<expiryBits - 1)
	kindMask     mark = 1<<3 - 1
)

func newMark(k kind, e Entry) mark {
	m := mark(min(max(e.Expires, 0), latestExpiry))<<expiryShift | mark(k)
	if !e.Provisional {
		m |= finalBit
	}
	return m
}

// taken reports whether the slot holds an entry.
func (m mark) taken() bool { return m != empty && m != dead }

func (m mark) final() bool { return m&finalBit != 0 }

func (m mark) kind() kind { return kind(m & kindMask) }

func (m mark) expires() identity.Instant {
	return identity.Instant(m&^finalBit) >> expiryShift
}
