package fsm

import (
	"encoding/binary"
	"slices"

	"github.com/tidwall/btree"

	"github.com/deputy-id/deputy/identity"
)

// revocations is what is known of each revoked handle, by the ten million: why, when, by whom, until when. The set of
// package revocation only knows that they are.
//
// They lie in blocks of up to maxBlock, in the order of their handles, and the trees hold blocks. What a View shows is never
// written again: a change makes another block of it, which may be changed further until the next View. By the expiry of what ends first in each, a purge
// finds the blocks that it has to look into.
type revocations struct {
	blocks   *tree[filed]
	byExpiry *tree[ending] // for purges only, so no View has it
	count    int
	epoch    uint64 // moves on with each View
	near     spot   // of the handle that was looked for last
	scratch  []fact // of the goroutine that applies
	pending  []fact // loaded in order, and not in a block yet
	causes   map[cause]*cause
}

// frozenRevocations are the revocations as of one View.
type frozenRevocations struct {
	blocks *btree.BTreeG[filed]
	count  int
}

// filed is a block beside its first handle, and the beginning of that as numbers: a search for one of ten million compares
// what lies in the tree's own nodes, rather than wait for the memory of seventeen blocks and of their handles.
type filed struct {
	begins [2]uint64
	first  identity.Handle
	block  *block
}

func filedAs(h identity.Handle, b *block) filed { return filed{begins(h), h, b} }

// begins is the first sixteen bytes of a handle. Where those of two differ, they are in the order of the handles.
func begins(h identity.Handle) (words [2]uint64) {
	var head [16]byte
	copy(head[:], h)
	words[0], words[1] = binary.BigEndian.Uint64(head[:8]), binary.BigEndian.Uint64(head[8:])
	return words
}

func lessFiled(a, b filed) bool {
	if a.begins[0] != b.begins[0] {
		return a.begins[0] < b.begins[0]
	}
	if a.begins[1] != b.begins[1] {
		return a.begins[1] < b.begins[1]
	}
	return a.first < b.first
}

// ending is when the first entry of a block ends. It says which block by its handle, so that nothing is to be done here
// where a block gives way to one that begins with the same and ends no sooner: nearly always.
type ending struct {
	soonest identity.Instant
	first   identity.Handle
}

func endingOf(b *block) ending { return ending{b.soonest, b.first} }

func lessEnding(a, b ending) bool {
	if a.soonest != b.soonest {
		return a.soonest < b.soonest
	}
	return a.first < b.first
}

// spot is where a handle is, or belongs: to revoke one is to ask whether it is there, why, and to put it there.
type spot struct {
	handle identity.Handle // "": none
	id     [16]byte
	prefix string // of the id; "" for a handle that is no id
	block  *block // the last that begins no later; nil where there is none
	i      int    // within a block of its kind
	there  bool
}

const (
	// maxBlock is how many revocations a block may hold. It is rewritten whole: some 2 KB.
	maxBlock = 128
	// smallBlock is what a purge does not leave beside a neighbour that could take it in.
	smallBlock = maxBlock / 4
)

func newRevocations() *revocations {
	return &revocations{blocks: newTree(lessFiled), byExpiry: newTree(lessEnding), causes: make(map[cause]*cause)}
}

// cause shares a reason and who asked: what a thousand revocations have in common. The cache is bounded by starting
// over, and is no part of the state.
func (t *revocations) cause(reason, by string) *cause {
	if shared, ok := t.causes[cause{reason, by}]; ok {
		return shared
	}
	if len(t.causes) >= maxTexts {
		clear(t.causes)
	}
	c := &cause{reason, by}
	t.causes[*c] = c
	return c
}

func (t *revocations) fact(r *identity.Revocation) (f fact, prefix string) {
	at := spot{handle: r.Handle}
	at.id, at.prefix = generatedID(r.Handle)
	return t.factAt(r, &at), at.prefix
}

// factAt is fact of a handle that has been read.
func (t *revocations) factAt(r *identity.Revocation, at *spot) fact {
	f := fact{id: at.id, prefix: at.prefix, at: r.At, expires: r.Expires, index: r.Index, cause: t.cause(r.Reason, r.By)}
	if f.prefix == "" {
		f.text = string(r.Handle)
	}
	return f
}

func (t *revocations) len() int { return t.count + len(t.pending) }

func (t *revocations) freeze() frozenRevocations {
	t.flush()
	t.epoch++
	return frozenRevocations{t.blocks.freeze(), t.count}
}

// work is the revocations as they are now.
func (t *revocations) work() frozenRevocations {
	t.flush()
	return frozenRevocations{t.blocks.work, t.count}
}

// locate finds the place of a handle, once for all that is asked about it until something changes.
func (t *revocations) locate(h identity.Handle) *spot {
	t.flush()
	if t.near.handle != h || h == "" {
		t.near = t.work().spot(h)
	}
	return &t.near
}

func (t *revocations) get(h identity.Handle) (*identity.Revocation, bool) {
	return t.locate(h).revocation()
}

func (t *revocations) has(h identity.Handle) bool { return t.locate(h).there }

// set puts a revocation in the place of the one that has its handle, if any.
func (t *revocations) set(r *identity.Revocation) {
	at := t.locate(r.Handle)
	f := t.factAt(r, at)
	if b := at.block; b != nil && b.prefix == at.prefix {
		t.put(b, &f, at.i, at.there)
		return
	}
	b, next := t.work().around(r.Handle)
	switch {
	case b != nil && r.Handle <= b.last():
		t.wedge(b, &f, at.prefix, r.Handle)
	case next != nil && next.prefix == at.prefix:
		t.put(next, &f, 0, false)
	default:
		t.add(newBlock(at.prefix, []fact{f}))
		t.count++
	}
}

