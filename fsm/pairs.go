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

// shorter are the records that end before the one that leads, by expiry and id. What a View shows of them is never modified.
// Most records are added at the end, which Views of before don't see, and taken from the front, when they have expired.
// How many there are has no bound but that of what was lent for a day (keepExpired), MaxPairDelegations at a time.
type shorter []*record

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
		return 1 + len(*p.others)
	}
}

// descend visits the records, the one that lasts longest first, until visit returns false.
func (p pair) descend(visit func(*record) bool) {
	if p.lead == nil || !visit(p.lead) || p.others == nil {
		return
	}
	for _, r := range slices.Backward(*p.others) {
		if !visit(r) {
			return
		}
	}
}

// with is the pair and one more record.
func (p pair) with(r *record) pair {
	if p.lead == nil {
		return pair{lead: r}
	}
	if byExpiryOrder(p.lead, r) < 0 {
		p.lead, r = r, p.lead
	}
	var others shorter
	if p.others != nil {
		others = *p.others
	}
	if last := len(others) - 1; last < 0 || byExpiryOrder(others[last], r) < 0 {
		others = append(others, r)
	} else {
		at, _ := slices.BinarySearchFunc(others, r, byExpiryOrder)
		others = slices.Insert(slices.Clip(others), at, r) // clipped it has no room, so that this copies
	}
	return pair{p.lead, &others}
}

// without is the pair but for those of the records that it has. They come by expiry and id.
func (p pair) without(gone []*record) pair {
	if p.lead == nil {
		return p
	}
	var others shorter
	if p.others != nil {
		others = *p.others
	}
	for len(gone) > 0 && len(others) > 0 && others[0].id == gone[0].id {
		others, gone = others[1:], gone[1:]
	}
	at, leaves := slices.BinarySearchFunc(gone, p.lead, byExpiryOrder)
	others = others.minus(gone[:at])
	if !leaves {
		return pair{p.lead, shorterOf(others)}
	}
	last := len(others) - 1
	if last < 0 {
		return pair{}
	}
	return pair{others[last], shorterOf(others[:last:last])} // without room: a View may show what lies there
}

// minus is a list of its own, but where nothing is to be taken out. Only what lies between the first and the last that
// are gone is looked at, as there may be many that nobody has purged yet.
func (list shorter) minus(gone []*record) shorter {
	if len(gone) == 0 {
		return list
	}
	from, _ := slices.BinarySearchFunc(list, gone[0], byExpiryOrder)
	to, found := slices.BinarySearchFunc(list, gone[len(gone)-1], byExpiryOrder)
	if found {
		to++
	}
	kept := slices.Clone(list[:from])
	for _, r := range list[from:to] {
		for len(gone) > 0 && byExpiryOrder(gone[0], r) < 0 {
			gone = gone[1:]
		}
		if len(gone) == 0 || gone[0].id != r.id {
			kept = append(kept, r)
		}
	}
	return append(kept, list[to:]...)
}

func shorterOf(list shorter) *shorter {
	if len(list) == 0 {
		return nil
	}
	return &list
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
