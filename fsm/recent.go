package fsm

import (
	"bytes"
	"slices"

	"github.com/tidwall/btree"
)

// A delegation that was just made is looked for by its id and by its pair, hardly ever in the lists of its agent and its
// principal, and not by its expiry before that is past. But to put it into those three orders waits for memory a dozen
// times in each, and copies a node that a View shows; together that was half of what Apply took. So the latest are
// kept aside, as they came, and put into each order many at a time, sorted: neighbours share the way through the tree and
// the copies of its nodes. Lists look at both. What is kept aside is no part of the state: replicas may differ in it.

// maxRecent bounds what an order lacks: a list then looks at so many records more, some tens of microseconds, and putting
// them into the order holds Apply up for some milliseconds, less than a batch of MaxBatch does.
const maxRecent = 4096

// late are the orders that lack the recent records. Each is brought up in its turn, so that Apply waits for one at a time.
type late int

const (
	lateByAgent late = iota
	lateByPrincipal
	lateByExpiry
	lateOrders
)

// recent are the latest records in the order of their coming.
type recent struct {
	records []*record       // appended to, or replaced: Views show parts of it
	filed   [lateOrders]int // how many of them each order has
	added   int             // ever
	least   [16]byte        // no id of theirs is below
}

// of are those that an order lacks.
func (r *recent) of(which late) []*record { return r.records[r.filed[which]:] }

// addRecent keeps a record aside, and brings up the order whose turn it is.
func (t *records) addRecent(r *record) {
	if len(t.recent.records) == 0 || bytes.Compare(r.id[:], t.recent.least[:]) < 0 {
		t.recent.least = r.id
	}
	t.recent.records = append(t.recent.records, r)
	t.recent.added++
	for which := range lateOrders {
		if (t.recent.added+int(which)*maxRecent/int(lateOrders))%maxRecent == 0 {
			t.file(which)
		}
	}
}

// settle has all orders hold a record that is about to be changed or removed. Ids begin with the time, so most often it is
// older than all that an order lacks, and nobody who stops something waits for what was made lately.
func (t *records) settle(r *record) {
	if len(t.recent.records) > 0 && bytes.Compare(r.id[:], t.recent.least[:]) >= 0 {
		t.fileAll()
	}
}

// fileAll brings up all orders.
func (t *records) fileAll() {
	for which := range lateOrders {
		t.file(which)
	}
}

// file puts into an order what it lacks. Whoever reads the order itself has that done first.
func (t *records) file(which late) {
	lacking := t.recent.of(which)
	if len(lacking) == 0 {
		return
	}
	into := [...]*order{&t.byAgent, &t.byPrincipal, &t.byExpiry}[which]
	batch := make([]placed, 0, len(lacking))
	for _, r := range lacking {
		batch = append(batch, into.place(r))
	}
	slices.SortFunc(batch, byKeyOrder)
	for _, item := range batch {
		into.setNear(item)
	}
	t.recent.filed[which] = len(t.recent.records)
	t.recent.trim()
}

// trim gives up what no order lacks any more.
func (r *recent) trim() {
	all := slices.Min(r.filed[:])
	r.records = r.records[all:]
	if len(r.records) == 0 {
		r.records = nil
	}
	for i := range r.filed {
		r.filed[i] -= all
	}
}

// ascend visits the records of one agent or principal, which are within, in the order of their ids from that of the pivot
// on: those of a tree, and among them the recent ones that it lacks.
func ascend(tree *btree.BTreeG[placed], recent []*record, pivot placed, within, visit func(*record) bool) {
	var lacking []*record
	for _, r := range recent {
		if within(r) && byIDOrder(r, pivot.record) >= 0 {
			lacking = append(lacking, r)
		}
	}
	slices.SortFunc(lacking, byIDOrder)
	goOn := true
	tree.Ascend(pivot, func(item placed) bool {
		if !mayBeOf(item.key, pivot.key) {
			return false
		}
		r := item.record
		if !within(r) {
			return true
		}
		for goOn && len(lacking) > 0 && byIDOrder(lacking[0], r) < 0 {
			goOn, lacking = visit(lacking[0]), lacking[1:]
		}
		goOn = goOn && visit(r)
		return goOn
	})
	for goOn && len(lacking) > 0 {
		goOn, lacking = visit(lacking[0]), lacking[1:]
	}
}

// firstOf stands before all records of an agent or a principal, in the order by their names.
func (v *View) firstOf(name string) placed { return v.atID(name, &record{agent: noText}) }

// atID stands where a record with that id and name would.
func (v *View) atID(name string, r *record) placed {
	return placed{nameKey(hashName(v.seed, name), r.id), r}
}
