package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// Drive offers a load and returns what became of it. Where only the cleaning up fails, it returns the result as well as
// the error.
func Drive(ctx context.Context, o DriveOptions) (_ *result.Result, err error) {
	o.setDefaults()
	workload, err := workloadNamed(o.Workload)
	if err != nil {
		return nil, err
	}
	if err := o.validate(workload); err != nil {
		return nil, err
	}
	began := time.Now()
	d := &drive{DriveOptions: o, workload: workload}
	defer func() { err = errors.Join(err, d.close()) }()
	defer o.Progress.Done()
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	restore, err := d.ground.cpus.pin()
	if err != nil {
		return nil, err
	}
	defer restore()
	if err := d.run(ctx); err != nil {
		return nil, err
	}
	r, err := d.result(ctx)
	if err != nil {
		return nil, err
	}
	r.Started, r.Seconds = began, time.Since(began).Seconds()
	return r, nil
}

// drive is one run of Drive.
type drive struct {
	DriveOptions
	workload  *DriveWorkload
	ground    *ground
	fixture   *fixture
	job       *job
	generator *load.Generator
	exchange  result.Exchange

	warm     *load.Sample
	sample   *load.Sample
	timeline timeline
	steps    []result.Step
	highest  *float64 // rate that met the SLO
	limited  string   // why a search ended, where that is the generator's fault
	before   []scraped
	after    []scraped
	further  []result.Subject // that settle has found
	verified int
}

func (d *drive) prepare(ctx context.Context) (err error) {
	if d.ground, err = groundOf(ctx, &d.DriveOptions); err != nil {
		return err
	}
	if d.Connections < len(d.ground.nodes) {
		return fmt.Errorf("%d connections to %d nodes; there must be one for each at least", d.Connections, len(d.ground.nodes))
	}
	if d.fixture, err = newFixture(ctx, d.ground.api); err != nil {
		return err
	}
	if d.job, err = d.workload.prepare(ctx, d); err != nil {
		return err
	}
	if err := d.probe(ctx); err != nil {
		return err
	}
	plan := load.Plan{Nodes: d.ground.nodes, Operations: d.job.operations, Deal: d.job.deal, Work: d.job.work}
	if d.generator, err = load.NewGenerator(plan, d.Connections); err != nil {
		return err
	}
	d.generator.SetTimeout(d.Timeout)
	return nil
}

// probe makes one exchange of the first operation, so that a refusal is found before it is measured, and the sizes are
// known. What may be used only once is not used up by it.
func (d *drive) probe(ctx context.Context) error {
	node := d.ground.nodes[0]
	c, err := load.Dial(ctx, node.Address, node.TLS)
	if err != nil {
		return err
	}
	defer c.Close()
	if d.workload.Once {
		return nil
	}
	if err := c.Until(time.Now().Add(d.Timeout)); err != nil {
		return err
	}
	var call load.Call
	work := d.job.work(0, 0)
	work.Next(&call)
	status, body, err := c.Exchange(call.Request)
	if err != nil {
		return fmt.Errorf("asking %s for the first time: %w", node.Address, err)
	}
	if failure := work.Judge(&call, status, body); failure != "" {
		return fmt.Errorf("asking %s for the first time: %s: it answered %d %.300s", node.Address, failure, status, body)
	}
	d.exchange = result.Exchange{Request: len(call.Request), Response: c.ResponseBytes(), Body: len(body), Token: d.job.token}
	if token := tokenIn(body); token != nil {
		d.exchange.Token = len(token)
	}
	return nil
}

func (d *drive) run(ctx context.Context) (err error) {
	if d.beforeLoad != nil {
		d.beforeLoad()
	}
	if d.WarmUp > 0 {
		if d.warm, err = d.offer(ctx, "warm-up", d.warmUpShape()); err != nil {
			return err
		}
	}
	d.job.evidence.forget()
	d.before = scrapeAll(ctx, d.ground.ops)
	if d.Search {
		err = d.search(ctx)
	} else {
		err = d.measure(ctx)
	}
	if err != nil {
		return err
	}
	d.after = scrapeAll(ctx, d.ground.ops)
	return d.settle(ctx)
}

