package fsm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// block is some revocations in the order of their handles, packed: no field takes more bytes than the block's largest
// value of it, counted from the least. Of ten million handles that were revoked in a day, that is 12 bytes for the rest
// of an id, 4 for the time, 3 for the index, none for the life of an entry, and one for the cause.
//
// All handles of a block are ids of one kind, or none of them is an id. It is never modified once a View may show it.
type block struct {
	epoch   uint64 // of the table, in which the block was made: until that ends, no View has it
	first   identity.Handle
	id      [16]byte // of the first
	prefix  string   // of the ids; "" where the handles are kept as text
	soonest identity.Instant
	count   int

	at     column
	index  column
	life   column // expiry less time: the same for nearly all
	causes []*cause
	common int    // bytes of the first handle, or id, that all begin with
	key    int    // bytes of the rest of an id; of a text's end in rest, for others
	row    int    // bytes of all columns
	rows   []byte // count rows: key, at, index, life, and one byte of the cause where there are several
	rest   []byte // of the texts
}

// column is how a field of a block is kept: in some bytes, as what it has above the least of the block.
type column struct {
	least uint64
	bytes uint8
}

// cause is why something was revoked, and who asked for that.
type cause struct{ reason, by string }

// fact is a revocation that was taken out of a block, or is to be put into one.
type fact struct {
	id      [16]byte
	prefix  string // of the id
	text    string // of a handle that is no id
	at      identity.Instant
	expires identity.Instant
	index   uint64
	cause   *cause
}

const (
	// maxRow is the most that a row of ids may take: an id, three numbers and a cause.
	maxRow = 16 + 3*8 + 1
	// spareRows are what a block that was changed has room for, before all of it is copied again.
	spareRows = 6
)

// textEnd is how many bytes say where a text ends: 128 of the longest handles are 45 KB.
const textEnd = 3

// generatedID reads a handle of a generated id, which has one spelling only; prefix is "" for any other.
func generatedID(h identity.Handle) (id [16]byte, prefix string) {
	for _, prefix := range [...]string{identity.PrefixSession, identity.PrefixDelegation, identity.PrefixCredential, identity.PrefixAPIToken} {
		if strings.HasPrefix(string(h), prefix) {
			if id, err := identity.ParseID(prefix, string(h)); err == nil {
				return id, prefix
			}
			return id, ""
		}
	}
	return id, ""
}

// compare orders facts of one block by their handles. Ids are ordered as they are spelled.
func (f *fact) compare(g *fact) int {
	if c := bytes.Compare(f.id[:], g.id[:]); c != 0 {
		return c
	}
	return cmp.Compare(f.text, g.text)
}

func (f *fact) handle(prefix string) identity.Handle {
	if prefix == "" {
		return identity.Handle(f.text)
	}
	return identity.Handle(identity.FormatID(prefix, f.id))
}

func (f *fact) life() uint64 { return uint64(f.expires) - uint64(f.at) }

// newBlock packs facts, which must be in order, one at least and maxBlock at most.
func newBlock(prefix string, facts []fact) *block {
	b := &block{prefix: prefix, first: facts[0].handle(prefix), id: facts[0].id, soonest: soonestOf(facts), count: len(facts)}
	b.at = columnOf(facts, func(f *fact) uint64 { return uint64(f.at) })
	b.index = columnOf(facts, func(f *fact) uint64 { return f.index })
	b.life = columnOf(facts, (*fact).life)
	last := &facts[len(facts)-1]
	if prefix != "" {
		b.common = sharedBytes(facts[0].id[:], last.id[:])
		b.key = len(last.id) - b.common
	} else {
		b.common = sharedBytes([]byte(facts[0].text), []byte(last.text))
		b.key = textEnd
	}
	chosen := b.gather(facts)
	b.row = b.key + int(b.at.bytes+b.index.bytes+b.life.bytes)
	if len(b.causes) > 1 {
		b.row++
	}
	b.rows = make([]byte, 0, b.row*len(facts))
	for i := range facts {
		f := &facts[i]
		if prefix != "" {
			b.rows = append(b.rows, f.id[b.common:]...)
		} else {
			b.rest = append(b.rest, f.text[b.common:]...)
			b.rows = appendBytes(b.rows, uint64(len(b.rest)), textEnd)
		}
		b.rows = b.at.append(b.rows, uint64(f.at))
		b.rows = b.index.append(b.rows, f.index)
		b.rows = b.life.append(b.rows, f.life())
		if len(b.causes) > 1 {
			b.rows = append(b.rows, chosen[i])
		}
	}
	b.rest = slices.Clip(bytes.Clone(b.rest))
	return b
}

