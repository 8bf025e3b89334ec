package revocation

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/deputy-id/deputy/identity"
)

// table is what readers see of a shard: entries one after another, and an open-addressed index that says which of them
// may have a hash. It is read without locks while one writer adds to it.
//
// The rules that make it safe:
//   - An entry is written once: its key, then its mark, then its number, then the tag that makes it findable. A reader
//     loads the tag, or the mark, first, and these are atomic, so that the plain writes are ordered before its reading.
//   - An entry never moves within its chunk, and its place is never used for another. Removing it marks it as dead.
//   - Whoever needs more room makes another table and swaps the shard's pointer. The two share what did not have to
//     grow, so a reader of the old one may meet a number that is past what it has: that of an entry which was added
//     after it began to read, and which it may leave out.
//   - An index is never full, so that every probe ends at an empty place.
//   - Readers come to the lines of the index by the head of the shard, which is swapped after the table. What they find there
//     is no more than that an entry may be there: the table, loaded after it, has it or not.
//
// Neither index, chunks nor texts hold a pointer, so the garbage collector does not walk the entries.
type table struct {
	// lines have a tag for each place of the index. Nearly every question ends there: at ten million entries these are
	// 30 MB of the set's 340. Readers come to them by the part's heads rather than by the table.
	lines   []line
	size    uint64   // of lines
	numbers []uint32 // of the entries, place for place
	chunks  [][]slot
	texts   [][]byte // of handles that are no ids
}

// slot is an entry, 24 bytes.
type slot struct {
	mark atomic.Uint64
	// a and b are the two halves of an id; for text, its hash and where it lies (segment<<32 | offset<<16 | length).
	a, b uint64
}

func (c *slot) load() mark { return mark(c.mark.Load()) }

const (
	chunkBits      = 8
	chunkSlots     = 1 << chunkBits // 6 KiB; the first chunk of a shard begins small and doubles
	minChunk       = 8
	minText        = 64
	maxText        = 4096
	textLengthBits = 16
	textOffsetBits = 16
)

// withIndex gives the table an empty index for some entries.
func (t *table) withIndex(entries int) {
	t.size = sizeFor(entries)
	t.lines = newLines(t.size)
	t.numbers = make([]uint32, len(t.lines)*linePlaces)
}

// find returns the entry of the key, or nil. It goes on from a line to the one after it where that is full.
func (t *table) find(k *key) *slot {
	tags := fourfold(tagOf(k.hash))
	for n := t.start(k.hash); ; n = t.after(n) {
		for i := range t.lines[n] {
			word := t.lines[n][i].Load()
			for match := unlike(word, tags) ^ highs; match != 0; match &= match - 1 {
				place := n*linePlaces + i*wordPlaces + bits.TrailingZeros64(match)/tagBits
				if c := t.at(int(t.numbers[place])); c != nil && t.holds(c, k) {
					return c
				}
			}
			if free(word) != 0 {
				return nil
			}
		}
	}
}

func (t *table) start(hash uint64) int { return int(lineOf(hash, uint64(len(t.lines)))) }

func (t *table) after(line int) int {
	if line+1 == len(t.lines) {
		return 0
	}
	return line + 1
}

// at returns an entry by its number, or nil where this table does not have it yet.
func (t *table) at(number int) *slot {
	chunk, place := number>>chunkBits, number&(chunkSlots-1)
	if chunk >= len(t.chunks) || place >= len(t.chunks[chunk]) {
		return nil
	}
	return &t.chunks[chunk][place]
}

// holds reports whether the entry is there and has the key.
func (t *table) holds(c *slot, k *key) bool {
	m := c.load()
	k.read()
	if m.kind() != k.kind {
		return false
	}
	if k.kind == kindText {
		return c.a == k.hash && string(t.textAt(c)) == k.text
	}
	return c.a == k.hi && c.b == k.lo
}

// textAt returns nil where this table does not have the text yet.
func (t *table) textAt(c *slot) []byte {
	segment, offset := c.b>>(textLengthBits+textOffsetBits), c.b>>textLengthBits&(1<<textOffsetBits-1)
	if segment >= uint64(len(t.texts)) {
		return nil
	}
	return t.texts[segment][offset:][:c.textLength()]
}

func (c *slot) textLength() int { return int(c.b & (1<<textLengthBits - 1)) }

// handle spells the handle of a taken entry; it is empty where this table does not have its text yet.
func (t *table) handle(c *slot, m mark) identity.Handle {
	if m.kind() == kindText {
		return identity.Handle(t.textAt(c))
	}
	var spelled [idLength]byte
	return identity.Handle(appendID(spelled[:0], m.kind(), c.a, c.b))
}

// hash of the handle of a taken entry.
func (c *slot) hash(m mark, seed maphash.Seed) uint64 {
	if m.kind() == kindText {
		return c.a
	}
	var spelled [idLength]byte
	return maphash.Bytes(seed, appendID(spelled[:0], m.kind(), c.a, c.b))
}

// walk yields the entries whose marks are wanted, and reports whether whoever takes them wants more.
func (t *table) walk(wanted func(mark) bool, yield func(Entry) bool) bool {
	for _, chunk := range t.chunks {
		for i := range chunk {
			c := &chunk[i]
			m := c.load()
			if m == empty {
				break // and so is the rest
			}
			if !m.taken() || !wanted(m) {
				continue
			}
			h := t.handle(c, m)
			if h == "" {
				continue // added since the walk began
			}
			if !yield(Entry{Handle: h, Expires: m.expires(), Provisional: !m.final()}) {
				return false
			}
		}
	}
	return true
}

// point has the index point to an entry; there must be room.
func (t *table) point(hash uint64, number int) {
	for n := t.start(hash); ; n = t.after(n) {
		for i := range t.lines[n] {
			word := t.lines[n][i].Load()
			if free := free(word); free != 0 {
				place := bits.TrailingZeros64(free) / tagBits
				t.numbers[n*linePlaces+i*wordPlaces+place] = uint32(number)
				t.lines[n][i].Store(word | tagOf(hash)<<(place*tagBits))
				return
			}
		}
	}
}
