package faults

import (
	"slices"
	"time"
)

// sample are durations that were measured.
type sample struct{ all []time.Duration }

func (s *sample) add(d time.Duration) { s.all = append(s.all, d) }

// at is the value that the given share of the measurements does not exceed (nearest rank), rounded for reading.
func (s *sample) at(share float64) time.Duration {
	if len(s.all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.all))
	rank := int(share*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)].Round(10 * time.Microsecond)
}
