package result

import (
	"fmt"
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxHistogramText bounds an encoded histogram; one of a minute at three digits has some kilobytes.
const maxHistogramText = 1 << 20

// Distribution is what became of many latencies, in microseconds. The percentiles are those of Histogram and are exact
// to its three digits.
type Distribution struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min_us"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	P9999 float64 `json:"p9999_us"`
	Max   float64 `json:"max_us"`

	// Histogram is the whole distribution in nanoseconds, in HdrHistogram's compressed V2 encoding as base64, which its
	// tools in all languages read.
	Histogram string `json:"histogram,omitempty"`
}

// NewDistribution summarizes a histogram of nanoseconds and keeps it.
func NewDistribution(h *hdrhistogram.Histogram) (*Distribution, error) {
	d := new(Distribution)
	d.summarize(h)
	if d.Count == 0 {
		return d, nil
	}
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, fmt.Errorf("encoding a histogram: %w", err)
	}
	d.Histogram = string(text)
	return d, nil
}

func (d *Distribution) summarize(h *hdrhistogram.Histogram) {
	at := func(percentile float64) float64 { return float64(h.ValueAtPercentile(percentile)) / 1e3 }
	d.Count = h.TotalCount()
	if d.Count == 0 {
		return
	}
	d.Min, d.Mean, d.Max = float64(h.Min())/1e3, h.Mean()/1e3, float64(h.Max())/1e3
	d.P50, d.P90, d.P99, d.P999, d.P9999 = at(50), at(90), at(99), at(99.9), at(99.99)
}

// Decode returns the histogram of nanoseconds, or nil where none was kept.
func (d *Distribution) Decode() (*hdrhistogram.Histogram, error) {
	if d == nil || d.Histogram == "" {
		return nil, nil
	}
	if len(d.Histogram) > maxHistogramText {
		return nil, fmt.Errorf("a histogram has %d bytes; at most %d are read", len(d.Histogram), maxHistogramText)
	}
	h, err := hdrhistogram.Decode([]byte(d.Histogram))
	if err != nil {
		return nil, fmt.Errorf("decoding a histogram: %w", err)
	}
	if h.TotalCount() != d.Count {
		return nil, fmt.Errorf("a histogram holds %d latencies, and its summary says %d", h.TotalCount(), d.Count)
	}
	return h, nil
}

// Percentile is one point of a percentile curve.
type Percentile struct {
	Percent float64 // 0 to 100, exclusive
	Micros  float64
}

// ticksPerHalf is how many points a curve has in each halving of what is left to 100 %, as HdrHistogram's own plots do.
const ticksPerHalf = 5

// Curve returns the percentile curve: as dense in the tail as near the median, up to the last percentile that one
// latency alone can decide. It has no point where no histogram was kept.
func (d *Distribution) Curve() ([]Percentile, error) {
	h, err := d.Decode()
	if err != nil || h == nil {
		return nil, err
	}
	var curve []Percentile
	last := 1 - 1/float64(h.TotalCount())
	for tick := 0; ; tick++ {
		quantile := 1 - math.Pow(2, -float64(tick)/ticksPerHalf)
		if quantile >= last {
			break
		}
		curve = append(curve, Percentile{Percent: 100 * quantile, Micros: float64(h.ValueAtPercentile(100*quantile)) / 1e3})
	}
	return append(curve, Percentile{Percent: 100 * last, Micros: float64(h.Max()) / 1e3}), nil
}

// merge joins several distributions, exactly where all kept their histograms. Without those nothing can be said.
func merge(parts []*Distribution) (*Distribution, error) {
	var sum *hdrhistogram.Histogram
	for _, part := range parts {
		h, err := part.Decode()
		if err != nil {
			return nil, err
		}
		switch {
		case h == nil && part != nil && part.Count == 0:
		case h == nil:
			return nil, nil
		case sum == nil:
			sum = h
		default:
			if dropped := sum.Merge(h); dropped > 0 {
				return nil, fmt.Errorf("%d latencies of one run are beyond the histogram of another", dropped)
			}
		}
	}
	if sum == nil {
		return nil, nil
	}
	return NewDistribution(sum)
}
