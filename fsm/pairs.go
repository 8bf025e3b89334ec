package fsm

import (
	"slices"
	"strings"
	"unique"
)

// pair is what one principal lends to one agent, but for what was withdrawn one by one. A mint wants the record that lasts
// longest; the others are looked at where that one won't do.
//
// The index has it by the hash of both names. Nearly all pairs have one record, which takes twenty-four bytes in a list of
// some dozen others: less than a place in a tree, and less to copy when a View shows it.
type pair struct {
	lead   *record  // nil where there is none
	others *shorter // nil where there is none
}

// shorter are the records that end before the one that leads, by expiry and id: first the early ones, most of which are over,
// then the late ones. At most MaxPairDelegations can be used; but those that have expired stay for a day, and those that a
// kill withdrew until they would have expired.
//
// What a View shows of either list is never modified. Most records are added at the end, which Views of before don't see, and
// taken from the front; one that comes in between copies the late ones.
type shorter struct {
	early, late []*record
	cut         int // by how many early has become shorter at its front: its array holds them still
}

// mostLate bounds what is copied: one that is added comes before no more than can be used, nearly always.
const mostLate = 2 * MaxPairDelegations

func samePair(a, b *record) bool { return a.agent == b.agent && a.principal == b.principal }

// pairIn finds a pair in the index as it was at some time.
func pairIn(pairs *indexNode[pair], hash uint64, principal string, agent unique.Handle[string]) pair {
	list := pairs.list(hash)
	for i := range list {
		if r := list[i].row.lead; list[i].hash == hash && r.agent == agent && r.principal == principal {
			return list[i].row
		}
	}
	return pair{}
}

func (p pair) len() int {
	switch {
	case p.lead == nil:
		return 0
	case p.others == nil:
		return 1
	default:
		return 1 + p.others.len()
	}
}

// descend visits the records, the one that lasts longest first, until visit returns false.
func (p pair) descend(visit func(*record) bool) {
	if p.lead == nil || !visit(p.lead) || p.others == nil {
		return
	}
	for _, list := range [][]*record{p.others.late, p.others.early} {
		for _, r := range slices.Backward(list) {
			if !visit(r) {
				return
			}
		}
	}
}

// with is the pair and one more record.
func (p pair) with(r *record) pair {
	switch {
	case p.lead == nil:
		return pair{lead: r}
	case byExpiryOrder(p.lead, r) < 0:
		p.lead, r = r, p.lead
	}
	if p.others == nil {
		p.others = new(shorter)
	}
	return pair{p.lead, p.others.with(r)}
}

// without is the pair but for those of the records that it has. They come by expiry and id.
func (p pair) without(gone []*record) pair {
	if p.lead == nil {
		return p
	}
	at, leaves := slices.BinarySearchFunc(gone, p.lead, byExpiryOrder)
	if p.others != nil {
		p.others = p.others.without(gone[:at])
	}
	switch {
	case !leaves:
		return p
	case p.others == nil:
		return pair{}
	}
	last, rest := p.others.split()
	return pair{last, rest}
}

// shorterOf makes it of the records in their order, which are its own from then on.
func shorterOf(list []*record) *shorter {
	if len(list) == 0 {
		return nil
	}
	early := max(0, len(list)-MaxPairDelegations)
	return &shorter{early: list[:early:early], late: list[early:]}
}

func (s *shorter) len() int { return len(s.early) + len(s.late) }

func (s *shorter) with(r *record) *shorter {
	next := *s
	if last := len(s.early) - 1; last >= 0 && byExpiryOrder(r, s.early[last]) < 0 {
		next.early, next.cut = insert(s.early, r), 0
		return &next
	}
	if next.late = insert(s.late, r); len(next.late) > mostLate {
		over := len(next.late) - MaxPairDelegations
		next.early, next.late = append(s.early, next.late[:over]...), slices.Clone(next.late[over:])
	}
	return &next
}