// with returns a block that has one more fact, before the i-th, where that takes no more than to copy what is there: nil
// where the block is full, or would have to be packed in another way.
func (b *block) with(i int, f *fact) *block {
	if !b.takes(f) {
		return nil
	}
	larger := *b
	larger.rows = make([]byte, 0, len(b.rows)+b.roomFor())
	larger.rows = append(larger.rows, b.rows[:i*b.row]...)
	larger.appendRow(f)
	larger.rows = append(larger.rows, b.rows[i*b.row:]...)
	larger.count++
	larger.soonest = min(b.soonest, f.expires)
	if i == 0 {
		larger.first, larger.id = f.handle(b.prefix), f.id
	}
	return &larger
}

// insert is with for a block that no View has: it is changed where it lies. It reports false where a block anew is needed,
// and where the block would begin or end elsewhere, by which others find it.
//
// No View has a block of the table's epoch: it was filed since the last View was made, and one that is filed while that is
// being made, by flush, is of no epoch that is to come.
func (b *block) insert(i int, f *fact) bool {
	if i == 0 || f.expires < b.soonest || !b.takes(f) {
		return false
	}
	if len(b.rows)+b.row > cap(b.rows) {
		b.rows = append(make([]byte, 0, len(b.rows)+b.roomFor()), b.rows...)
	}
	at := len(b.rows)
	b.appendRow(f)
	if from := i * b.row; from < at {
		var row [maxRow]byte
		n := copy(row[:], b.rows[at:])
		copy(b.rows[from+n:], b.rows[from:at])
		copy(b.rows[from:], row[:n])
	}
	b.count++
	return true
}

// roomFor is how many bytes of rows a block that was changed has place for: it is likely to be changed again.
func (b *block) roomFor() int { return b.row * min(spareRows, maxBlock-b.count) }

// takes reports whether a fact may be packed as those of the block are.
func (b *block) takes(f *fact) bool {
	return b.prefix != "" && b.count < maxBlock && bytes.Equal(f.id[:b.common], b.id[:b.common]) &&
		b.at.fits(uint64(f.at)) && b.index.fits(f.index) && b.life.fits(f.life()) && b.causeOf(f) >= 0
}

func (b *block) causeOf(f *fact) int {
	return slices.IndexFunc(b.causes, func(c *cause) bool { return c == f.cause || *c == *f.cause })
}

// appendRow puts a fact that the block takes behind its rows.
func (b *block) appendRow(f *fact) {
	b.rows = append(b.rows, f.id[b.common:]...)
	b.rows = b.at.append(b.rows, uint64(f.at))
	b.rows = b.index.append(b.rows, f.index)
	b.rows = b.life.append(b.rows, f.life())
	if len(b.causes) > 1 {
		b.rows = append(b.rows, byte(b.causeOf(f)))
	}
}

// gather lists the causes of the facts, and says which of them each has.
func (b *block) gather(facts []fact) (chosen [maxBlock]byte) {
	var distinct [maxBlock]*cause
	n := 0
	for i := range facts {
		j := 0
		for j < n && distinct[j] != facts[i].cause && *distinct[j] != *facts[i].cause {
			j++
		}
		if j == n {
			distinct[n] = facts[i].cause
			n++
		}
		chosen[i] = byte(j)
	}
	b.causes = append(make([]*cause, 0, n), distinct[:n]...)
	return chosen
}

func sharedBytes(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// columnOf finds how to keep a field. Values are taken without a sign, and differences wrap around, so that any value
// whatever comes back as it was.
func columnOf(facts []fact, value func(*fact) uint64) column {
	least, most := value(&facts[0]), value(&facts[0])
	for i := range facts[1:] {
		v := value(&facts[i+1])
		least, most = min(least, v), max(most, v)
	}
	return column{least, uint8((bits.Len64(most-least) + 7) / 8)}
}

func (c column) append(rows []byte, value uint64) []byte {
	return appendBytes(rows, value-c.least, int(c.bytes))
}

// fits reports whether the column can have a value.
func (c column) fits(value uint64) bool {
	return value >= c.least && bits.Len64(value-c.least) <= 8*int(c.bytes)
}

func appendBytes(dst []byte, value uint64, n int) []byte {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], value)
	return append(dst, word[:n]...)
}

