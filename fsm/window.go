package fsm

import (
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of what each window remembers of past commands. A batch counts once per item, so that results are
// bounded and not only commands, and the bytes are those of size.go.
const (
	maxReceipts     = 65_536
	maxResults      = 2 * maxReceipts
	maxReceiptBytes = 64 << 20

	clientKeyAge = 24 * time.Hour
	internalAge  = 10 * time.Minute // a command of Deputy's own is proposed again for seconds, not longer
	expireAtOnce = 64               // receipts that one command forgets: far more than the one that it adds
)

// receipt remembers one command and what came of it.
type receipt struct {
	id          CommandID
	fingerprint [16]byte
	order       uint64
	time        identity.Instant // FSM time, so it grows with order
	result      Result
	size        int // of all this, see size.go
}

func (r *receipt) weight() int {
	if results, ok := r.result.Value.([]Result); ok {
		return max(1, len(results))
	}
	return 1
}

// window remembers the latest commands, so that one that comes twice is applied once. It is part of the
// state: all replicas remember the same ones.
type window struct {
	age     time.Duration
	byID    map[CommandID]*receipt
	queue   *tree[*receipt] // by order; a tree, for a snapshot to hold on to
	next    uint64
	results int
	bytes   int
}

func newWindow(age time.Duration) *window {
	return &window{
		age: age, byID: make(map[CommandID]*receipt),
		queue: newTree(func(a, b *receipt) bool { return a.order < b.order }),
	}
}

func (w *window) find(id CommandID) (*receipt, bool) {
	r, ok := w.byID[id]
	return r, ok
}

// add files a receipt and forgets the oldest ones past the bounds. The one that it adds stays, however large it
// is: its command is the one that is the most likely to come again.
func (w *window) add(r *receipt) {
	r.order = w.next
	w.next++
	w.byID[r.id] = r
	w.queue.load(r)
	w.results += r.weight()
	r.size = receiptSize + sizeOf(r.result)
	w.bytes += r.size
	for w.queue.len() > 1 && w.isOver() {
		w.forgetOldest()
	}
}

func (w *window) isOver() bool {
	return len(w.byID) > maxReceipts || w.results > maxResults || w.bytes > maxReceiptBytes
}

// expire forgets what is older than the window's age, at most limit receipts.
func (w *window) expire(now identity.Instant, limit int) (forgotten int) {
	for forgotten < limit {
		oldest, ok := w.queue.work.Min()
		if !ok || after(oldest.time, w.age) > now {
			break
		}
		w.forgetOldest()
		forgotten++
	}
	return forgotten
}

func (w *window) forgetOldest() {
	oldest, ok := w.queue.work.PopMin()
	if !ok {
		return
	}
	w.queue.dirty = true
	delete(w.byID, oldest.id)
	w.results -= oldest.weight()
	w.bytes -= oldest.size
}
