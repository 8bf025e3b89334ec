package report

import (
	"math"
)

// axis maps values to pixels. Its ticks are where somebody would put them by hand.
type axis struct {
	low, high float64 // values at its ends
	from, to  float64 // pixels at its ends; to may be less
	log       bool
}

func (a *axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		low, high, v = math.Log10(low), math.Log10(high), math.Log10(max(v, a.low))
	}
	if high == low {
		return a.from
	}
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// rateAxis begins at zero, so that heights can be compared, and ends at a tick.
func rateAxis(largest, from, to float64) axis {
	if largest <= 0 {
		largest = 1
	}
	step := niceStep(largest / 4)
	return axis{low: 0, high: step * math.Ceil(largest/step), from: from, to: to}
}

// timeAxis goes from the first to the last second.
func timeAxis(low, high, from, to float64) axis {
	if high <= low {
		high = low + 1
	}
	return axis{low: low, high: high, from: from, to: to}
}

// latencyAxis is logarithmic and ends at 1, 2 or 5 of a decade on both sides.
func latencyAxis(least, largest, from, to float64) axis {
	if least <= 0 || math.IsInf(least, 0) {
		least = 1
	}
	largest = max(largest, least)
	low, high := logFloor(least), logCeil(largest)
	if low == high {
		high *= 10
	}
	return axis{low: low, high: high, from: from, to: to, log: true}
}

// ticks returns about count values to label, and never more than twice as many.
func (a *axis) ticks(count int) []float64 {
	var list []float64
	if a.log {
		decades := math.Log10(a.high / a.low)
		factors := []float64{1, 2, 5}
		if decades > float64(count)/2 {
			factors = []float64{1}
		}
		for exponent := math.Floor(math.Log10(a.low)); exponent <= math.Ceil(math.Log10(a.high)); exponent++ {
			for _, f := range factors {
				if v := f * math.Pow(10, exponent); v >= a.low*0.999 && v <= a.high*1.001 {
					list = append(list, v)
				}
			}
		}
		return list
	}
	step := niceStep((a.high - a.low) / float64(count))
	for n := math.Ceil(a.low/step - 1e-9); n*step <= a.high+step*1e-9; n++ {
		list = append(list, n*step+0) // plus zero, as zero may have come out negative
	}
	return list
}

// niceStep is the next 1, 2 or 5 of a decade.
func niceStep(f float64) float64 { return logCeil(f) }

func logCeil(f float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(f)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if f <= base*factor*(1+1e-9) {
			return base * factor
		}
	}
	return base * 10
}

func logFloor(f float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(f)))
	for _, factor := range []float64{5, 2, 1} {
		if f >= base*factor*(1-1e-9) {
			return base * factor
		}
	}
	return base
}
