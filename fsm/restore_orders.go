package fsm

import (
	"cmp"
	"math"
	"runtime"
	"slices"
	"sync"
	"unique"

	"github.com/deputy-id/deputy/identity"
)

// The orders of ten million delegations, by which the trees are filled, are found without comparing records: to compare
// two is to wait for memory twice, and sorting does it twenty times a record in each order. They come in the order of
// their ids; numbers that stand for names and hashes that lie beside them are sorted digit by digit, and what is equal
// stays in that order.

// nameTable gives agents or principals numbers. Those of the table come first, in the order of their names, and no longer
// change once frames are decoded: all decoders look into them. Late ones are for the goroutine alone that files.
type nameTable struct {
	numbers map[string]uint32
	list    []nameOf

	lateNumbers map[string]uint32
	late        []nameOf
}

type nameOf struct {
	text   string
	handle unique.Handle[string]
}

const unknownName = math.MaxUint32

func namesOf(n int) *nameTable {
	return &nameTable{numbers: make(map[string]uint32, n), list: make([]nameOf, 0, n), lateNumbers: make(map[string]uint32)}
}

func (n *nameTable) add(text string, handle unique.Handle[string]) {
	n.numbers[text] = uint32(len(n.list))
	n.list = append(n.list, nameOf{text, handle})
}

// known finds a name of the table.
func (n *nameTable) known(text []byte) (number uint32, name nameOf, ok bool) {
	if number, ok = n.numbers[string(text)]; ok {
		name = n.list[number]
	}
	return number, name, ok
}

// number is that of a name that may be in no table: of an agent or a principal that was deleted, and whose delegations
// are yet to be. It returns the text that all records of the name share.
func (n *nameTable) number(text string, handle unique.Handle[string]) (number uint32, shared string) {
	if known, ok := n.numbers[text]; ok {
		return known, n.list[known].text
	}
	number, ok := n.lateNumbers[text]
	if !ok {
		number = uint32(len(n.list) + len(n.late))
		n.lateNumbers[text] = number
		n.late = append(n.late, nameOf{text, handle})
	}
	return number, n.late[int(number)-len(n.list)].text
}

// ranks puts the numbers in the order of what a key by name has of the hashes. Names that have the same of it share a rank, as
// their records lie among each other.
func ranks(hashes []uint64) []uint32 {
	items := make([]keyed, len(hashes))
	for i, hash := range hashes {
		items[i] = keyed{hash >> (64 - nameBits), uint32(i)}
	}
	sorted := sortKeyed(items, make([]keyed, len(items)))
	ranks := make([]uint32, len(hashes))
	rank := uint32(0)
	for i, item := range sorted {
		if i > 0 && item.key != sorted[i-1].key {
			rank++
		}
		ranks[item.at] = rank
	}
	return ranks
}

// keyed is a record, by its place in the order of ids, beside what it is sorted by.
type keyed struct {
	key uint64
	at  uint32
}

const digitBits = 11

// sortKeyed sorts by key, digit by digit, and leaves equals in the order that they have. spare is as long as items; which
// of the two has the outcome is returned.
func sortKeyed(items, spare []keyed) []keyed {
	if len(items) == 0 {
		return items
	}
	all, any := items[0].key, items[0].key
	for i := range items {
		all, any = all&items[i].key, any|items[i].key
	}
	differ := all ^ any
	for shift := 0; shift < 64; shift += digitBits {
		if differ>>shift&(1<<digitBits-1) == 0 {
			continue
		}
		var counts [1 << digitBits]int
		for i := range items {
			counts[items[i].key>>shift&(1<<digitBits-1)]++
		}
		sum := 0
		for i, n := range counts {
			counts[i] = sum
			sum += n
		}
		for i := range items {
			digit := items[i].key >> shift & (1<<digitBits - 1)
			spare[counts[digit]] = items[i]
			counts[digit]++
		}
		items, spare = spare, items
	}
	return items
}

// ordered returns the records by key, equals by id, and as much room, which is the caller's.
func (l *loader) ordered(key func(*loadedRecord) uint64) (items, room []keyed) {
	items, room = make([]keyed, l.records.len()), make([]keyed, l.records.len())
	for i := range items {
		items[i] = keyed{key(l.records.at(i)), uint32(i)}
	}
	sorted := sortKeyed(items, room)
	if len(items) > 0 && &sorted[0] == &room[0] {
		items, room = room, items
	}
	return items, room
}

