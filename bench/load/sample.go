package load

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept from a microsecond to a minute with three significant digits: about 200 kB a histogram.
const (
	shortestLatency   = time.Microsecond
	longestLatency    = time.Minute
	significantDigits = 3
)

// Sample is what one run of a generator, or several added up, saw.
type Sample struct {
	lock         sync.Mutex
	Operations   []Operation // those of the plan
	Elapsed      time.Duration
	GeneratorCPU time.Duration
	Busiest      time.Duration // how long the loop that had most to do was not waiting; 0 where there are none
	ServerCPU    time.Duration // 0 where the server's process isn't ours to look at
}

// Operation is what became of the requests of one kind. Offered = Sent + Skipped, and Sent = Succeeded + those failed.
type Operation struct {
	Offered   int64 // due; of a closed loop as many as were sent
	Sent      int64
	Succeeded int64
	Late      int64 // of those sent: later than they were due by more than what the load allows
	Skipped   int64 // due, and never sent: too many waited for their node
	Missed    int64 // of those: a connection was free, and the generator had no time to use it
	Failures  map[Failure]int64

	Latency *hdrhistogram.Histogram // nanoseconds from when it was due; of a closed loop from when it was sent
	Service *hdrhistogram.Histogram // from when it was sent; nil of a closed loop, where it is the same
	Lag     *hdrhistogram.Histogram // by how much the generator itself was late; nil of a closed loop
	series  *series                 // nil where none was asked for
}

// NewSample makes an empty one for so many operations.
func NewSample(operations int) *Sample {
	s := &Sample{Operations: make([]Operation, operations)}
	for i := range s.Operations {
		s.Operations[i] = Operation{Latency: NewHistogram(), Failures: make(map[Failure]int64)}
	}
	return s
}

// open prepares for an open load of that length.
func (s *Sample) open() {
	for i := range s.Operations {
		s.Operations[i].Service, s.Operations[i].Lag = NewHistogram(), NewHistogram()
	}
}

// WithSeries prepares for a series over a run of that length.
func (s *Sample) WithSeries(length time.Duration) {
	for i := range s.Operations {
		s.Operations[i].series = newSeries(length)
	}
}

// NewHistogram makes one of latencies in nanoseconds.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortestLatency), int64(longestLatency), significantDigits)
}

// record clamps, so that recording can't fail: hardly anything takes longer than the longest latency anyway.
func Add(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, shortestLatency), longestLatency)))
}

// observation is one call that is over.
type observation struct {
	due     time.Duration // since the run began; of a closed loop when it was sent
	latency time.Duration
	service time.Duration
	lag     time.Duration
	failure Failure
	op      uint8
	late    bool
}

const (
	// flushEvery is how many observations are gathered before the lock of the sample is taken; flushAfter is how long they
	// are kept at most, so that progress can be shown.
	flushEvery = 256
	flushAfter = 250 * time.Millisecond
)

// gathering keeps the observations of one goroutine until there are enough of them to take the sample's lock for.
type gathering struct {
	result  *Sample
	list    []observation
	flushed time.Time
}

func (g *gathering) begin(result *Sample, now time.Time) {
	if g.list == nil {
		g.list = make([]observation, 0, flushEvery)
	}
	g.result, g.flushed = result, now
}

func (g *gathering) keep(o observation, now time.Time) {
	g.list = append(g.list, o)
	if len(g.list) == flushEvery || g.old(now) {
		g.flush(now)
	}
}

// old reports whether something was kept back for long.
func (g *gathering) old(now time.Time) bool {
	return len(g.list) > 0 && now.Sub(g.flushed) > flushAfter
}

func (g *gathering) flush(now time.Time) {
	g.result.record(g.list)
	g.list = g.list[:0]
	g.flushed = now
}

// record takes what a connection has gathered.
func (s *Sample) record(gathered []observation) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for i := range gathered {
		o := &gathered[i]
		op := &s.Operations[o.op]
		op.Sent++
		if o.late {
			op.Late++
		}
		if op.Lag != nil {
			Add(op.Lag, o.lag)
		}
		if o.failure != "" {
			op.Failures[o.failure]++
			op.series.failed(o.due)
			if o.failure == FailureTimeout { // it waited so long at least: leaving it out would hide the worst
				Add(op.Latency, o.latency)
				op.series.latency(o.due, o.latency)
			}
			continue
		}
		op.Succeeded++
		Add(op.Latency, o.latency)
		if op.Service != nil {
			Add(op.Service, o.service)
		}
		op.series.succeeded(o.due, o.latency)
	}
}

