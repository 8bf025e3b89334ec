package fsm

import (
	"cmp"
	"math"
	"slices"

	"github.com/tidwall/btree"

	"github.com/deputy-id/deputy/identity"
)

// revocations is what is known of each revoked handle, by the ten million: why, when, by whom, until when. The set of
// package revocation only knows that they are.
//
// They lie in blocks of up to maxBlock, in the order of their handles, and the trees hold blocks. A block is written once:
// a change makes another of it, so that a View keeps what it has. By the expiry of what ends first in each, a purge
// finds the blocks that it has to look into.
type revocations struct {
	blocks   *tree[*block]
	byExpiry *tree[*block] // soonest, first; for purges only, so no View has it
	count    int
	scratch  []fact // of the goroutine that applies
	pending  []fact // loaded in order, and not in a block yet
	causes   map[cause]*cause
}

// frozenRevocations are the revocations as of one View.
type frozenRevocations struct {
	blocks *btree.BTreeG[*block]
	count  int
}

const (
	// maxBlock is how many revocations a block may hold. It is rewritten whole: some 2 KB.
	maxBlock = 128
	// smallBlock is what a purge does not leave beside a neighbour that could take it in.
	smallBlock = maxBlock / 4
)

func newRevocations() *revocations {
	return &revocations{
		blocks: newTree(func(a, b *block) bool { return a.first < b.first }),
		byExpiry: newTree(func(a, b *block) bool {
			if a.soonest != b.soonest {
				return a.soonest < b.soonest
			}
			return a.first < b.first
		}),
		causes: make(map[cause]*cause),
	}
}

// cause shares a reason and who asked: what a thousand revocations have in common. The cache is bounded by starting
// over, and is no part of the state.
func (t *revocations) cause(reason, by string) *cause {
	c := cause{reason, by}
	if shared, ok := t.causes[c]; ok {
		return shared
	}
	if len(t.causes) >= maxTexts {
		clear(t.causes)
	}
	t.causes[c] = &c
	return &c
}

func (t *revocations) fact(r *identity.Revocation) (f fact, prefix string) {
	f = fact{at: r.At, expires: r.Expires, index: r.Index, cause: t.cause(r.Reason, r.By)}
	if f.id, f.prefix = generatedID(r.Handle); f.prefix == "" {
		f.text = string(r.Handle)
	}
	return f, f.prefix
}

func (t *revocations) len() int { return t.count + len(t.pending) }

func (t *revocations) freeze() frozenRevocations {
	t.flush()
	return frozenRevocations{t.blocks.freeze(), t.count}
}

// work is the revocations as they are now.
func (t *revocations) work() frozenRevocations {
	t.flush()
	return frozenRevocations{t.blocks.work, t.count}
}

func (t *revocations) get(h identity.Handle) (*identity.Revocation, bool) { return t.work().get(h) }

// set puts a revocation in the place of the one that has its handle, if any.
func (t *revocations) set(r *identity.Revocation) {
	t.flush()
	f, prefix := t.fact(r)
	b, next := t.work().around(r.Handle)
	switch {
	case b != nil && b.prefix == prefix:
		t.put(b, &f)
	case b != nil && r.Handle <= b.last():
		t.wedge(b, &f, prefix, r.Handle)
	case next != nil && next.prefix == prefix:
		t.put(next, &f)
	default:
		t.add(newBlock(prefix, []fact{f}))
		t.count++
	}
}

// around returns the block where a handle belongs, which is the last that begins no later, and the one after it; nil
// where there is no such block.
func (t frozenRevocations) around(h identity.Handle) (b, next *block) {
	pivot := &block{first: h}
	t.blocks.Descend(pivot, func(found *block) bool {
		b = found
		return false
	})
	t.blocks.Ascend(pivot, func(found *block) bool {
		if found.first > h {
			next = found
			return false
		}
		return true
	})
	return b, next
}