// orderedByName returns the places of the records by the rank of a name, equals by id. There is one for each record: they
// are counted, and put where they belong.
func (l *loader) orderedByName(names int, number func(*loadedRecord) uint32) []uint32 {
	next := make([]uint32, names+1)
	for i := range l.records.len() {
		next[number(l.records.at(i))+1]++
	}
	for i := range names {
		next[i+1] += next[i]
	}
	places := make([]uint32, l.records.len())
	for i := range places {
		at := &next[number(l.records.at(i))]
		places[*at] = uint32(i)
		*at++
	}
	return places
}

// expiryKey orders as expiries do, those before the epoch among them.
func expiryKey(expires identity.Instant) uint64 { return uint64(expires) ^ 1<<63 }

// fill fills the orders of the delegation table, the indexes and the revocation set, as many at a time as there are
// processors.
func (l *loader) fill() {
	s := l.state
	for prefix, n := range s.revocations.ids() {
		s.set.Expect(identity.Handle(prefix), n)
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	do := func(task func()) {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			task()
		})
	}
	byName := func(o order, n *nameTable, number func(*loadedRecord) uint32) {
		if n == nil {
			return // there is no delegation
		}
		hashes := n.hashes(s)
		ranks := ranks(hashes)
		for _, at := range l.orderedByName(len(ranks), func(r *loadedRecord) uint32 { return ranks[number(r)] }) {
			r := l.records.at(int(at))
			o.load(placed{nameKey(hashes[number(r)], r.id), r.record})
		}
	}
	do(l.fillPairs)
	do(func() {
		for i := range l.records.len() {
			s.delegations.byID.load(l.records.at(i).record)
		}
	})
	do(func() { byName(s.delegations.byAgent, l.agents, func(r *loadedRecord) uint32 { return r.agent }) })
	do(func() {
		byName(s.delegations.byPrincipal, l.principals, func(r *loadedRecord) uint32 { return r.principal })
	})
	for _, blocks := range s.revocations.shares(runtime.GOMAXPROCS(0)) {
		do(func() { enterAll(s.set, blocks) })
	}
	do(func() { s.agents.index() })
	do(func() { s.principals.index() })
	do(func() {
		slices.SortFunc(l.owners, func(a, b named[Owner]) int { return cmp.Compare(a.key, b.key) })
		for _, o := range l.owners {
			s.owners.load(o)
		}
	})
	wait.Wait()
}

// fillPairs fills the order by expiry, and of that the index of pairs.
func (l *loader) fillPairs() {
	d := l.state.delegations
	order, room := l.ordered(func(r *loadedRecord) uint64 { return expiryKey(r.expires) })
	for _, item := range order {
		d.byExpiry.load(placed{item.key, l.records.at(int(item.at)).record})
	}

	agents, principals := l.agents.hashes(l.state), l.principals.hashes(l.state)
	active := order[:0]
	for _, item := range order {
		if r := l.records.at(int(item.at)); !r.inactive {
			active = append(active, keyed{hashPair(principals[r.principal], agents[r.agent]), item.at})
		}
	}
	active = sortKeyed(active, room[:len(active)])
	pairs := make([]indexed[pair], 0, pairsOf(active))
	for from := 0; from < len(active); {
		hash, to := active[from].key, from+1
		for to < len(active) && active[to].key == hash {
			to++
		}
		for same := l.ofHash(active[from:to]); len(same) > 0; {
			n := 1
			for n < len(same) && samePair(same[0], same[n]) {
				n++
			}
			pairs = append(pairs, indexed[pair]{hash, pair{same[n-1], shorterOf(slices.Clone(same[:n-1]))}})
			same = same[n:]
		}
		from = to
	}
	d.pairs.fill(pairs)
}

// pairsOf is how many hashes of pairs there are, and so pairs, but for some.
func pairsOf(active []keyed) (n int) {
	for i := range active {
		if i == 0 || active[i].key != active[i-1].key {
			n++
		}
	}
	return n
}

// ofHash are the records of one hash, those of a pair together and by expiry. Nearly always they are of one pair, and come so.
func (l *loader) ofHash(items []keyed) []*record {
	l.same = l.same[:0]
	several := false
	for _, item := range items {
		r := l.records.at(int(item.at)).record
		several = several || len(l.same) > 0 && !samePair(l.same[0], r)
		l.same = append(l.same, r)
	}
	if several {
		slices.SortFunc(l.same, byPairOrder)
	}
	return l.same
}

// hashes of all names, by their numbers.
func (n *nameTable) hashes(s *state) []uint64 {
	if n == nil {
		return nil
	}
	hashes := make([]uint64, 0, len(n.list)+len(n.late))
	for _, names := range [][]nameOf{n.list, n.late} {
		for i := range names {
			hashes = append(hashes, hashName(s.seed, names[i].text))
		}
	}
	return hashes
}
