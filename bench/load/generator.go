package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// DefaultTimeout is how long an answer may take.
	DefaultTimeout = 5 * time.Second
	// redialPause keeps a connection that can't be made from being tried in a tight loop.
	redialPause = 20 * time.Millisecond
	// deadlineStep is how exact the timeout is: setting it for each call would cost more than the call.
	deadlineStep = time.Second
)

// Generator carries out a plan with a fixed number of connections, run after run, over the same connections if the runs are of
// one kind. One run at a time.
type Generator struct {
	plan     Plan
	timeout  time.Duration
	workers  []worker
	lines    []line // the connections of open loads that are carried in loops; nil until the first
	blocking bool   // never in loops
}

// NewGenerator makes one with at least a connection for each node. Connections are made when they are first needed.
func NewGenerator(p Plan, connections int) (*Generator, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	if connections < len(p.Nodes) || connections > MaxConnections {
		return nil, fmt.Errorf("%d connections for %d nodes; there must be one for each at least, and at most %d", connections, len(p.Nodes), MaxConnections)
	}
	g := &Generator{plan: p, timeout: DefaultTimeout, workers: make([]worker, connections)}
	for i := range g.workers {
		node := i % len(p.Nodes)
		g.workers[i] = worker{
			generator: g, number: uint64(i), work: p.Work(i, node), call: Call{Node: node},
		}
	}
	return g, nil
}

// NewTargetGenerator makes one for a target, whose nodes beyond the number of connections are left out.
func NewTargetGenerator(t Target, connections int) (*Generator, error) {
	t.Addresses = t.Addresses[:min(len(t.Addresses), connections)]
	plan, err := t.Plan()
	if err != nil {
		return nil, err
	}
	return NewGenerator(plan, connections)
}

// SetTimeout bounds how long an answer may take. Between runs.
func (g *Generator) SetTimeout(d time.Duration) { g.timeout = d }

// Connections says how many there are.
func (g *Generator) Connections() int { return len(g.workers) }

// Close drops all connections.
func (g *Generator) Close() {
	g.dropWorkers()
	g.dropLines()
}

func (g *Generator) dropWorkers() {
	for i := range g.workers {
		g.workers[i].drop()
	}
}

func (g *Generator) dropLines() {
	for i := range g.lines {
		g.lines[i].drop()
	}
}

// RunClosed asks on every connection as fast as it is answered. It ends at most the timeout after the duration, or early
// with ctx's error.
func (g *Generator) RunClosed(ctx context.Context, duration time.Duration) (*Sample, error) {
	result := NewSample(len(g.plan.Operations))
	return result, g.FillClosed(ctx, duration, result)
}

// FillClosed is RunClosed into a sample that others may watch.
func (g *Generator) FillClosed(ctx context.Context, duration time.Duration, result *Sample) error {
	g.dropLines()
	var working sync.WaitGroup
	before := SelfCPU()
	start := time.Now()
	end := start.Add(duration)
	for i := range g.workers {
		working.Go(func() { g.workers[i].loop(ctx, start, end, result) })
	}
	working.Wait()
	result.Elapsed = time.Since(start)
	result.GeneratorCPU = SelfCPU() - before
	for i := range result.Operations {
		result.Operations[i].Offered = result.Operations[i].Sent
	}
	return ctx.Err()
}

// worker is one connection.
type worker struct {
	generator *Generator
	number    uint64
	calls     uint64 // of a closed loop, so far
	work      Work
	call      Call
	conn      *Conn     // nil before the first call and after one that broke it
	deadline  time.Time // of conn
	gathered  gathering
}

// loop asks until end. A call under way when ctx ends is still waited for.
func (w *worker) loop(ctx context.Context, start, end time.Time, result *Sample) {
	w.gathered.begin(result, start)
	defer w.gathered.flush(end)
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
		w.call.N = w.number<<40 + w.calls // unlike for each connection, and each goes round all operations
		w.call.Operation = w.generator.plan.deal(w.call.N)
		w.calls++
		o := observation{op: uint8(w.call.Operation)} //nolint:gosec // at most MaxOperations
		w.work.Next(&w.call)
		sent := time.Now()
		o.due = sent.Sub(start)
		o.failure = w.exchange(ctx, sent)
		now = time.Now()
		o.latency = now.Sub(sent)
		if o.failure == FailureDial && ctx.Err() != nil {
			return // the run was called off: not a failure of the node
		}
		w.gathered.keep(o, now)
		if o.failure == FailureDial {
			pause(ctx, redialPause)
			now = time.Now()
		}
	}
}

// exchange makes the call.
func (w *worker) exchange(ctx context.Context, now time.Time) Failure {
	if w.conn == nil {
		node := &w.generator.plan.Nodes[w.call.Node]
		c, err := Dial(ctx, node.Address, node.TLS)
		if err != nil {
			return FailureOf(err)
		}
		w.conn, w.deadline = c, time.Time{}
	}
	if deadline := now.Add(w.generator.timeout); deadline.Sub(w.deadline) > 0 {
		w.deadline = deadline.Add(deadlineStep)
		if err := w.conn.Until(w.deadline); err != nil {
			w.drop()
			return FailureOf(err)
		}
	}
	status, body, err := w.conn.Exchange(w.call.Request)
	if err != nil {
		w.drop()
		return FailureOf(err)
	}
	failure := w.work.Judge(&w.call, status, body)
	if w.conn.answer.close {
		w.drop()
	}
	return failure
}

func (w *worker) drop() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