// measure offers the load of the measured time, with its faults beside it.
func (d *drive) measure(ctx context.Context) (err error) {
	faults := d.job.faults
	if d.Stall > 0 {
		faults = d.stallOne
	}
	ended := make(chan error, 1)
	lasting, cancel := context.WithCancel(ctx)
	defer cancel()
	d.timeline.start, d.timeline.tell = time.Now(), d.Progress.Event
	if faults != nil {
		go func() { ended <- faults(lasting, &d.timeline) }()
	} else {
		ended <- nil
	}
	d.sample, err = d.offer(ctx, "measuring", d.shape())
	cancel()
	return errors.Join(err, <-ended)
}

// offer runs the generator once.
func (d *drive) offer(ctx context.Context, phase string, shape load.Shape) (*load.Sample, error) {
	sample := load.NewSample(len(d.job.operations))
	length := shape.Length
	if d.Closed && phase != "warm-up" {
		length = d.Duration
	}
	sample.WithSeries(length)
	watching, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); d.show(watching, phase, shape, length, sample) }()
	defer func() { cancel(); <-watched }()
	if d.Closed {
		return sample, d.generator.FillClosed(ctx, length, sample)
	}
	return sample, d.generator.FillOpen(ctx, load.OpenOptions{Shape: shape, LateAfter: d.LateAfter, Backlog: d.Backlog}, sample)
}

// showEvery is how often progress is looked at.
const showEvery = 250 * time.Millisecond

// show tells how the run stands until ctx ends.
func (d *drive) show(ctx context.Context, phase string, shape load.Shape, length time.Duration, sample *load.Sample) {
	if d.Progress == nil {
		return
	}
	start := time.Now()
	var last load.Progress
	then, cpu := start, load.SelfCPU()
	for pauseFor(ctx, showEvery) == nil {
		p, now, used := sample.Progress(), time.Now(), load.SelfCPU()
		since := now.Sub(then).Seconds()
		tick := report.Tick{
			Phase: phase, Subject: d.Workload, Elapsed: now.Sub(start), Total: length,
			Rate: float64(p.Succeeded-last.Succeeded) / since, Errors: p.Failed, Skipped: p.Skipped,
			Generator: (used - cpu).Seconds() / since / float64(generatorCPUs()),
		}
		if !d.Closed {
			tick.Offered = float64(p.Offered-last.Offered) / since
		}
		d.Progress.Show(tick)
		last, then, cpu = p, now, used
	}
}

// settle lets what goes on end, and verifies what was kept.
func (d *drive) settle(ctx context.Context) (err error) {
	if d.job.settle != nil {
		if d.further, err = d.job.settle(ctx); err != nil {
			return err
		}
	}
	judge, err := newTokenJudge(ctx, d.ground.api)
	if err != nil {
		return fmt.Errorf("verifying what was answered: %w", err)
	}
	d.verified = d.job.evidence.judge(judge, d.job.expected, d.sample)
	return nil
}

func (d *drive) close() error {
	if d.generator != nil {
		d.generator.Close()
	}
	if d.job != nil && d.job.stop != nil {
		d.job.stop()
	}
	var err error
	if d.ground == nil {
		return nil
	}
	if d.fixture != nil && d.ground.own == nil && d.ground.self == nil {
		err = d.fixture.remove(context.Background()) // bounded by itself; also after an interrupt
	}
	return errors.Join(err, d.ground.close())
}

