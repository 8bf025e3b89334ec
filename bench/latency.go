package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// What the project asks of itself at half of what a server can do, with the generator on the same CPUs: p99 as the median
// of the runs, or, on a machine that can't, so many times that of a handler that does nothing at the same rate.
const (
	MintP99Target       = 1500 * time.Microsecond
	IntrospectP99Target = 800 * time.Microsecond
	EmptyP99Factor      = 1.5
)

// LatencyOptions say how latency at half of the maximum is measured.
type LatencyOptions struct {
	Binary      string
	Pin         bool // server and generator have CPUs of their own
	Connections int
	Runs        int
	Duration    time.Duration // of each run
	Maximum     time.Duration // of the closed loop that finds the maximum
	WarmUp      time.Duration // of each subject
	MaxLag      time.Duration
	Command     []string
	Progress    *report.Progress
	Logger      *slog.Logger
}

// Defaults of LatencyOptions.
const (
	DefaultLatencyRuns     = 5
	DefaultLatencyDuration = 4 * time.Second
	DefaultLatencyMaximum  = 3 * time.Second
)

func (o *LatencyOptions) setDefaults() {
	o.Connections = orDefault(o.Connections, DefaultConcurrency)
	o.Runs = orDefault(o.Runs, DefaultLatencyRuns)
	o.Duration = orDefault(o.Duration, DefaultLatencyDuration)
	o.Maximum = orDefault(o.Maximum, DefaultLatencyMaximum)
	o.MaxLag = orDefault(o.MaxLag, DefaultMaxLag)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *LatencyOptions) validate() error {
	switch {
	case o.Binary == "":
		return errors.New("the path of the deputy binary is missing; servers run in processes of their own")
	case o.Connections < 1 || o.Connections > load.MaxConnections:
		return fmt.Errorf("connections is %d; it must be between 1 and %d", o.Connections, load.MaxConnections)
	case o.Runs < 1 || o.Runs > MaxRounds:
		return fmt.Errorf("runs is %d; it must be between 1 and %d", o.Runs, MaxRounds)
	case o.Duration < minRound || o.Maximum < minRound || o.Duration > maxDrive || o.Maximum > maxDrive:
		return fmt.Errorf("a run takes %s and finding the maximum %s; each must take %s to %s", o.Duration, o.Maximum, minRound, maxDrive)
	case o.WarmUp < 0:
		return fmt.Errorf("warm-up is %s; it can't be negative", o.WarmUp)
	}
	return nil
}

// MeasureLatency finds what a server of the run's own can do at most, by a closed loop, and then offers half of that,
// open, run after run: mint, introspection, and between them the empty handler at the same rates; at that of mint also
// handler + sign, which shows how much of a mint's latency any server on this machine would have that signs.
func MeasureLatency(ctx context.Context, o LatencyOptions) (_ *result.Result, err error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	began := time.Now()
	m := &latencyRun{LatencyOptions: o}
	defer func() { err = errors.Join(err, m.close()) }()
	defer o.Progress.Done()
	if err := m.prepare(ctx); err != nil {
		return nil, err
	}
	restore, err := m.drive.ground.cpus.pin()
	if err != nil {
		return nil, err
	}
	defer restore()
	if err := m.measure(ctx); err != nil {
		return nil, err
	}
	r, err := m.result()
	if err != nil {
		return nil, err
	}
	r.Started, r.Seconds = began, time.Since(began).Seconds()
	return r, nil
}

// latencyRun is one MeasureLatency under way.
type latencyRun struct {
	LatencyOptions
	drive   drive // its ground and fixture
	pairs   []*latencyPair
	reasons []string
}

// latencyPair is a workload, and the ceilings at its rate.
type latencyPair struct {
	name     string
	target   time.Duration
	maximum  float64 // closed loop
	ceilings *ceilingServer
	measured *latencySubject
	empty    *latencySubject
	subjects []*latencySubject // those two, and what else is shown beside them
}

type latencySubject struct {
	name      string
	role      result.Role
	generator *load.Generator
	warm      *load.Sample
	samples   []*load.Sample
}

