package fsm

import (
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
}

// of are those that an order lacks.
func (r *recent) of(order late) []*record { return r.records[r.filed[order]:] }

// addRecent keeps a record aside, and brings up the order whose turn it is.
func (t *records) addRecent(r *record) {
	t.recent.records = append(t.recent.records, r)
	t.recent.added++
	for order := range lateOrders {
		if (t.recent.added+int(order)*maxRecent/int(lateOrders))%maxRecent == 0 {
			t.file(order)
		}
	}
}

// fileAll brings up all orders. Whoever reads one of them, or writes to one in another way than by add, has it done first.
func (t *records) fileAll() {
	for order := range lateOrders {
		t.file(order)
	}
}

// file puts into an order what it lacks.
func (t *records) file(order late) {
	if len(t.recent.of(order)) == 0 {
		return
	}
	into := []struct {
		order   interface{ setNear(r *record) }
		compare func(a, b *record) int
	}{{t.byAgent, byAgentOrder}, {t.byPrincipal, byPrincipalOrder}, {t.byExpiry, byExpiryOrder}}[order]
	batch := slices.Clone(t.recent.of(order)) // Views show the other
	slices.SortFunc(batch, into.compare)
	for _, r := range batch {
		into.order.setNear(r)
	}
	t.recent.filed[order] = len(t.recent.records)
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

// ascend visits the records of one agent or principal in the order of their ids, from that of the pivot on: those of a
// tree, from the pivot for as long as they are within, and among them the recent ones that it lacks and that are within.
func ascend(tree *btree.BTreeG[*record], recent []*record, pivot *record, within, visit func(*record) bool) {
	var lacking []*record
	for _, r := range recent {
		if within(r) && byIDOrder(r, pivot) >= 0 {
			lacking = append(lacking, r)
		}
	}
	slices.SortFunc(lacking, byIDOrder)
	goOn := true
	tree.Ascend(pivot, func(r *record) bool {
		if !within(r) {
			return false
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
