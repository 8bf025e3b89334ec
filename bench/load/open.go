package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of OpenOptions.
const (
	DefaultLateAfter = time.Millisecond
	DefaultBacklog   = 65_536
)

// gather is how long the pacer waits at least: at rates beyond it sends what is due in small heaps, so that waking up
// does not take the CPU that the load needs. It shows in the lag.
const gather = 50 * time.Microsecond

// OpenOptions of an open run.
type OpenOptions struct {
	Shape     Shape
	LateAfter time.Duration // a request that is sent this long after it was due is counted as late
	Backlog   int           // requests that may wait for a connection, over all nodes
}

func (o *OpenOptions) setDefaults() {
	if o.LateAfter == 0 {
		o.LateAfter = DefaultLateAfter
	}
	if o.Backlog == 0 {
		o.Backlog = DefaultBacklog
	}
}

// Validate says what is wrong with them.
func (o *OpenOptions) Validate() error {
	if err := o.Shape.Validate(); err != nil {
		return err
	}
	if o.LateAfter < 0 {
		return fmt.Errorf("late-after is %s; it can't be negative", o.LateAfter)
	}
	if o.Backlog < 0 || o.Backlog > MaxBacklog {
		return fmt.Errorf("backlog is %d; it must be between 1 and %d", o.Backlog, MaxBacklog)
	}
	return nil
}

// arrival is one request that is due.
type arrival struct {
	n    uint64
	due  time.Duration // since the run began
	lag  time.Duration // by how much the pacer was late
	op   uint8
	idle bool // a connection was free when it was due
}

// queue is what is due at one node.
type queue struct {
	arrivals    chan arrival
	connections int
	busy        atomic.Int32 // connections with a call under way
}

// free reports whether a connection of the node has nothing to do.
func (q *queue) free() bool { return int(q.busy.Load())+len(q.arrivals) < q.connections }

// RunOpen offers requests when they are due by the shape, whether or not earlier ones were answered. It ends at most the
// timeout after the last was due, or early with ctx's error.
func (g *Generator) RunOpen(ctx context.Context, o OpenOptions) (*Sample, error) {
	result := NewSample(len(g.plan.Operations))
	return result, g.FillOpen(ctx, o, result)
}

// FillOpen is RunOpen into a sample that others may watch.
func (g *Generator) FillOpen(ctx context.Context, o OpenOptions, result *Sample) error {
	o.setDefaults()
	if err := o.Validate(); err != nil {
		return err
	}
	pacer, err := newPacer()
	if err != nil {
		return err
	}
	defer pacer.close()
	result.open()
	queues := g.queues(o.Backlog)
	var working sync.WaitGroup
	before := SelfCPU()
	run := openRun{generator: g, options: o, result: result, queues: queues, start: time.Now()}
	run.abandon = run.start.Add(o.Shape.Length + g.timeout)
	for i := range g.workers {
		working.Go(func() { run.serve(ctx, &g.workers[i]) })
	}
	run.pace(ctx, pacer)
	for i := range queues {
		close(queues[i].arrivals)
	}
	working.Wait()
	result.Elapsed = max(time.Since(run.start), o.Shape.Length)
	result.GeneratorCPU = SelfCPU() - before
	return ctx.Err()
}

func (g *Generator) queues(backlog int) []*queue {
	each := max(1, backlog/len(g.plan.Nodes))
	queues := make([]*queue, len(g.plan.Nodes))
	for i := range queues {
		queues[i] = &queue{arrivals: make(chan arrival, each)}
	}
	for i := range g.workers {
		queues[g.workers[i].call.Node].connections++
	}
	return queues
}

// openRun is one open run under way.
type openRun struct {
	generator *Generator
	options   OpenOptions
	result    *Sample
	queues    []*queue
	start     time.Time
	abandon   time.Time // what was not sent by then is given up
}

// pace puts requests into the queues when they are due.
func (r *openRun) pace(ctx context.Context, pacer *pacer) {
	offered := make([]int64, len(r.result.Operations))
	turns := make([]int, len(offered)) // of the nodes, for each operation: every node gets its share of each
	for op := range turns {
		turns[op] = op
	}
	var told time.Duration
	now := time.Since(r.start)
	for n := uint64(0); ; n++ {
		due := r.options.Shape.Due(n)
		if due >= r.options.Shape.Length {
			break
		}
		if due > now {
			if due-told > flushAfter {
				r.tell(offered)
				told = due
			}
			pacer.wait(max(due-time.Since(r.start), gather))
			now = time.Since(r.start)
			for due > now { // woken early, by a clock's rounding
				pacer.wait(due - now)
				now = time.Since(r.start)
			}
			if ctx.Err() != nil {
				break
			}
		} else if n%256 == 0 { // behind: see by how much
			now = time.Since(r.start)
			if ctx.Err() != nil {
				break
			}
		}
		op := r.generator.plan.deal(n)
		q := r.queues[turns[op]%len(r.queues)]
		turns[op]++
		offered[op]++
		a := arrival{n: n, due: due, lag: now - due, op: uint8(op), idle: q.free()} //nolint:gosec // at most MaxOperations
		r.offer(q, a)
	}
	r.tell(offered)
}

// offer queues a request, or counts it as skipped.
func (r *openRun) offer(q *queue, a arrival) {
	select {
	case q.arrivals <- a:
	default:
		r.skip(a, int(q.busy.Load()) < q.connections)
	}
	if s := r.result.Operations[a.op].series; s != nil {
		r.result.lock.Lock()
		s.offered(a.due)
		r.result.lock.Unlock()
	}
}

func (r *openRun) skip(a arrival, missed bool) {
	r.result.lock.Lock()
	defer r.result.lock.Unlock()
	op := &r.result.Operations[a.op]
	op.Skipped++
	if missed {
		op.Missed++
	}
}

// tell adds what was offered to the result.
func (r *openRun) tell(offered []int64) {
	r.result.lock.Lock()
	defer r.result.lock.Unlock()
	for op, n := range offered {
		r.result.Operations[op].Offered += n
		offered[op] = 0
	}
}

// serve sends what is due at the worker's node until the queue is closed and empty.
func (r *openRun) serve(ctx context.Context, w *worker) {
	w.flushed = r.start
	defer func() { w.flush(r.result, time.Now()) }()
	q := r.queues[w.call.Node]
	for {
		var a arrival
		var ok bool
		select {
		case a, ok = <-q.arrivals:
		default: // nothing waits: what was gathered is not kept back while this connection is idle
			if len(w.gathered) > 0 && time.Since(w.flushed) > flushAfter {
				w.flush(r.result, time.Now())
			}
			a, ok = <-q.arrivals
		}
		if !ok {
			return
		}
		q.busy.Add(1)
		r.send(ctx, w, a)
		q.busy.Add(-1)
	}
}

func (r *openRun) send(ctx context.Context, w *worker, a arrival) {
	taken := time.Now()
	if taken.After(r.abandon) || ctx.Err() != nil {
		r.skip(a, false)
		return
	}
	due := r.start.Add(a.due)
	w.call.N, w.call.Operation, w.call.Due = a.n, int(a.op), due
	w.work.Next(&w.call)
	sent := time.Now()
	preparing := sent.Sub(taken) // is not the server's
	o := observation{op: a.op, due: a.due, lag: a.lag}
	if a.idle {
		o.lag = taken.Sub(due)
	}
	o.late = taken.Sub(due) > r.options.LateAfter
	o.failure = w.exchange(ctx, sent)
	done := time.Now()
	o.service = done.Sub(sent)
	o.latency = done.Sub(due) - preparing
	w.keep(o, r.result, done)
}
