package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// queue is where records wait to be written: an arena that is filled while another is emptied. Whoever waits for a record
// writes what has gathered, unless that is under way: then one write takes whatever came during the one before (group
// commit).
type queue struct {
	mostRecords int
	mostBytes   int
	patience    time.Duration // for contexts without a deadline
	write       func()        // writes what has gathered, unless that is under way; nil where the writer alone may
	wake        chan struct{} // holds one token while the writer has to look
	unclaimed   *time.Timer   // wakes the writer for records that nobody waits for
	crowd       crowd

	mu      sync.Mutex
	filling *arena
	spare   *arena        // nil while the writer has it
	space   chan struct{} // closed when there is room again; nil while nobody waits for it
	dropped drops
	closed  bool

	tickets sync.Pool // of *waiter
}

// arena holds bodies of records one after another, with who waits for each.
type arena struct {
	bodies    []byte
	ends      []int // of each body
	classes   []class
	waiters   []*waiter
	sequences []uint64 // given by the writer
}

// class is what metrics count a record as.
type class uint8

const ownClass class = 255

func classOf(r *Record) class {
	c := class(r.Kind.index() * 2)
	if r.Decision == Denied {
		c++
	}
	return c
}

type waiter struct {
	done  chan result // has room for one
	timer *time.Timer
}

type result struct {
	sequence uint64
	err      error
}

// drops counts records that were left out.
type drops struct {
	count       uint64
	since, till time.Time
}

func (d *drops) add(more drops) {
	if more.count == 0 {
		return
	}
	if d.count == 0 {
		d.since = more.since
	}
	d.count += more.count
	d.till = more.till
}

// claimWithin is after how long the writer sees to a record that nobody has come to wait for.
const claimWithin = 5 * time.Millisecond

func newQueue(mostRecords, mostBytes int, patience time.Duration) *queue {
	q := &queue{
		mostRecords: mostRecords, mostBytes: mostBytes, patience: patience, wake: make(chan struct{}, 1),
		filling: &arena{}, spare: &arena{},
	}
	q.unclaimed = time.AfterFunc(claimWithin, func() {
		if q.len() > 0 {
			q.nudge()
		}
	})
	q.unclaimed.Stop()
	q.tickets.New = func() any { return &waiter{done: make(chan result, 1)} }
	return q
}

func (a *arena) len() int { return len(a.ends) }

func (a *arena) body(i int) []byte {
	start := 0
	if i > 0 {
		start = a.ends[i-1]
	}
	return a.bodies[start:a.ends[i]]
}

func (a *arena) reset() {
	clear(a.waiters)
	a.bodies, a.ends, a.classes = a.bodies[:0], a.ends[:0], a.classes[:0]
	a.waiters, a.sequences = a.waiters[:0], a.sequences[:0]
}

// answer tells those who wait for the records from up to to.
func (a *arena) answer(from, to int, err error) {
	for i := from; i < to; i++ {
		r := result{err: err}
		if err == nil {
			r.sequence = a.sequences[i]
		}
		a.waiters[i].done <- r // has room: it is answered once
		a.waiters[i] = nil
	}
}

// hasRoom is called with the lock held. An empty arena takes anything.
func (q *queue) hasRoom(size int) bool {
	n := q.filling.len()
	return n == 0 || (n < q.mostRecords && len(q.filling.bodies)+size <= q.mostBytes)
}

// put copies the body. It waits for room until ctx ends.
func (q *queue) put(ctx context.Context, body []byte, c class) (Ticket, error) {
	var late <-chan time.Time
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return Ticket{}, ErrClosed
		}
		if q.hasRoom(len(body)) {
			return q.add(body, c), nil
		}
		if q.space == nil {
			q.space = make(chan struct{})
		}
		space := q.space
		q.mu.Unlock()
		q.nudge()
		if _, ok := ctx.Deadline(); !ok && late == nil {
			late = time.After(q.patience)
		}
		select {
		case <-space:
		case <-late:
			return Ticket{}, fmt.Errorf("%w: %w", ErrFull, errImpatient)
		case <-ctx.Done():
			return Ticket{}, fmt.Errorf("%w: %w", ErrFull, context.Cause(ctx))
		}
	}
}

// offer copies the body where there is room, and counts it as dropped where there is none.
func (q *queue) offer(body []byte, c class, now time.Time) (t Ticket, taken bool, err error) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return Ticket{}, false, ErrClosed
	}
	if q.hasRoom(len(body)) {
		return q.add(body, c), true, nil
	}
	q.dropped.add(drops{count: 1, since: now, till: now})
	q.mu.Unlock()
	q.nudge()
	return Ticket{}, false, nil
}

