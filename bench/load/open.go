package load

import (
	"context"
	"fmt"
	"time"
)

// Defaults of OpenOptions.
const (
	DefaultLateAfter = time.Millisecond
	DefaultBacklog   = 65_536
)

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

// gather is the least that a sender waits: at higher rates what is due goes out in small bursts, so that waking up does not
// take the CPU that the load needs. It shows in the lag.
const gather = 50 * time.Microsecond

// RunOpen offers requests when they are due by the shape, whether or not earlier ones were answered. What has found no
// connection the timeout after the last was due is given up, so that it ends at most two timeouts after that, or early with
// ctx's error.
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
	result.open()
	run := &openRun{generator: g, options: o, result: result}
	carry, end, err := run.carrier(ctx)
	if err != nil {
		return err
	}
	defer end()
	before := SelfCPU()
	run.start = time.Now()
	run.abandon = run.start.Add(o.Shape.Length + g.timeout)
	err = carry(ctx)
	result.Elapsed = max(time.Since(run.start), o.Shape.Length)
	result.GeneratorCPU = SelfCPU() - before
	if err != nil {
		return err
	}
	return ctx.Err()
}

// openRun is one open run under way.
type openRun struct {
	generator *Generator
	options   OpenOptions
	result    *Sample
	start     time.Time
	abandon   time.Time // what was not sent by then is given up
}

// carrier is what offers the load: loops, where the platform has them and all nodes speak plain HTTP, since those cost least;
// else a goroutine for each connection. end gives back what it holds.
func (r *openRun) carrier(ctx context.Context) (carry func(context.Context) error, end func(), err error) {
	if loops := r.generator.loops(); loops > 0 {
		return r.inLoops(ctx, loops)
	}
	return r.inQueues()
}

// arrival is one request that is due.
type arrival struct {
	n    uint64
	due  time.Duration // since the run began
	lag  time.Duration // by how much the generator was late to see it
	op   uint8
	idle bool // a connection was free when it was seen to be due
}

// dealer hands out the requests of a run in the order in which they are due.
type dealer struct {
	plan   *Plan
	shape  Shape
	n      uint64
	rounds []int // of the nodes, for each operation: every node gets its share of each
}

func newDealer(p *Plan, s Shape) *dealer {
	d := &dealer{plan: p, shape: s, rounds: make([]int, len(p.Operations))}
	for op := range d.rounds {
		d.rounds[op] = op
	}
	return d
}

// next is the next request, the node that it goes to, and in which round of all nodes. It returns false after the last.
func (d *dealer) next() (a arrival, node, round int, ok bool) {
	a.n, a.due = d.n, d.shape.Due(d.n)
	if a.due >= d.shape.Length {
		return a, 0, 0, false
	}
	d.n++
	op := d.plan.deal(a.n)
	a.op = uint8(op) //nolint:gosec // at most MaxOperations
	node, round = d.rounds[op]%len(d.plan.Nodes), d.rounds[op]/len(d.plan.Nodes)
	d.rounds[op]++
	return a, node, round, true
}

// offerings counts what was offered until the result is told.
type offerings struct {
	counts []int64 // by operation
	told   time.Time
}

func (r *openRun) newOfferings() *offerings {
	return &offerings{counts: make([]int64, len(r.result.Operations)), told: r.start}
}

// offered counts one.
func (r *openRun) offered(o *offerings, a *arrival) {
	o.counts[a.op]++
	if s := r.result.Operations[a.op].series; s != nil {
		r.result.lock.Lock()
		s.offered(a.due)
		r.result.lock.Unlock()
	}
}

// tell adds what was offered to the result.
func (r *openRun) tell(o *offerings, now time.Time) {
	r.result.lock.Lock()
	defer r.result.lock.Unlock()
	for op, n := range o.counts {
		r.result.Operations[op].Offered += n
		o.counts[op] = 0
	}
	o.told = now
}

// skip counts a request that is never sent.
func (r *openRun) skip(a *arrival, missed bool) {
	r.result.lock.Lock()
	defer r.result.lock.Unlock()
	op := &r.result.Operations[a.op]
	op.Skipped++
	if missed {
		op.Missed++
	}
}

// over reports that nothing more is sent.
func (r *openRun) over(ctx context.Context, now time.Time) bool {
	return now.After(r.abandon) || ctx.Err() != nil
}

// observe is what became of a request: when a connection took it, when it was sent, and when it was over. What lies between
// the first two was spent on making it, which is not the server's.
func (r *openRun) observe(a *arrival, taken, sent, done time.Time, failure Failure) observation {
	late := taken.Sub(r.start) - a.due
	o := observation{
		op: a.op, due: a.due, lag: a.lag, failure: failure, late: late > r.options.LateAfter,
		service: done.Sub(sent), latency: done.Sub(sent) + late,
	}
	if a.idle {
		o.lag = late
	}
	return o
}
