package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// seriesDigits are those of a second's percentiles: enough to draw, and a sixth of the memory.
	seriesDigits = 2
	// MaxPoints bounds a series; a longer run has wider ones.
	MaxPoints = 600
)

// series is what happened in each second. A call counts in the second in which it was due, so that a stall shows where
// it was felt. The zero pointer takes everything and keeps nothing.
type series struct {
	width  time.Duration
	points []point
}

type point struct {
	offered, succeeded, failures int64
	latencies                    *hdrhistogram.Histogram // nil before the first
}

func newSeries(length time.Duration) *series {
	width := time.Second
	for length > MaxPoints*width {
		width *= 2
	}
	return &series{width: width, points: make([]point, max(1, (length+width-1)/width))}
}

func (s *series) at(due time.Duration) *point {
	return &s.points[min(max(0, int(due/s.width)), len(s.points)-1)]
}

func (s *series) offered(due time.Duration) {
	if s != nil {
		s.at(due).offered++
	}
}

func (s *series) failed(due time.Duration) {
	if s != nil {
		s.at(due).failures++
	}
}

func (s *series) succeeded(due, latency time.Duration) {
	if s != nil {
		s.at(due).succeeded++
		s.latency(due, latency)
	}
}

func (s *series) latency(due, latency time.Duration) {
	if s == nil {
		return
	}
	p := s.at(due)
	if p.latencies == nil {
		p.latencies = hdrhistogram.New(int64(shortestLatency), int64(longestLatency), seriesDigits)
	}
	Add(p.latencies, latency)
}

// Point is one step of a series.
type Point struct {
	At                         time.Duration // where it begins
	Offered, Succeeded, Failed int64
	P50, P99, Max              float64 // microseconds
}

// Series returns what happened in each second, or in longer steps of a long run.
func (op *Operation) Series() []Point {
	if op.series == nil {
		return nil
	}
	points := make([]Point, len(op.series.points))
	for i := range op.series.points {
		p := &op.series.points[i]
		points[i] = Point{At: time.Duration(i) * op.series.width, Offered: p.offered, Succeeded: p.succeeded, Failed: p.failures}
		if p.latencies != nil {
			l := Summarize(p.latencies)
			points[i].P50, points[i].P99, points[i].Max = l.P50, l.P99, l.Max
		}
	}
	return points
}