// put makes a block anew with one more fact, or with another in its place; in two halves where it is full.
func (t *revocations) put(b *block, f *fact) {
	if larger := b.with(f); larger != nil {
		t.exchange(b, larger)
		t.count++
		return
	}
	facts := b.facts(t.scratch[:0])
	i, there := slices.BinarySearchFunc(facts, f, func(a fact, f *fact) int { return a.compare(f) })
	if there {
		facts[i] = *f
	} else {
		facts = slices.Insert(facts, i, *f)
		t.count++
	}
	t.scratch = facts
	t.drop(b)
	switch {
	case len(facts) <= maxBlock:
		t.add(newBlock(b.prefix, facts))
	case i == maxBlock: // what comes in order leaves full blocks behind
		t.add(newBlock(b.prefix, facts[:maxBlock]))
		t.add(newBlock(b.prefix, facts[maxBlock:]))
	default:
		t.add(newBlock(b.prefix, facts[:len(facts)/2]))
		t.add(newBlock(b.prefix, facts[len(facts)/2:]))
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
	t.blocks.set(b)
	t.byExpiry.set(b)
}

// exchange puts a block in the place of another that may begin and end elsewhere.
func (t *revocations) exchange(old, b *block) {
	if old.first != b.first {
		t.blocks.delete(old)
	}
	if old.first != b.first || old.soonest != b.soonest {
		t.byExpiry.delete(old)
	}
	t.add(b)
}

func (t *revocations) drop(b *block) {
	t.blocks.delete(b)
	t.byExpiry.delete(b)
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
		if last, ok := t.blocks.work.Max(); ok && last.last() >= r.Handle {
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
	t.blocks.load(b)
	t.byExpiry.set(b)
}

// place is where a fact is.
type place struct {
	expires identity.Instant
	block   *block
	i       int
}

// comparePlaces orders by expiry, then handle: blocks do not overlap.
func comparePlaces(a, b place) int {
	if c := cmp.Compare(a.expires, b.expires); c != 0 {
		return c
	}
	if a.block != b.block {
		return cmp.Compare(a.block.first, b.block.first)
	}
	return cmp.Compare(a.i, b.i)
}

// purge removes the revocations that end first, if they have ended by now, and at most limit of them. It shows each
// beforehand.
func (t *revocations) purge(now identity.Instant, limit int, show func(*identity.Revocation)) (removed int) {
	if limit <= 0 {
		return 0
	}
	t.flush()
	var ended []place
	latest := now
	t.byExpiry.work.Scan(func(b *block) bool {
		if b.soonest > latest {
			return false
		}
		for i := range b.count {
			if expires := b.expires(i); expires <= latest {
				ended = append(ended, place{expires, b, i})
			}
		}
		if len(ended) > 2*limit { // far more than may go: keep the first, and look no further than they do
			slices.SortFunc(ended, comparePlaces)
			ended = ended[:limit]
			latest = ended[limit-1].expires
		}
		return true
	})
	slices.SortFunc(ended, comparePlaces)
	ended = ended[:min(limit, len(ended))]

	gone := make(map[*block][]int)
	var order []*block // of a map's there is none
	for _, p := range ended {
		if show != nil {
			show(p.block.revocation(p.i))
		}
		if gone[p.block] == nil {
			order = append(order, p.block)
		}
		gone[p.block] = append(gone[p.block], p.i)
	}
	slices.SortFunc(order, func(a, b *block) int { return cmp.Compare(a.first, b.first) })
	for _, b := range order {
		t.without(b, gone[b])
	}
	t.count -= len(ended)
	t.merge(order)
	return len(ended)
}

// without makes a block anew without some of its facts.
func (t *revocations) without(b *block, gone []int) {
	facts := b.facts(t.scratch[:0])
	t.scratch = facts
	var dropped [maxBlock]bool
	for _, i := range gone {
		dropped[i] = true
	}
	kept := facts[:0]
	for i, f := range facts {
		if !dropped[i] {
			kept = append(kept, f)
		}
	}
	t.drop(b)
	if len(kept) > 0 {
		t.add(newBlock(b.prefix, kept))
	}
}

// merge joins what a purge has left of blocks with the block after it, where both are few.
func (t *revocations) merge(changed []*block) {
	for _, old := range changed {
		b, next := t.work().around(old.last())
		if b == nil || next == nil || b.prefix != next.prefix || min(b.count, next.count) >= smallBlock || b.count+next.count > maxBlock/2+smallBlock {
			continue
		}
		facts := next.facts(b.facts(t.scratch[:0]))
		t.scratch = facts
		t.drop(b)
		t.drop(next)
		t.add(newBlock(b.prefix, facts))
	}
}

// get returns what is known of a handle.
func (t frozenRevocations) get(h identity.Handle) (*identity.Revocation, bool) {
	var found *identity.Revocation
	t.blocks.Descend(&block{first: h}, func(b *block) bool {
		if i, ok := b.find(h); ok {
			found = b.revocation(i)
		}
		return false
	})
	return found, found != nil
}

// has is get for who only asks whether there is one.
func (t frozenRevocations) has(h identity.Handle) (found bool) {
	if t.blocks.Len() == 0 {
		return false
	}
	t.blocks.Descend(&block{first: h}, func(b *block) bool {
		_, found = b.find(h)
		return false
	})
	return found
}

// ascend shows the revocations from a handle on, in order, while it is told to go on.
func (t frozenRevocations) ascend(from identity.Handle, show func(*identity.Revocation) bool) {
	first, _ := t.around(from)
	if first == nil {
		first = &block{first: from}
	}
	t.blocks.Ascend(first, func(b *block) bool {
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
	t.blocks.Scan(func(b *block) bool {
		first := b.firstID()
		for i := range b.count {
			if b.fill(i, r, &first); !show(r) {
				return false
			}
		}
		return true
	})
}

// soonestOf is the least expiry of some facts.
func soonestOf(facts []fact) identity.Instant {
	least := identity.Instant(math.MaxInt64)
	for i := range facts {
		least = min(least, facts[i].expires)
	}
	return least
}