// add is called with the lock held and gives it back.
func (q *queue) add(body []byte, c class) Ticket {
	w := q.tickets.Get().(*waiter)
	a := q.filling
	a.bodies = append(a.bodies, body...)
	a.ends = append(a.ends, len(a.bodies))
	a.classes = append(a.classes, c)
	a.waiters = append(a.waiters, w)
	n := a.len()
	q.mu.Unlock()
	switch {
	case n == 1 && q.write != nil:
		q.unclaimed.Reset(claimWithin)
	case n == 1 || n == q.mostRecords/2: // it is to be taken before it is full
		q.nudge()
	}
	return Ticket{w: w, queue: q}
}

// nudge wakes the writer.
func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take gives the writer what has gathered and goes on with the other arena. The writer gives it back.
func (q *queue) take() (*arena, drops) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.swap()
}

// takeWithin is take where the records, each with so much beside its body, are no more than so many bytes together; else, and
// where there are none, it returns nil.
func (q *queue) takeWithin(bytes int64, each int) (*arena, drops) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := q.filling.len(); n == 0 || int64(len(q.filling.bodies)+n*each) > bytes {
		return nil, drops{}
	}
	return q.swap()
}

func (q *queue) swap() (*arena, drops) {
	taken, dropped := q.filling, q.dropped
	q.filling, q.spare, q.dropped = q.spare, nil, drops{}
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
	return taken, dropped
}

func (q *queue) giveBack(a *arena) {
	a.reset()
	q.mu.Lock()
	q.spare = a
	q.mu.Unlock()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.unclaimed.Stop()
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.filling.len()
}

// Ticket stands for a record on its way to the disk. It is to be waited for once at most; one that nobody waits for
// is no leak, but then nobody knows whether the record was written. The zero Ticket is of a record that was dropped
// and counted.
type Ticket struct {
	w     *waiter
	queue *queue
}

// yields is how often a waiter lets others go first, where there are many or where he can't write himself. On a processor
// with much to do the first time is over before all have queued their records, and the second after one of them has written
// those.
const yields = 2

// Wait returns once the record is written, with its sequence number, or 0 where it was dropped and counted. An error
// is ErrWrite: it isn't in the log; or ErrUnknown, once ctx has ended or where the record was written and a sync that
// it waits for has failed. A context without a deadline ends after Options.Patience.
//
// The caller may be the one who writes, for others as well, unless each write is synced. A write(2) that the disk holds up
// then holds up this one caller for as long as it takes; everybody else who waits gives up in time. Syncs are left to others.
func (t Ticket) Wait(ctx context.Context) (sequence uint64, err error) {
	if t.w == nil {
		return 0, nil
	}
	if r, ok := t.claim(ctx); ok {
		t.queue.tickets.Put(t.w)
		return r.sequence, r.err
	}
	var late <-chan time.Time
	if _, ok := ctx.Deadline(); !ok {
		late = t.w.late(t.queue.patience)
	}
	select {
	case r := <-t.w.done:
		t.w.inTime()
		t.queue.tickets.Put(t.w)
		return r.sequence, r.err
	case <-late:
		err = errImpatient
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// The writer will answer yet, so the waiter can't be used again.
	return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
}

// claim sees to it that the record is written, and returns what came of it where that is known without waiting: to let
// others go first, or to write, costs less than to be woken.
func (t Ticket) claim(ctx context.Context) (r result, ok bool) {
	q := t.queue
	for i := 0; i < yields && (q.write == nil || q.crowd.many.Load()); i++ {
		if r, ok = t.answered(); ok {
			return r, true
		}
		runtime.Gosched()
	}
	if r, ok = t.answered(); ok || q.write == nil || ctx.Err() != nil {
		return r, ok
	}
	q.write()
	return t.answered()
}

func (t Ticket) answered() (result, bool) {
	select {
	case r := <-t.w.done:
		return r, true
	default:
		return result{}, false
	}
}

var errImpatient = errors.New("it took too long")

// late returns a channel on which the time comes when patience ends. The timer is kept, so that waiting allocates
// nothing.
func (w *waiter) late(patience time.Duration) <-chan time.Time {
	if w.timer == nil {
		w.timer = time.NewTimer(patience)
	} else {
		w.timer.Reset(patience)
	}
	return w.timer.C
}

func (w *waiter) inTime() {
	if w.timer != nil {
		w.timer.Stop()
	}
}
