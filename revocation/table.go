package revocation

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/deputy-id/deputy/identity"
)

// table is an open-addressed hash table with linear probing, read without locks while one writer adds to it.
//
// The rules that make it safe:
//   - A slot's key is written once, before its mark is stored; a reader loads the mark first. The atomic
//     store and load order the plain writes of the key, and of the text it points to, before its reading.
//   - A key is never moved, and its slot never used for another. Removing an entry marks its slot as dead;
//     whoever wants dead slots back, or more room, builds another table and swaps the shard's pointer.
//     Readers of the old one finish on the old one.
//   - A table is never full, so that every probe ends at an empty slot.
//
// Neither slots nor text hold a pointer, so the garbage collector does not walk the entries.
type table struct {
	slots []slot
	text  []byte // of handles that are no ids; its length is fixed

	// The rest belongs to the writer, who holds the shard's lock.
	used, dead  int              // slots that are not empty, and those of them that are dead
	textUsed    int              // bytes of text written
	textDead    int              // bytes of text that belong to dead slots
	provisional int              // slots whose mark is provisional
	oldest      identity.Instant // nothing expires before it
}

// slot is one place of a table, 24 bytes.
type slot struct {
	mark atomic.Uint64
	// a and b are the two halves of an id; for text, its hash and where it lies (offset<<16 | length).
	a, b uint64
}

const textLengthBits = 16

// A table is filled to three quarters, where a miss looks at eight slots on average, and built for three
// fifths: it then holds a quarter more before it is built again, and wastes 16 bytes an entry at most.
const (
	minSlots       = 8
	fullNumerator  = 3
	fullDivisor    = 4
	roomNumerator  = 5
	roomDivisor    = 3
	textSlackShare = 8 // a byte of spare text for every eight slots: a full text must not rebuild a large table often
)

func newTable(entries, text int) *table {
	slots := entries*roomNumerator/roomDivisor + minSlots
	return &table{
		slots:  make([]slot, slots),
		text:   make([]byte, text+text/4+slots/textSlackShare),
		oldest: math.MaxInt64,
	}
}

func (c *slot) load() mark { return mark(c.mark.Load()) }

// find returns the slot that holds the key, or nil.
func (t *table) find(k *key) *slot {
	for i := t.start(k.hash); ; {
		c := &t.slots[i]
		m := c.load()
		if m == empty {
			return nil
		}
		if m.kind() == k.kind && t.holds(c, k) {
			return c
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

// start maps the bits of the hash that did not choose the shard evenly to a slot.
func (t *table) start(hash uint64) int {
	i, _ := bits.Mul64(hash<<shardBits, uint64(len(t.slots)))
	return int(i)
}

func (t *table) holds(c *slot, k *key) bool {
	if k.kind == kindText {
		return c.a == k.hash && string(t.textAt(c)) == k.text
	}
	return c.a == k.hi && c.b == k.lo
}

func (t *table) textAt(c *slot) []byte {
	offset := int(c.b >> textLengthBits)
	return t.text[offset : offset+c.textLength()]
}

func (c *slot) textLength() int { return int(c.b & (1<<textLengthBits - 1)) }

// handle spells the handle of a taken slot.
func (t *table) handle(c *slot, m mark) identity.Handle {
	if m.kind() == kindText {
		return identity.Handle(t.textAt(c))
	}
	return identity.Handle(identity.FormatID(m.kind().prefix(), idBytes(c.a, c.b)))
}

// hash of the handle in a taken slot.
func (t *table) hash(c *slot, m mark, seed maphash.Seed) uint64 {
	if m.kind() == kindText {
		return c.a
	}
	id := idBytes(c.a, c.b)
	return maphash.Bytes(seed, id[:])
}

// walk yields the entries whose marks are wanted, and reports whether whoever takes them wants more.
func (t *table) walk(wanted func(mark) bool, yield func(Entry) bool) bool {
	for i := range t.slots {
		c := &t.slots[i]
		m := c.load()
		if !m.taken() || !wanted(m) {
			continue
		}
		if !yield(Entry{Handle: t.handle(c, m), Expires: m.expires(), Provisional: !m.final()}) {
			return false
		}
	}
	return true
}

// hasRoom reports whether one more key fits.
func (t *table) hasRoom(k *key) bool {
	return (t.used+1)*fullDivisor <= len(t.slots)*fullNumerator && t.textUsed+len(k.text) <= len(t.text)
}

// insert puts a key that is not in the table into it; there must be room.
func (t *table) insert(k *key, m mark) {
	a, b := k.hi, k.lo
	if k.kind == kindText {
		a, b = k.hash, uint64(t.textUsed)<<textLengthBits|uint64(len(k.text))
		t.textUsed += copy(t.text[t.textUsed:], k.text)
	}
	t.place(k.hash, a, b, m)
}

// place publishes a new slot: the key first, the mark last.
func (t *table) place(hash, a, b uint64, m mark) {
	i := t.start(hash)
	for t.slots[i].load() != empty {
		if i++; i == len(t.slots) {
			i = 0
		}
	}
	c := &t.slots[i]
	c.a, c.b = a, b
	c.mark.Store(uint64(m))
	t.used++
	t.account(m)
}

func (t *table) account(m mark) {
	if !m.final() {
		t.provisional++
	}
	t.oldest = min(t.oldest, m.expires())
}

// raise joins a mark into a slot that already holds the key.
func (t *table) raise(c *slot, m mark) {
	old := c.load()
	if m <= old {
		return
	}
	c.mark.Store(uint64(m))
	if !old.final() {
		t.provisional--
	}
	t.account(m) // a final entry may well expire before the provisional one that it replaces
}

// remove takes an entry out of the table.
func (t *table) remove(c *slot, m mark) {
	c.mark.Store(uint64(dead))
	t.dead++
	if m.kind() == kindText {
		t.textDead += c.textLength()
	}
	if !m.final() {
		t.provisional--
	}
}

// rebuilt returns a table with the same entries, without the dead, and with room for more, spareText bytes
// of text among it.
func (t *table) rebuilt(seed maphash.Seed, spareText int) *table {
	next := newTable(t.used-t.dead, t.textUsed-t.textDead+spareText)
	for i := range t.slots {
		c := &t.slots[i]
		m := c.load()
		if !m.taken() {
			continue
		}
		b := c.b
		if m.kind() == kindText {
			b = uint64(next.textUsed)<<textLengthBits | uint64(c.textLength())
			next.textUsed += copy(next.text[next.textUsed:], t.textAt(c))
		}
		next.place(t.hash(c, m, seed), c.a, b, m)
	}
	return next
}