func (d *drive) result(ctx context.Context) (*result.Result, error) {
	r := &result.Result{
		Command: d.Command, Environment: environmentOf(), Workload: d.workload.Name, About: d.workload.About,
		Load: d.loadOf(), Exchange: &d.exchange, Nodes: nodesOf(d.before, d.after), Faults: d.timeline.events,
	}
	if d.exchange.Request == 0 {
		r.Exchange = nil
	}
	r.Environment.ServerCPUs, r.Environment.GeneratorCPUs, r.Environment.Pinned = d.ground.cpus.server, d.ground.cpus.generator, d.ground.cpus.pinned()
	if d.ground.own != nil {
		fsync, err := MeasureFsync(d.ground.own.dir, "data folders of the run's own nodes")
		if err != nil {
			return nil, err
		}
		r.Environment.Fsync = fsync
	}
	share := d.sample.GeneratorCPU.Seconds() / d.sample.Elapsed.Seconds() / float64(generatorCPUs())
	r.Generator = &result.Generator{CPU: share, Bound: share >= starved}
	for i := range d.sample.Operations {
		s, err := subjectOf(d.job.operations[i], result.RoleMeasured, &d.sample.Operations[i], d.sample.Elapsed.Seconds())
		if err != nil {
			return nil, err
		}
		if d.warm != nil {
			s.WarmUp = warmUpOf(&d.warm.Operations[i], d.warm.Elapsed.Seconds())
		}
		s.Generate, s.Bound = &share, r.Generator.Bound
		r.Subjects = append(r.Subjects, s)
	}
	if len(r.Subjects) == 1 {
		costOf(&r.Subjects[0], r.Nodes, len(d.ground.ops))
	}
	r.Subjects = append(r.Subjects, d.further...)
	if d.SLO != nil {
		r.SLO = d.sloOf()
	}
	d.judge(r, share)
	return r, ctx.Err()
}

// costOf is what the only operation of a run cost its servers, where all of them have told.
func costOf(s *result.Subject, nodes []result.Node, servers int) {
	if len(nodes) == 0 || len(nodes) < servers || s.Counts.Completed == 0 {
		return
	}
	var cpu, allocs float64
	for i := range nodes {
		cpu += nodes[i].CPU
		if nodes[i].AllocsPer != nil {
			allocs += *nodes[i].AllocsPer * float64(nodes[i].Requests)
		}
	}
	cpu, allocs = cpu*1e6/float64(s.Counts.Completed), allocs/float64(s.Counts.Completed)
	s.CPUPer, s.Allocs = &cpu, &allocs
}

func (d *drive) loadOf() result.Load {
	l := result.Load{Model: result.Closed, Connections: d.Connections, Seconds: d.length().Seconds(), WarmUp: d.WarmUp.Seconds()}
	if d.Closed {
		return l
	}
	shape := d.shape()
	l.Model, l.Rate, l.Arrival, l.LateAfter = result.Open, shape.To, "constant", float64(d.LateAfter.Microseconds())
	if shape.From != shape.To {
		l.From = shape.From
	}
	if d.Search {
		l.Steps, l.Seconds = d.steps, d.Step.Seconds()
		if d.highest != nil {
			l.Rate = *d.highest
		}
	}
	return l
}

// judge says whether the figures may be believed, and what to know besides.
func (d *drive) judge(r *result.Result, share float64) {
	r.Verdict.Reasons = invalid(d.sample, share, d.MaxLag)
	if d.limited != "" {
		r.Verdict.Reasons = append(r.Verdict.Reasons, d.limited)
	}
	r.Verdict.Valid = len(r.Verdict.Reasons) == 0
	note := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	if d.verified > 0 {
		note("%d answers, drawn from the whole run, were verified afterwards: signatures by the published keys, and what tokens and introspection say against what was asked for", d.verified)
	}
	total := d.sample.Total()
	if total.Skipped > total.Missed {
		note("%d requests were never sent, as those that waited for their node already were its share of the %d that may wait", total.Skipped-total.Missed, d.Backlog)
	}
	if d.Closed {
		note("closed loop: latencies are those under %d connections that wait for their answers, and hide what a server that stalls does to others", d.Connections)
	}
	if (d.ground.self != nil && !d.ground.cpus.pinned()) || d.ground.own != nil {
		note("servers and generator share the CPUs")
	}
	if len(d.ground.ops) > 0 && slices.ContainsFunc(d.after, func(s scraped) bool { return s.err != nil }) {
		note("some nodes did not tell their metrics when the load was over")
	}
}