// Record counts successes of the first operation, for who measures without a generator.
func (s *Sample) Record(latencies ...time.Duration) {
	gathered := make([]observation, len(latencies))
	for i, l := range latencies {
		gathered[i].latency = l
	}
	s.record(gathered)
}

// Fail counts failures of an operation that were not seen when the answer came: they had counted as successes.
func (s *Sample) Fail(operation int, kind Failure, n int64) {
	if n <= 0 {
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.Operations[operation].Succeeded -= n
	s.Operations[operation].Failures[kind] += n
}

// Add joins another sample of the same plan into s. Series are dropped.
func (s *Sample) Add(other *Sample) {
	for i := range s.Operations {
		s.Operations[i].add(&other.Operations[i])
	}
	s.Elapsed += other.Elapsed
	s.GeneratorCPU += other.GeneratorCPU
	s.Busiest += other.Busiest
	s.ServerCPU += other.ServerCPU
}

func (op *Operation) add(other *Operation) {
	op.Offered += other.Offered
	op.Sent += other.Sent
	op.Succeeded += other.Succeeded
	op.Late += other.Late
	op.Skipped += other.Skipped
	op.Missed += other.Missed
	for kind, n := range other.Failures {
		op.Failures[kind] += n
	}
	op.Latency.Merge(other.Latency)
	merge(&op.Service, other.Service)
	merge(&op.Lag, other.Lag)
	op.series = nil
}

func merge(into **hdrhistogram.Histogram, from *hdrhistogram.Histogram) {
	if from == nil {
		return
	}
	if *into == nil {
		*into = NewHistogram()
	}
	(*into).Merge(from)
}

// Total is all operations as one.
func (s *Sample) Total() *Operation {
	total := &Operation{Latency: NewHistogram(), Failures: make(map[Failure]int64)}
	for i := range s.Operations {
		total.add(&s.Operations[i])
	}
	return total
}

// Succeeded counts the successes of all operations.
func (s *Sample) Succeeded() (n int64) {
	for i := range s.Operations {
		n += s.Operations[i].Succeeded
	}
	return n
}

// Failures counts those of all operations, by kind.
func (s *Sample) Failures() map[Failure]int64 {
	all := make(map[Failure]int64)
	for i := range s.Operations {
		for kind, n := range s.Operations[i].Failures {
			all[kind] += n
		}
	}
	return all
}

// Failed counts the failures of all operations.
func (s *Sample) Failed() (n int64) {
	for i := range s.Operations {
		n += s.Operations[i].Failed()
	}
	return n
}

// Failed counts the failures.
func (op *Operation) Failed() (n int64) {
	for count := range maps.Values(op.Failures) {
		n += count
	}
	return n
}

// Rate is successes a second.
func (s *Sample) Rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Succeeded()) / s.Elapsed.Seconds()
}

// Progress is how far a run has come.
type Progress struct {
	Offered, Sent, Succeeded, Failed, Skipped int64
}

// Progress may be asked while the run goes on.
func (s *Sample) Progress() (p Progress) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for i := range s.Operations {
		op := &s.Operations[i]
		p.Offered += op.Offered
		p.Sent += op.Sent
		p.Succeeded += op.Succeeded
		p.Failed += op.Failed()
		p.Skipped += op.Skipped
	}
	return p
}

// Latency is a distribution in microseconds, as HDR histograms give it: each figure is exact to three digits.
type Latency struct {
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
	Mean float64 `json:"mean_us"`
}

// Latency summarizes that of all operations.
func (s *Sample) Latency() Latency { return Summarize(s.Total().Latency) }

// Summarize a histogram of nanoseconds.
func Summarize(h *hdrhistogram.Histogram) Latency {
	at := func(percentile float64) float64 { return microseconds(h.ValueAtPercentile(percentile)) }
	return Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: microseconds(h.Max()), Mean: h.Mean() / 1e3}
}

func microseconds(nanoseconds int64) float64 { return float64(nanoseconds) / 1e3 }