func (s *shorter) without(gone []*record) *shorter {
	next := *s
	for len(gone) > 0 && len(next.early) > 0 && next.early[0].id == gone[0].id {
		next.early, gone, next.cut = next.early[1:], gone[1:], next.cut+1
	}
	if early := minus(next.early, gone); len(early) < len(next.early) {
		next.early, next.cut = early, 0
	} else if next.cut > len(next.early) {
		next.early, next.cut = slices.Clone(next.early), 0
	}
	next.late = minus(next.late, gone)
	if next.len() == 0 {
		return nil
	}
	return &next
}

// split takes off the last, which leaves no room behind it: a View may show what lies there.
func (s *shorter) split() (last *record, rest *shorter) {
	next := *s
	from := &next.late
	if len(*from) == 0 {
		from = &next.early
	}
	end := len(*from) - 1
	last, *from = (*from)[end], (*from)[:end:end]
	if next.len() == 0 {
		return last, nil
	}
	return last, &next
}

// insert puts a record where it belongs in a list: at the end, or in a copy.
func insert(list []*record, r *record) []*record {
	if last := len(list) - 1; last < 0 || byExpiryOrder(list[last], r) < 0 {
		return append(list, r)
	}
	at, _ := slices.BinarySearchFunc(list, r, byExpiryOrder)
	return slices.Insert(slices.Clip(list), at, r) // clipped it has no room, so that this copies
}

// minus takes out of a list what it has of those that are gone: out of a copy, if any. Only what lies between the first and
// the last of them is looked at.
func minus(list, gone []*record) []*record {
	if len(gone) == 0 || len(list) == 0 {
		return list
	}
	from, _ := slices.BinarySearchFunc(list, gone[0], byExpiryOrder)
	to, found := slices.BinarySearchFunc(list, gone[len(gone)-1], byExpiryOrder)
	if found {
		to++
	}
	var kept []*record
	for i, r := range list[from:to] {
		for len(gone) > 0 && byExpiryOrder(gone[0], r) < 0 {
			gone = gone[1:]
		}
		switch {
		case len(gone) > 0 && gone[0].id == r.id:
			if kept == nil {
				kept = append(make([]*record, 0, len(list)-1), list[:from+i]...)
			}
		case kept != nil:
			kept = append(kept, r)
		}
	}
	if kept == nil {
		return list
	}
	return append(kept, list[to:]...)
}

// pair adds a record to its pair.
func (t *records) pair(r *record) {
	hash := t.pairHash(r)
	before := pairIn(t.pairs.root, hash, r.principal, r.agent)
	t.putPair(hash, before, before.with(r))
}

// unpair takes records out of their pairs, and puts them in order for that. The next one leads such a pair then. It is for
// many at a time, as a deletion takes them out of the middle of lists that may be long.
func (t *records) unpair(gone []*record) {
	slices.SortFunc(gone, byPairOrder)
	for len(gone) > 0 {
		n := 1
		for n < len(gone) && samePair(gone[0], gone[n]) {
			n++
		}
		hash := t.pairHash(gone[0])
		before := pairIn(t.pairs.root, hash, gone[0].principal, gone[0].agent)
		t.putPair(hash, before, before.without(gone[:n]))
		gone = gone[n:]
	}
}

func (t *records) pairHash(r *record) uint64 {
	return hashPair(hashName(t.seed, r.principal), hashName(t.seed, r.agent.Value()))
}

// putPair puts a pair in the place of what it was, either of which may have no record.
func (t *records) putPair(hash uint64, before, after pair) {
	list := t.pairs.root.list(hash)
	changed := make([]indexed[pair], 0, len(list)+1)
	for _, item := range list {
		if item.row.lead != before.lead {
			changed = append(changed, item)
		}
	}
	if after.lead != nil {
		changed = append(changed, indexed[pair]{hash, after})
	}
	t.pairs.put(hash, changed)
}

// byPairOrder keeps the records of a pair together, by expiry and id.
func byPairOrder(a, b *record) int {
	if c := strings.Compare(a.principal, b.principal); c != 0 {
		return c
	}
	if c := compareAgents(a, b); c != 0 {
		return c
	}
	return byExpiryOrder(a, b)
}

func compareAgents(a, b *record) int {
	if a.agent == b.agent {
		return 0
	}
	return strings.Compare(a.agent.Value(), b.agent.Value())
}