func (m *latencyRun) prepare(ctx context.Context) (err error) {
	m.drive.DriveOptions = DriveOptions{Self: true, Pin: m.Pin, Binary: m.Binary, Logger: m.Logger}
	m.drive.setDefaults()
	d := &m.drive
	if d.ground, err = groundOf(ctx, &d.DriveOptions); err != nil {
		return err
	}
	if d.fixture, err = newFixture(ctx, d.ground.api); err != nil {
		return err
	}
	for _, w := range []struct {
		name     string
		target   time.Duration
		make     func(context.Context, *drive) (*job, error)
		ceilings []Ceiling
	}{
		{"mint", MintP99Target, prepareMint, []Ceiling{CeilingEmpty, CeilingSign}},
		{"introspect", IntrospectP99Target, prepareWarm, []Ceiling{CeilingEmpty}},
	} {
		if d.job, err = w.make(ctx, d); err != nil {
			return err
		}
		d.workload = &DriveWorkload{Name: w.name}
		if err := d.probe(ctx); err != nil {
			return err
		}
		p := &latencyPair{name: w.name, target: w.target}
		m.pairs = append(m.pairs, p) // what it has started by then ends with the run
		sizes := CeilingOptions{Kinds: w.ceilings, BodyBytes: d.exchange.Body, TokenBytes: d.exchange.Token}
		if p.ceilings, err = startCeilings(ctx, m.Binary, sizes, nil, d.ground.cpus.server, nil); err != nil {
			return err
		}
		if err := p.prepare(d, w.ceilings, m.Connections); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the generators of the workload that the drive has just prepared: of the nodes, and of the ceilings, which
// get the same requests.
func (p *latencyPair) prepare(d *drive, ceilings []Ceiling, connections int) (err error) {
	plan := load.Plan{Nodes: d.ground.nodes, Operations: d.job.operations, Work: d.job.work}
	if p.measured, err = p.add(p.name, result.RoleMeasured, plan, connections); err != nil {
		return err
	}
	work := plan.Work
	plan.Work = func(connection, node int) load.Work { return unjudged{work(connection, node)} }
	for _, kind := range ceilings {
		plan.Nodes = []load.Node{{Address: p.ceilings.addresses[kind]}}
		s, err := p.add(ceilingTitles[kind], result.RoleBaseline, plan, connections)
		if err != nil {
			return err
		}
		if kind == CeilingEmpty {
			p.empty = s
		}
	}
	return nil
}

func (p *latencyPair) add(name string, role result.Role, plan load.Plan, connections int) (*latencySubject, error) {
	generator, err := load.NewGenerator(plan, connections)
	if err != nil {
		return nil, err
	}
	s := &latencySubject{name: name, role: role, generator: generator}
	p.subjects = append(p.subjects, s)
	return s, nil
}

// unjudged is work whose answers come from a server that only answers.
type unjudged struct{ load.Work }

func (unjudged) Judge(_ *load.Call, status int, _ []byte) load.Failure { return must200(status) }

func (m *latencyRun) measure(ctx context.Context) error {
	for _, p := range m.pairs {
		m.Progress.Show(report.Tick{Phase: "finding the maximum", Subject: p.name, Total: m.Maximum})
		for _, s := range p.subjects {
			var err error
			if s.warm, err = s.generator.RunClosed(ctx, m.WarmUp); err != nil {
				return err
			}
		}
		sample, err := p.measured.generator.RunClosed(ctx, m.Maximum)
		if err != nil {
			return err
		}
		if p.maximum = sample.Rate(); p.maximum < 2 {
			return fmt.Errorf("finding the maximum of %s: nothing but failures: %v", p.name, sample.Failures())
		}
		m.Progress.Event("%s: %.0f/s at most, by a closed loop over %d connections", p.name, p.maximum, m.Connections)
	}
	for n := range m.Runs {
		for _, p := range m.pairs {
			shape := load.Constant(p.maximum/2, m.Duration)
			for i := range p.subjects {
				if n%2 == 1 { // nothing always comes after the same
					i = len(p.subjects) - 1 - i
				}
				s := p.subjects[(i+n/2)%len(p.subjects)]
				m.Progress.Show(report.Tick{Phase: fmt.Sprintf("run %d of %d", n+1, m.Runs), Subject: p.name, Total: m.Duration})
				sample, err := s.generator.RunOpen(ctx, load.OpenOptions{Shape: shape})
				if err != nil {
					return err
				}
				s.samples = append(s.samples, sample)
				switch s { // the others are only shown
				case p.measured:
					m.judge(fmt.Sprintf("%s, run %d", p.name, n+1), sample)
				case p.empty:
					m.judge(fmt.Sprintf("%s, as %s, run %d", s.name, p.name, n+1), sample)
				}
			}
		}
	}
	return nil
}

func (m *latencyRun) judge(what string, s *load.Sample) {
	share := s.GeneratorCPU.Seconds() / s.Elapsed.Seconds() / float64(generatorCPUs())
	for _, reason := range invalid(s, share, m.MaxLag) {
		m.reasons = append(m.reasons, what+": "+reason)
	}
}

// p99 of each run, in microseconds.
func (s *latencySubject) p99() []float64 {
	list := make([]float64, len(s.samples))
	for i, sample := range s.samples {
		list[i] = sample.Latency().P99
	}
	return list
}

func (m *latencyRun) result() (*result.Result, error) {
	r := &result.Result{
		Command: m.Command, Environment: environmentOf(), Workload: "latency", Runs: 1,
		About: fmt.Sprintf("latency of mint and introspection at half of the maximum that a closed loop finds, %d runs of each, and ceilings at the same rates between them", m.Runs),
		Load: result.Load{
			Model: result.Open, Arrival: "constant", Connections: m.Connections, Seconds: m.Duration.Seconds(), WarmUp: m.WarmUp.Seconds(),
			Rounds: m.Runs, LateAfter: float64(load.DefaultLateAfter.Microseconds()),
		},
		SLO: &result.SLO{Met: true},
	}
	cpus := m.drive.ground.cpus
	r.Environment.ServerCPUs, r.Environment.GeneratorCPUs, r.Environment.Pinned = cpus.server, cpus.generator, cpus.pinned()
	for _, p := range m.pairs {
		for _, s := range p.subjects {
			name := s.name // without the rate, which is another in each run: they could not be compared
			if s != p.measured {
				name += ", as " + p.name
			}
			subject, err := s.outcome(name)
			if err != nil {
				return nil, err
			}
			r.Subjects = append(r.Subjects, subject)
		}
		p.objectives(r.SLO, m.Runs)
		r.Notes = append(r.Notes, fmt.Sprintf("%s: at %s/s, half of %s/s, which is the most that a closed loop over %d connections found", p.name, whole(p.maximum/2), whole(p.maximum), m.Connections))
	}
	if !cpus.pinned() {
		r.Notes = append(r.Notes, "server and generator share the CPUs")
	}
	r.Verdict = result.Verdict{Valid: len(m.reasons) == 0, Reasons: m.reasons}
	return r, nil
}

// outcome puts the runs together.
func (s *latencySubject) outcome(name string) (result.Subject, error) {
	total := load.NewSample(len(s.samples[0].Operations))
	for _, sample := range s.samples {
		total.Add(sample)
	}
	subject, err := subjectOf(name, s.role, &total.Operations[0], total.Elapsed.Seconds())
	if err != nil {
		return subject, err
	}
	subject.WarmUp = warmUpOf(&s.warm.Operations[0], s.warm.Elapsed.Seconds())
	share := total.GeneratorCPU.Seconds() / total.Elapsed.Seconds() / float64(generatorCPUs())
	subject.Generate = &share
	for _, sample := range s.samples {
		op := &sample.Operations[0]
		at := func(percentile float64) *float64 { return us(op.Latency, percentile) }
		figures := result.Figures{Rate: sample.Rate(), P50: at(50), P99: at(99), P999: at(99.9)}
		if op.Offered > 0 {
			figures.Errors = float64(op.Failed()+op.Skipped) / float64(op.Offered)
		}
		subject.Runs = append(subject.Runs, figures)
	}
	return subject, nil
}

func us(h *hdrhistogram.Histogram, percentile float64) *float64 {
	value := float64(h.ValueAtPercentile(percentile)) / 1e3
	return &value
}

// objectives adds what is asked for: the first or, where the machine can't, the second.
func (p *latencyPair) objectives(slo *result.SLO, runs int) {
	measured, empty := result.Median(p.measured.p99()), result.Median(p.empty.p99())
	limit := float64(p.target.Microseconds())
	one := result.Objective{
		Text: fmt.Sprintf("p99 of %s, median of %d runs, at most %s", p.name, runs, p.target), Limit: limit, Measured: measured, Unit: "us",
		Met: measured <= limit,
	}
	two := result.Objective{
		Text:  fmt.Sprintf("or, where the machine can't, at most %g × the empty handler's at the same rate (%s)", EmptyP99Factor, report.Latency(empty)),
		Limit: EmptyP99Factor * empty, Measured: measured, Unit: "us", Met: measured <= EmptyP99Factor*empty,
	}
	if slo.Text != "" {
		slo.Text += "; "
	}
	slo.Text += fmt.Sprintf("p99 of %s<=%s, or within %g × the empty handler's", p.name, p.target, EmptyP99Factor)
	slo.Objectives = append(slo.Objectives, one, two)
	slo.Met = slo.Met && (one.Met || two.Met)
}

func (m *latencyRun) close() error {
	for _, p := range m.pairs {
		for _, s := range p.subjects {
			s.generator.Close()
		}
		if p.ceilings != nil {
			p.ceilings.stop()
		}
	}
	if m.drive.ground == nil {
		return nil
	}
	return m.drive.ground.close()
}
