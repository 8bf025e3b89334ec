package revocation

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"

	"github.com/deputy-id/deputy/identity"
)

// Shards bound how much is built anew when an index grows or a shard is purged: at ten million handles one shard
// holds 10,000 in some 300 KB.
const (
	shardBits  = 10
	shardCount = 1 << shardBits
)

// shard is what writers know of the part of the set whose hashes share their top bits. Readers know its table only.
type shard struct {
	mu sync.Mutex

	written     int // entries, the dead among them
	placed      int // places of the index that are not empty
	dead        int
	provisional int
	textUsed    int              // bytes written into the last segment of text
	textDead    int              // bytes of text that belong to the dead, of all segments
	oldest      identity.Instant // nothing expires before it

	_ [64]byte // two cache lines, so that writers do not slow each other
}

func (p *part) add(k *key, m mark, s *Set) (added bool) {
	sh, at := &p.shards[k.shard()], &p.tables[k.shard()]
	sh.mu.Lock()
	defer sh.mu.Unlock()

	t := at.Load()
	if t != nil {
		if c := t.find(k); c != nil {
			sh.raise(c, m)
			return false
		}
	}
	// Counted before it can be seen, so that the empty-set test never hides an entry.
	s.live.Add(1)
	if t == nil {
		t = sh.begin(0)
	}
	if next := sh.makeRoom(t, k, s.seed); next != t {
		t = next
		p.publish(k.shard(), t)
	}
	sh.insert(t, k, m)
	return true
}

// expect has every shard's index take some more entries.
func (p *part) expect(each int, seed maphash.Seed) {
	for i := range p.shards {
		sh := &p.shards[i]
		sh.mu.Lock()
		t := p.tables[i].Load()
		switch {
		case t == nil:
			p.publish(uint64(i), sh.begin(each))
		case sh.placed+each > len(t.lines)*fullLine:
			p.publish(uint64(i), sh.withIndex(t, each, seed))
		}
		sh.mu.Unlock()
	}
}

// publish has readers see a table, or none. Those who come by the head meanwhile may look at the lines of the one and then
// at the table of the other: of what was added before they came, each has all.
func (p *part) publish(shard uint64, t *table) {
	p.tables[shard].Store(t)
	if t == nil {
		p.heads[shard].store(nil, 0)
		return
	}
	p.heads[shard].store(t.lines, t.size)
}

// begin returns an empty table for some entries, and forgets what was counted of another.
func (sh *shard) begin(entries int) *table {
	sh.written, sh.placed, sh.dead, sh.provisional = 0, 0, 0, 0
	sh.textUsed, sh.textDead, sh.oldest = 0, 0, math.MaxInt64
	t := new(table)
	t.withIndex(entries)
	return t
}

// makeRoom returns a table that takes one more entry. All but the index grows by a piece, and without copying what is
// there; the index is a fifth of the whole.
func (sh *shard) makeRoom(t *table, k *key, seed maphash.Seed) *table {
	text := k.kind == kindText && (len(t.texts) == 0 || sh.textUsed+len(k.text) > len(t.texts[len(t.texts)-1]))
	if sh.placed < len(t.lines)*fullLine && sh.written < capacity(t.chunks) && !text {
		return t
	}
	next := new(table)
	*next = *t
	if sh.placed == len(t.lines)*fullLine {
		next = sh.withIndex(t, 1, seed)
	}
	if sh.written == capacity(t.chunks) {
		next.chunks = withChunk(t.chunks)
	}
	if text {
		next.texts = withText(t.texts, len(k.text))
		sh.textUsed = 0
	}
	return next
}

// capacity is how many entries fit into the chunks, of which only the last may be smaller than the others.
func capacity(chunks [][]slot) int {
	if len(chunks) == 0 {
		return 0
	}
	return (len(chunks)-1)*chunkSlots + len(chunks[len(chunks)-1])
}

