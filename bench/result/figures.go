package result

import (
	"slices"
)

// Figures are what one run comes down to for one subject: what runs are compared by.
type Figures struct {
	Rate   float64  `json:"rate"`
	Errors float64  `json:"error_share"` // of what was offered: failed and skipped
	P50    *float64 `json:"p50_us,omitempty"`
	P99    *float64 `json:"p99_us,omitempty"`
	P999   *float64 `json:"p999_us,omitempty"`
	Share  *float64 `json:"share,omitempty"` // the first of Subject.Shares: median of its rounds
	CPUPer *float64 `json:"server_cpu_us_per_request,omitempty"`
	Allocs *float64 `json:"server_allocs_per_request,omitempty"`
}

// Figures returns those of each run that the subject is made of: at least one.
func (s *Subject) Figures() []Figures {
	if len(s.Runs) > 0 {
		return s.Runs
	}
	f := Figures{Rate: s.Rate, CPUPer: s.CPUPer, Allocs: s.Allocs}
	if s.Counts.Offered > 0 {
		f.Errors = float64(s.Counts.Failed+s.Counts.Skipped) / float64(s.Counts.Offered)
	}
	if s.Latency != nil && s.Latency.Count > 0 {
		f.P50, f.P99, f.P999 = &s.Latency.P50, &s.Latency.P99, &s.Latency.P999
	}
	if len(s.Shares) > 0 {
		f.Share = &s.Shares[0].Rounds.Median
	}
	return []Figures{f}
}

// Median of the values, 0 of none. The values are left as they are.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return sorted[middle-1]/2 + sorted[middle]/2 // halved first: two large ones don't overflow
}

// SpreadOf the values, zero of none.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	quarter := (len(sorted) - 1) / 4
	return Spread{Median: Median(sorted), Low: sorted[quarter], High: sorted[len(sorted)-1-quarter]}
}

// Range is a median with the least and the largest value.
type Range struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Count  int     `json:"count"`
}

// RangeOf the values, zero of none.
func RangeOf(values []float64) Range {
	if len(values) == 0 {
		return Range{}
	}
	return Range{Median: Median(values), Min: slices.Min(values), Max: slices.Max(values), Count: len(values)}
}

// RangeIn is the range of one figure over runs; those that lack it are passed over.
func RangeIn(runs []Figures, of func(*Figures) *float64) Range {
	var values []float64
	for i := range runs {
		if v := of(&runs[i]); v != nil {
			values = append(values, *v)
		}
	}
	return RangeOf(values)
}
