package bench

import "slices"

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
