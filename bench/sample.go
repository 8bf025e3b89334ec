package bench

import (
	"maps"
	"slices"
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

// sample is what one round, or several added up, saw of one subject.
type sample struct {
	lock         sync.Mutex
	latencies    *hdrhistogram.Histogram
	succeeded    int64
	failures     map[Failure]int64
	elapsed      time.Duration
	generatorCPU time.Duration
	serverCPU    time.Duration // 0 where the server's process isn't ours to look at
}

func newSample() *sample {
	return &sample{
		latencies: hdrhistogram.New(int64(shortestLatency), int64(longestLatency), significantDigits),
		failures:  make(map[Failure]int64),
	}
}

func (s *sample) record(latencies []time.Duration) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, l := range latencies {
		// Clamped, so that recording can't fail: a round is shorter than the longest latency anyway.
		_ = s.latencies.RecordValue(int64(min(max(l, shortestLatency), longestLatency)))
	}
	s.succeeded += int64(len(latencies))
}

func (s *sample) fail(kind Failure) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.failures[kind]++
}

// add joins another round's sample into s.
func (s *sample) add(other *sample) {
	s.latencies.Merge(other.latencies)
	s.succeeded += other.succeeded
	for kind, n := range other.failures {
		s.failures[kind] += n
	}
	s.elapsed += other.elapsed
	s.generatorCPU += other.generatorCPU
	s.serverCPU += other.serverCPU
}

// rate is successful exchanges a second.
func (s *sample) rate() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(s.succeeded) / s.elapsed.Seconds()
}

func (s *sample) failed() int64 {
	var n int64
	for count := range maps.Values(s.failures) {
		n += count
	}
	return n
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

func (s *sample) latency() Latency {
	at := func(percentile float64) float64 { return microseconds(s.latencies.ValueAtPercentile(percentile)) }
	return Latency{
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Max: microseconds(s.latencies.Max()), Mean: s.latencies.Mean() / 1e3,
	}
}

func microseconds(nanoseconds int64) float64 { return float64(nanoseconds) / 1e3 }

// median of the values, 0 of none. The values are left as they are.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Spread is a median with the quarter below and above it: how far rounds differed says how far to trust it.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"p25"`
	High   float64 `json:"p75"`
}

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	quarter := (len(sorted) - 1) / 4
	return Spread{Median: median(sorted), Low: sorted[quarter], High: sorted[len(sorted)-1-quarter]}
}
