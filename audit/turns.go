package audit

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// run writes what callers leave to it, and what is due by the clock.
func (w *writer) run(due time.Time) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(due))
		stopping := false
		select {
		case <-w.log.queue.wake:
		case <-timer.C:
		case at := <-w.sooner:
			due = earlier(due, at)
			continue
		case <-w.stop:
			stopping = true
		}
		due = w.attend(stopping)
		if stopping {
			return
		}
	}
}

// attend writes what there is, and what is due, and returns when something is due next.
func (w *writer) attend(stopping bool) (due time.Time) {
	// On a processor with much to do, whoever is about to append goes first: one write then takes what many of them
	// wait for. Where nobody else wants the processor this costs nothing.
	runtime.Gosched()
	w.turn.Lock()
	w.write(w.log.queue.take())

	now := time.Now()
	aged := w.used() && now.Sub(w.begun) >= w.log.options.SegmentAge
	unsigned := w.written.tree.size > 0 && (stopping || now.Sub(w.signed) >= w.log.options.CheckpointEvery)
	if w.failure == nil && (aged || unsigned) {
		w.fail(w.tidy(aged && !stopping), 0)
	}
	due = w.due(time.Now())
	if w.release() {
		w.log.queue.nudge()
	}
	return due
}

// rounds is how many batches a caller writes: the one with his own record, and what came meanwhile for others. The
// writer's own goroutine goes on from there.
const rounds = 2

// lend has the caller write what has queued, where that takes a write and nothing else. It does nothing while somebody
// else writes, who will see to it.
func (w *writer) lend() {
	defer w.crash()
	for range rounds {
		if !w.turn.TryLock() {
			return
		}
		if !w.lendOnce(time.Now()) {
			return
		}
	}
	w.log.queue.nudge()
}

// lendOnce is called with the turn and gives it back. It reports whether the caller may go on.
func (w *writer) lendOnce(now time.Time) bool {
	var a *arena
	var dropped drops
	if w.easy(now) {
		a, dropped = w.log.queue.takeWithin(w.room())
	}
	if a == nil { // nothing is there, as somebody else has written it; or the rest is not for callers
		if w.release() {
			w.log.queue.nudge()
		}
		return false
	}
	before := w.due(now)
	w.write(a, dropped)
	if due := w.due(now); due.Before(before) {
		select {
		case <-w.sooner:
		default:
		}
		w.sooner <- due // has room: it is filled under turn
	}
	return w.release()
}

// easy reports whether a write is no more than that. All else may have to wait for a sync, while a caller may have given a
// time by which to give up.
func (w *writer) easy(now time.Time) bool {
	return w.failure == nil && !w.dirty && !w.stuck && w.size > 0 && w.log.syncer.keepsUp(now)
}

// room is what may be written into this segment for certain, and what each record takes of it beside its body.
func (w *writer) room() (bytes int64, each int) {
	return w.log.options.SegmentBytes - w.size - 2*checkpointRoom, overhead(w.log.node) + checkpointRoom/w.log.options.CheckpointRecords + 1
}

// crash ends the process after a panic in the middle of a write, as it does in a goroutine of the writer's own: a handler
// that recovers from it would leave a log that nobody can write any more.
func (w *writer) crash() {
	if p := recover(); p != nil {
		stack := debug.Stack()
		go panic(fmt.Sprintf("writing the audit log: %v\n%s", p, stack))
		select {}
	}
}

// release gives the turn back, and reports whether there is more to write: who came meanwhile found the turn taken, and
// waits.
func (w *writer) release() (more bool) {
	w.turn.Unlock()
	return w.log.queue.len() > 0
}

// write is called with the turn, for what was taken from the queue.
func (w *writer) write(a *arena, dropped drops) {
	w.dropped.add(dropped)
	w.commit(a)
	w.log.queue.crowd.wrote(a.len())
	w.log.queue.giveBack(a)
}

// crowd tells whoever is about to write whether others would gladly have their records in the same write.
type crowd struct {
	many atomic.Bool
	few  int // writes of a few since the last one of many; under the writer's turn
}

const (
	// crowded is of how many records a write is that many wait for.
	crowded = 4
	// crowdLeaves is how many writes of a few in a row say that there are not many any more.
	crowdLeaves = 4
	// crowdAfter is after how many writes of a few one is made as if there were many: on a single processor nobody comes
	// before the one who writes unless he is let.
	crowdAfter = 16
)

func (c *crowd) wrote(records int) {
	switch {
	case records == 0:
		return
	case records >= crowded:
		c.few = 0
	default:
		c.few++
	}
	c.many.Store(c.few < crowdLeaves || c.few%crowdAfter == 0)
}