// read takes the column's value from the front of a row, and returns what is behind.
func (c column) read(row []byte) (value uint64, rest []byte) {
	return c.least + readBytes(row[:c.bytes]), row[c.bytes:]
}

func readBytes(b []byte) (value uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		value = value<<8 | uint64(b[i])
	}
	return value
}

func (b *block) rowOf(i int) []byte { return b.rows[i*b.row:][:b.row] }

// expires of the i-th.
func (b *block) expires(i int) identity.Instant {
	at, rest := b.at.read(b.rowOf(i)[b.key:])
	life, _ := b.life.read(rest[b.index.bytes:])
	return identity.Instant(at + life)
}

// unpack takes the i-th fact out, but for its handle.
func (b *block) unpack(i int, f *fact) {
	at, rest := b.at.read(b.rowOf(i)[b.key:])
	index, rest := b.index.read(rest)
	life, rest := b.life.read(rest)
	f.at, f.expires, f.index, f.cause = identity.Instant(at), identity.Instant(at+life), index, b.causes[0]
	if len(b.causes) > 1 {
		f.cause = b.causes[rest[0]]
	}
}

// idOf is the id of the i-th handle of a block of ids.
func (b *block) idOf(i int) (id [16]byte) {
	copy(id[:b.common], b.id[:])
	copy(id[b.common:], b.rowOf(i)[:b.key])
	return id
}

// textOf is the rest of the i-th handle of a block of others.
func (b *block) textOf(i int) []byte {
	from := 0
	if i > 0 {
		from = int(readBytes(b.rowOf(i - 1)[:textEnd]))
	}
	return b.rest[from:readBytes(b.rowOf(i)[:textEnd])]
}

// facts appends all that the block has.
func (b *block) facts(dst []fact) []fact {
	for i := range b.count {
		f := fact{prefix: b.prefix}
		b.unpack(i, &f)
		if b.prefix != "" {
			f.id = b.idOf(i)
		} else {
			f.text = string(b.first[:b.common]) + string(b.textOf(i))
		}
		dst = append(dst, f)
	}
	return dst
}

// handle spells the i-th.
func (b *block) handle(i int) identity.Handle {
	if b.prefix == "" {
		return b.first[:b.common] + identity.Handle(b.textOf(i))
	}
	return identity.Handle(identity.FormatID(b.prefix, b.idOf(i)))
}

func (b *block) last() identity.Handle { return b.handle(b.count - 1) }

// find returns the place of a handle that is of the block's kind and not before its first: that of the first one that is
// not before it.
func (b *block) find(id *[16]byte, h identity.Handle) (i int, there bool) {
	if b.prefix == "" {
		// What all have in common a handle of no more than that, or of another beginning, is before or behind as a whole.
		if c := cmp.Compare(h[:min(len(h), b.common)], b.first[:b.common]); c != 0 {
			return b.behind(c), false
		}
		return b.search(func(i int) int { return cmp.Compare(string(b.textOf(i)), string(h[b.common:])) })
	}
	if c := bytes.Compare(id[:b.common], b.id[:b.common]); c != 0 {
		return b.behind(c), false
	}
	return b.search(func(i int) int { return bytes.Compare(b.rowOf(i)[:b.key], id[b.common:]) })
}

// behind is the place of what compares so with all of a block.
func (b *block) behind(c int) int {
	if c < 0 {
		return 0
	}
	return b.count
}

func (b *block) search(compare func(i int) int) (int, bool) {
	low, high := 0, b.count
	for low < high {
		middle := (low + high) / 2
		switch c := compare(middle); {
		case c == 0:
			return middle, true
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return low, false
}

func (b *block) revocation(i int) *identity.Revocation {
	r := new(identity.Revocation)
	b.fill(i, r)
	return r
}

func (b *block) fill(i int, r *identity.Revocation) {
	var f fact
	b.unpack(i, &f)
	*r = identity.Revocation{Handle: b.handle(i), Reason: f.cause.reason, By: f.cause.by, At: f.at, Expires: f.expires, Index: f.index}
}
