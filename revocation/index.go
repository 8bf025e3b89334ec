package revocation

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// line is what a question looks at: sixteen bits of the hash of each of 32 entries, four a word; 0 where a place is empty.
// It is one line of a processor's cache. Places are taken from the first on, so that a line is full where its last place is
// taken, and what would have been next lies in the line after it.
type line [lineWords]atomic.Uint64

const (
	lineBytes  = 64
	lineWords  = 8
	wordPlaces = 4
	linePlaces = lineWords * wordPlaces
	tagBits    = 64 / wordPlaces
	fullLine   = 22 // an index is built anew where it would come to more a line: one line in thirty is then full,
	builtLine  = 20 // and for this many or fewer
)

// Four tags at once: below has all bits of each but the highest, highs the highest.
const (
	below = 0x7fff7fff7fff7fff
	highs = 0x8000800080008000
)

// tagOf has its highest bit set, which tells it from an empty place.
func tagOf(hash uint64) uint64 { return hash&(1<<tagBits-1) | 1<<(tagBits-1) }

// fourfold is a tag in each place of a word.
func fourfold(tag uint64) uint64 { return tag * (highs >> (tagBits - 1)) }

// unlike has the highest bit of each tag of a word that is not tag, which is there four times. To add below carries into
// that bit where any other of a tag differs, and out of it only from an empty place, which none but empty ones follow.
func unlike(word, tags uint64) uint64 {
	differ := word ^ tags
	return (differ + below | differ) & highs
}

// free has the highest bit of each empty place of a word.
func free(word uint64) uint64 { return ^word & highs }

// may is not zero where the line has the tag, or is full. Nearly always it is zero, so that the processor goes on with what
// comes after before the line has come from memory: there is no branch in here that it could guess wrongly.
func (l *line) may(tag uint64) uint64 {
	tags := fourfold(tag)
	last := l[7].Load()
	d0, d1, d2, d3 := l[0].Load()^tags, l[1].Load()^tags, l[2].Load()^tags, l[3].Load()^tags
	all := (d0 + below | d0) & (d1 + below | d1) & (d2 + below | d2) & (d3 + below | d3)
	d4, d5, d6, d7 := l[4].Load()^tags, l[5].Load()^tags, l[6].Load()^tags, last^tags
	all &= (d4 + below | d4) & (d5 + below | d5) & (d6 + below | d6) & (d7 + below | d7)
	return ^all&highs | last>>63
}

// match is may for who has to know which of the two.
func (l *line) match(tag uint64) (found, full bool) {
	for i := range l {
		found = found || unlike(l[i].Load(), fourfold(tag)) != highs
	}
	return found, free(l[lineWords-1].Load()) == 0
}

// lineOf maps the bits of the hash that did not choose the shard evenly to one of some lines.
func lineOf(hash, lines uint64) uint64 {
	n, _ := bits.Mul64(hash<<shardBits, lines)
	return n
}

// head is where readers find the lines of a shard. It is one word, so that to know where they are and how many takes one
// load: the address of the first, which is a multiple of 64, and below that one of the numbers of lines that there are.
//
// A pointer that points a little into what it belongs to keeps all of it from the garbage collector. Nobody but this file
// reads or writes one, lines are never given back by hand, and head is never copied.
type head struct{ word unsafe.Pointer }

// linesOf is the number of lines of a size: 2, 2, 3, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16 and so on.
func linesOf(size uint64) uint64 { return (4 | size&3) << (size >> 2) >> 1 }

// sizes there are. A shard of the largest would have 2.7 million entries, and its part 80 GB of them.
const sizes = lineBytes

// sizeFor is the least size whose lines have room for some entries.
func sizeFor(entries int) (size uint64) {
	for linesOf(size)*builtLine < uint64(entries) {
		if size++; size == sizes {
			panic("BUG: a shard of more entries than any memory holds")
		}
	}
	return size
}

// newLines allocates the lines of a size.
func newLines(size uint64) []line {
	n := linesOf(size)
	lines := make([]line, n)
	if misplaced(lines) {
		lines = make([]line, n+1)
		skip := lineBytes - uintptr(unsafe.Pointer(&lines[0]))%lineBytes
		lines = unsafe.Slice((*line)(unsafe.Add(unsafe.Pointer(&lines[0]), skip)), n)
	}
	return lines
}

func misplaced(lines []line) bool { return uintptr(unsafe.Pointer(&lines[0]))%lineBytes != 0 }

// store has readers look at the lines of a size; at none where there are none.
func (h *head) store(lines []line, size uint64) {
	var word unsafe.Pointer
	if len(lines) > 0 {
		word = unsafe.Add(unsafe.Pointer(&lines[0]), size)
	}
	atomic.StorePointer(&h.word, word)
}

// line is the one where a hash belongs; nil where there is none.
func (h *head) line(hash uint64) *line {
	word := atomic.LoadPointer(&h.word)
	if word == nil {
		return nil
	}
	size := uint64(uintptr(word)) % lineBytes
	return (*line)(unsafe.Add(word, lineOf(hash, linesOf(size))*lineBytes-size))
}

// has finds out what the line of a hash has left open: whether there is its tag, there or in what comes after a full line.
func (h *head) has(hash uint64) bool {
	word := atomic.LoadPointer(&h.word)
	if word == nil {
		return false
	}
	size := uint64(uintptr(word)) % lineBytes
	lines := unsafe.Slice((*line)(unsafe.Add(word, -int(size))), linesOf(size))
	for n := lineOf(hash, linesOf(size)); ; n++ {
		if n == uint64(len(lines)) {
			n = 0
		}
		if found, full := lines[n].match(tagOf(hash)); found || !full {
			return found
		}
	}
}
