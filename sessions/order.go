package sessions

import "slices"

// order holds the slots of a shard by session id, in blocks that are each sorted and follow each other. Ids come
// nearly in order, so that nearly every insertion is the end of the last block; whatever the order, no insertion,
// removal or search looks at more than a few cache lines for each of both levels.
type order struct {
	blocks []block
	n      int
}

// blockKeys keeps a block at 1.5 kB: little to move when a key leaves, and one allocation in 64 mints.
const blockKeys = 64

type block struct {
	first id // of its keys
	n     int
	keys  *[blockKeys]key
}

type key struct {
	id   id
	slot uint32
}

func searchKey(k key, i id) int     { return compareIDs(k.id, i) }
func searchBlock(b block, i id) int { return compareIDs(b.first, i) }

// place returns the first key that is not less than i: in which block, and where in it. That may be the end of a block.
func (o *order) place(i id) (b, at int, found bool) {
	if len(o.blocks) == 0 {
		return 0, 0, false
	}
	if last := &o.blocks[len(o.blocks)-1]; compareIDs(last.keys[last.n-1].id, i) < 0 { // as with nearly every new one
		return len(o.blocks) - 1, last.n, false
	}
	if b, found = slices.BinarySearchFunc(o.blocks, i, searchBlock); found {
		return b, 0, true
	}
	b = max(b-1, 0)
	at, found = slices.BinarySearchFunc(o.blocks[b].keys[:o.blocks[b].n], i, searchKey)
	return b, at, found
}

// find returns the slot of an id.
func (o *order) find(i id) (slot uint32, found bool) {
	b, at, found := o.place(i)
	if !found {
		return 0, false
	}
	return o.blocks[b].keys[at].slot, true
}

// insert adds a key whose id is not there.
func (o *order) insert(k key) {
	o.n++
	if len(o.blocks) == 0 {
		o.blocks = append(o.blocks, newBlock(k))
		return
	}
	b, at, _ := o.place(k.id)
	if o.blocks[b].n == blockKeys {
		if at == blockKeys { // no use in leaving half a block behind where keys come in order
			o.blocks = slices.Insert(o.blocks, b+1, newBlock(k))
			return
		}
		o.split(b)
		if at > blockKeys/2 {
			b, at = b+1, at-blockKeys/2
		}
	}
	in := &o.blocks[b]
	copy(in.keys[at+1:in.n+1], in.keys[at:in.n])
	in.keys[at] = k
	in.n++
	in.first = in.keys[0].id
}

func newBlock(k key) block {
	b := block{first: k.id, n: 1, keys: new([blockKeys]key)}
	b.keys[0] = k
	return b
}

func (o *order) split(b int) {
	left := &o.blocks[b]
	right := block{first: left.keys[blockKeys/2].id, keys: new([blockKeys]key)}
	right.n = copy(right.keys[:], left.keys[blockKeys/2:])
	left.n = blockKeys / 2
	o.blocks = slices.Insert(o.blocks, b+1, right)
}

// remove takes an id out, if it is there. A block that runs low is joined with the next one, so that what is left of
// many sessions does not hold the memory of all.
func (o *order) remove(i id) {
	b, at, found := o.place(i)
	if !found {
		return
	}
	o.n--
	in := &o.blocks[b]
	copy(in.keys[at:in.n-1], in.keys[at+1:in.n])
	in.n--
	if in.n == 0 {
		o.blocks = slices.Delete(o.blocks, b, b+1)
		return
	}
	in.first = in.keys[0].id
	if in.n > blockKeys/4 || b+1 == len(o.blocks) || in.n+o.blocks[b+1].n > blockKeys*3/4 {
		return
	}
	next := &o.blocks[b+1]
	in.n += copy(in.keys[in.n:], next.keys[:next.n])
	o.blocks = slices.Delete(o.blocks, b+1, b+2)
}

// after visits the keys beyond i in order, until visit says no.
func (o *order) after(i id, visit func(key) bool) {
	b, at, found := o.place(i)
	if found {
		at++
	}
	for ; b < len(o.blocks); b, at = b+1, 0 {
		in := &o.blocks[b]
		for _, k := range in.keys[at:in.n] {
			if !visit(k) {
				return
			}
		}
	}
}
