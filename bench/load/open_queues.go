package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// queue is what is due at one node.
type queue struct {
	arrivals    chan arrival
	connections int
	busy        atomic.Int32 // connections with a call under way
}

// free reports whether a connection of the node has nothing to do.
func (q *queue) free() bool { return int(q.busy.Load())+len(q.arrivals) < q.connections }

// queued is an open run with a goroutine that keeps time and one for each connection.
type queued struct {
	*openRun
	pacer  *pacer
	queues []*queue
}

func (r *openRun) inQueues() (carry func(context.Context) error, end func(), err error) {
	pacer, err := newPacer()
	if err != nil {
		return nil, nil, err
	}
	q := &queued{openRun: r, pacer: pacer, queues: make([]*queue, len(r.generator.plan.Nodes))}
	each := max(1, r.options.Backlog/len(q.queues))
	for i := range q.queues {
		q.queues[i] = &queue{arrivals: make(chan arrival, each)}
	}
	for i := range r.generator.workers {
		q.queues[r.generator.workers[i].call.Node].connections++
	}
	return q.carry, pacer.close, nil
}

func (q *queued) carry(ctx context.Context) error {
	var working sync.WaitGroup
	for i := range q.generator.workers {
		working.Go(func() { q.serve(ctx, &q.generator.workers[i]) })
	}
	q.pace(ctx)
	for i := range q.queues {
		close(q.queues[i].arrivals)
	}
	working.Wait()
	return nil
}

// pace puts requests into the queues when they are due.
func (q *queued) pace(ctx context.Context) {
	deal, offered := newDealer(&q.generator.plan, q.options.Shape), q.newOfferings()
	now := time.Since(q.start)
	for n := 0; ; n++ {
		a, node, _, ok := deal.next()
		if !ok {
			break
		}
		if a.due > now {
			if at := q.start.Add(a.due); at.Sub(offered.told) > flushAfter {
				q.tell(offered, at)
			}
			q.pacer.wait(max(a.due-time.Since(q.start), gather))
			now = time.Since(q.start)
			for a.due > now { // woken early, by a clock's rounding
				q.pacer.wait(a.due - now)
				now = time.Since(q.start)
			}
			if ctx.Err() != nil {
				break
			}
		} else if n%256 == 0 { // behind: see by how much
			now = time.Since(q.start)
			if ctx.Err() != nil {
				break
			}
		}
		to := q.queues[node]
		a.lag, a.idle = now-a.due, to.free()
		q.offer(to, &a)
		q.offered(offered, &a)
	}
	q.tell(offered, time.Now())
}

// offer queues a request, or counts it as skipped.
func (q *queued) offer(to *queue, a *arrival) {
	select {
	case to.arrivals <- *a:
	default:
		q.skip(a, int(to.busy.Load()) < to.connections)
	}
}

// serve sends what is due at the worker's node until the queue is closed and empty.
func (q *queued) serve(ctx context.Context, w *worker) {
	w.gathered.begin(q.result, q.start)
	defer func() { w.gathered.flush(time.Now()) }()
	from := q.queues[w.call.Node]
	for {
		var a arrival
		var ok bool
		select {
		case a, ok = <-from.arrivals:
		default: // nothing waits: what was gathered is not kept back while this connection is idle
			if now := time.Now(); w.gathered.old(now) {
				w.gathered.flush(now)
			}
			a, ok = <-from.arrivals
		}
		if !ok {
			return
		}
		from.busy.Add(1)
		q.send(ctx, w, &a)
		from.busy.Add(-1)
	}
}

func (q *queued) send(ctx context.Context, w *worker, a *arrival) {
	taken := time.Now()
	if q.over(ctx, taken) {
		q.skip(a, false)
		return
	}
	w.call.N, w.call.Operation, w.call.Due = a.n, int(a.op), q.start.Add(a.due)
	w.work.Next(&w.call)
	sent := time.Now()
	failure := w.exchange(ctx, sent)
	done := time.Now()
	w.gathered.keep(q.observe(a, taken, sent, done, failure), done)
}