// withChunk returns the chunks with room behind them. A first chunk that is small is copied into one twice as large;
// its readers go on with the old one.
func withChunk(chunks [][]slot) [][]slot {
	if len(chunks) != 1 || len(chunks[0]) == chunkSlots {
		size := chunkSlots
		if len(chunks) == 0 {
			size = minChunk
		}
		return append(slices.Clone(chunks), make([]slot, size))
	}
	larger := make([]slot, 2*len(chunks[0]))
	for i := range chunks[0] {
		old, c := &chunks[0][i], &larger[i]
		c.a, c.b = old.a, old.b
		c.mark.Store(old.mark.Load())
	}
	return [][]slot{larger}
}

func withText(texts [][]byte, length int) [][]byte {
	size := minText
	if n := len(texts); n > 0 {
		size = min(2*len(texts[n-1]), maxText)
	}
	return append(slices.Clone(texts), make([]byte, max(size, length)))
}

// withIndex returns the table with an index that takes some more entries. The dead are left out of it.
func (sh *shard) withIndex(t *table, more int, seed maphash.Seed) *table {
	next := *t
	next.withIndex(sh.written - sh.dead + more)
	sh.placed = 0
	for number := range sh.written {
		c := next.at(number)
		if m := c.load(); m.taken() {
			next.point(c.hash(m, seed), number)
			sh.placed++
		}
	}
	return &next
}

// insert puts a key that is not in the table into it; there must be room.
func (sh *shard) insert(t *table, k *key, m mark) {
	a, b := k.hi, k.lo
	if k.kind == kindText {
		a, b = k.hash, sh.write(t, k.text)
	}
	sh.place(t, k.hash, a, b, m)
}

// write puts text into the last segment, and returns where it lies.
func (sh *shard) write(t *table, text string) uint64 {
	segment := len(t.texts) - 1
	at := uint64(segment)<<(textLengthBits+textOffsetBits) | uint64(sh.textUsed)<<textLengthBits | uint64(len(text))
	sh.textUsed += copy(t.texts[segment][sh.textUsed:], text)
	return at
}

// place publishes a new entry: the key first, then the mark, and the tag of its place in the index last.
func (sh *shard) place(t *table, hash, a, b uint64, m mark) {
	c := t.at(sh.written)
	c.a, c.b = a, b
	c.mark.Store(uint64(m))
	t.point(hash, sh.written)
	sh.written++
	sh.placed++
	sh.account(m)
}

func (sh *shard) account(m mark) {
	if !m.final() {
		sh.provisional++
	}
	sh.oldest = min(sh.oldest, m.expires())
}

// raise joins a mark into the entry that has the key.
func (sh *shard) raise(c *slot, m mark) {
	old := c.load()
	if m <= old {
		return
	}
	c.mark.Store(uint64(m))
	if !old.final() {
		sh.provisional--
	}
	sh.account(m) // a final entry may well expire before the provisional one that it replaces
}

// remove takes an entry out of the table.
func (sh *shard) remove(c *slot, m mark) {
	c.mark.Store(uint64(dead))
	sh.dead++
	if m.kind() == kindText {
		sh.textDead += c.textLength()
	}
	if !m.final() {
		sh.provisional--
	}
}

// rebuild makes a table of the entries that are not dead, as small as it can be.
func (sh *shard) rebuilt(t *table, seed maphash.Seed) *table {
	oldest := sh.oldest
	written, live := sh.written, sh.written-sh.dead
	next := sh.begin(live)
	for capacity(next.chunks) < live {
		if live > chunkSlots/2 {
			next.chunks = append(next.chunks, make([]slot, chunkSlots))
		} else {
			next.chunks = withChunk(next.chunks)
		}
	}
	for number := range written {
		c := t.at(number)
		m := c.load()
		if !m.taken() {
			continue
		}
		hash, b := c.hash(m, seed), c.b
		if m.kind() == kindText {
			text := t.textAt(c)
			if n := len(next.texts); n == 0 || sh.textUsed+len(text) > len(next.texts[n-1]) {
				next.texts = withText(next.texts, len(text))
				sh.textUsed = 0
			}
			b = sh.write(next, string(text))
		}
		sh.place(next, hash, c.a, b, m)
	}
	sh.oldest = oldest
	return next
}