// spot is where a handle is, or belongs.
func (t frozenRevocations) spot(h identity.Handle) spot {
	s := spot{handle: h}
	s.id, s.prefix = generatedID(h)
	if t.blocks.Len() == 0 {
		return s
	}
	var b *block
	t.blocks.Descend(filedAs(h, nil), func(found filed) bool {
		b = found.block
		return false
	})
	if s.block = b; b != nil && b.prefix == s.prefix {
		s.i, s.there = b.find(&s.id, h)
	}
	return s
}

func (s *spot) revocation() (*identity.Revocation, bool) {
	if !s.there {
		return nil, false
	}
	return s.block.revocation(s.i), true
}

// around returns the block where a handle belongs, which is the last that begins no later, and the one after it; nil
// where there is no such block.
func (t frozenRevocations) around(h identity.Handle) (b, next *block) {
	pivot := filedAs(h, nil)
	t.blocks.Descend(pivot, func(found filed) bool {
		b = found.block
		return false
	})
	t.blocks.Ascend(pivot, func(found filed) bool {
		if found.first > h {
			next = found.block
			return false
		}
		return true
	})
	return b, next
}

// put makes a block anew with one more fact, before its i-th or in the place of that; in two halves where it is full.
func (t *revocations) put(b *block, f *fact, i int, there bool) {
	if !there {
		if b.epoch == t.epoch && b.insert(i, f) {
			t.near = spot{}
			t.count++
			return
		}
		if larger := b.with(i, f); larger != nil {
			t.exchange(b, larger)
			t.count++
			return
		}
	}
	facts := b.facts(t.scratch[:0])
	if there {
		facts[i] = *f
	} else {
		facts = slices.Insert(facts, i, *f)
		t.count++
	}
	t.scratch = facts
	end := len(facts)
	switch {
	case end <= maxBlock:
	case i == maxBlock: // what comes in order leaves full blocks behind
		end = maxBlock
	default:
		end /= 2
	}
	t.exchange(b, newBlock(b.prefix, facts[:end]))
	if end < len(facts) {
		t.add(newBlock(b.prefix, facts[end:]))
	}
}

// wedge parts a block in two for a handle of another kind, such as an id that is misspelt among ids.
func (t *revocations) wedge(b *block, f *fact, prefix string, h identity.Handle) {
	facts := b.facts(t.scratch[:0])
	t.scratch = facts
	i := 0
	for i < len(facts) && facts[i].handle(b.prefix) < h {
		i++
	}
	t.drop(b)
	t.add(newBlock(b.prefix, facts[:i]))
	t.add(newBlock(prefix, []fact{*f}))
	t.add(newBlock(b.prefix, facts[i:]))
	t.count++
}

func (t *revocations) add(b *block) {
	t.near = spot{}
	b.epoch = t.epoch
	t.blocks.set(filedAs(b.first, b))
	t.byExpiry.set(endingOf(b))
}

// exchange puts a block in the place of another that may begin and end elsewhere.
func (t *revocations) exchange(old, b *block) {
	t.near = spot{}
	b.epoch = t.epoch
	if old.first != b.first {
		t.blocks.delete(filedAs(old.first, nil))
	}
	t.blocks.set(filedAs(b.first, b))
	if was, is := endingOf(old), endingOf(b); was != is {
		t.byExpiry.delete(was)
		t.byExpiry.set(is)
	}
}

func (t *revocations) drop(b *block) {
	t.near = spot{}
	t.blocks.delete(filedAs(b.first, nil))
	t.byExpiry.delete(endingOf(b))
}

// load is set for revocations that mostly come in order.
func (t *revocations) load(r *identity.Revocation) {
	f, prefix := t.fact(r)
	if n := len(t.pending); n > 0 {
		last := &t.pending[n-1]
		if prefix != last.prefix || n == maxBlock {
			t.flush()
		} else if last.compare(&f) >= 0 {
			t.flush()
			t.set(r)
			return
		}
	}
	if len(t.pending) == 0 {
		if last, ok := t.blocks.work.Max(); ok && last.block.last() >= r.Handle {
			t.set(r)
			return
		}
	}
	t.pending = append(t.pending, f)
}

// flush puts what was loaded into a block. All of it comes after the blocks that there are.
func (t *revocations) flush() {
	if len(t.pending) == 0 {
		return
	}
	b := newBlock(t.pending[0].prefix, t.pending)
	t.count += len(t.pending)
	t.pending = t.pending[:0]
	t.near = spot{}
	t.blocks.load(filedAs(b.first, b))
	t.byExpiry.set(endingOf(b))
}

// get returns what is known of a handle.
func (t frozenRevocations) get(h identity.Handle) (*identity.Revocation, bool) {
	s := t.spot(h)
	return s.revocation()
}

// ascend shows the revocations from a handle on, in order, while it is told to go on.
func (t frozenRevocations) ascend(from identity.Handle, show func(*identity.Revocation) bool) {
	first := from
	if before, _ := t.around(from); before != nil {
		first = before.first
	}
	t.blocks.Ascend(filedAs(first, nil), func(at filed) bool {
		b := at.block
		for i := range b.count {
			if r := b.revocation(i); r.Handle >= from && !show(r) {
				return false
			}
		}
		return true
	})
}

// scan shows all revocations in order. What it shows is only lent.
func (t frozenRevocations) scan(show func(*identity.Revocation) bool) {
	r := new(identity.Revocation)
	t.blocks.Scan(func(at filed) bool {
		b := at.block
		for i := range b.count {
			if b.fill(i, r); !show(r) {
				return false
			}
		}
		return true
	})
}
