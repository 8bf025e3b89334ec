package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// queue is where records wait for the writer: an arena that is filled while the writer empties another. What one
// write takes (group commit) is whatever came during the one before.
type queue struct {
	mostRecords int
	mostBytes   int
	patience    time.Duration // for contexts without a deadline
	wake        chan struct{} // holds one token while there may be something to take

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

func newQueue(mostRecords, mostBytes int, patience time.Duration) *queue {
	q := &queue{
		mostRecords: mostRecords, mostBytes: mostBytes, patience: patience, wake: make(chan struct{}, 1),
		filling: &arena{}, spare: &arena{},
	}
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
	return Ticket{}, false, nil
}

// add is called with the lock held and gives it back.
func (q *queue) add(body []byte, c class) Ticket {
	w := q.tickets.Get().(*waiter)
	a := q.filling
	first := a.len() == 0
	a.bodies = append(a.bodies, body...)
	a.ends = append(a.ends, len(a.bodies))
	a.classes = append(a.classes, c)
	a.waiters = append(a.waiters, w)
	q.mu.Unlock()
	if first {
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

// yields is how often a waiter lets others go first before it has itself woken, which costs several times as much. On a
// processor with much to do the first time is over before the writer has had its turn, and the second after it.
const yields = 3

// Wait returns once the record is written, with its sequence number, or 0 where it was dropped and counted. An error
// is ErrWrite: it isn't in the log; or ErrUnknown, once ctx has ended or where the record was written and a sync that
// it waits for has failed. A context without a deadline ends after Options.Patience.
func (t Ticket) Wait(ctx context.Context) (sequence uint64, err error) {
	if t.w == nil {
		return 0, nil
	}
	for range yields {
		select {
		case r := <-t.w.done:
			t.queue.tickets.Put(t.w)
			return r.sequence, r.err
		default:
			runtime.Gosched()
		}
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
