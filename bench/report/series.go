package report

import (
	"slices"

	"github.com/deputy-id/deputy/bench/result"
)

// maxDrawn is how many points of a series are drawn: about one for every three pixels. Beyond that neighbours are put together.
const maxDrawn = 300

// bucket is one or several seconds of a series.
type bucket struct {
	t, seconds                 float64
	offered, completed, errors float64 // a second
	p50, p99, max              float64 // the worst second's; 0 where nothing completed
}

// buckets puts warm-up and measured time in one row and makes them few enough to draw: rates are means, latencies those of
// the worst second, so that putting seconds together hides no stall.
func buckets(s *result.Subject) []bucket {
	var points []result.Point
	if s.WarmUp != nil {
		points = append(points, s.WarmUp.Series...)
	}
	points = append(points, s.Series...)
	if len(points) == 0 {
		return nil
	}
	length := interval(points)
	each := (len(points) + maxDrawn - 1) / maxDrawn
	var list []bucket
	for group := range slices.Chunk(points, each) {
		b := bucket{t: group[0].T, seconds: group[len(group)-1].T - group[0].T + length}
		for _, p := range group {
			b.offered += float64(p.Offered)
			b.completed += float64(p.Completed)
			b.errors += float64(p.Errors)
			b.p50, b.p99, b.max = max(b.p50, p.P50), max(b.p99, p.P99), max(b.max, p.Max)
		}
		b.offered /= b.seconds
		b.completed /= b.seconds
		b.errors /= b.seconds
		list = append(list, b)
	}
	return list
}

// interval is the time from one point to the next: the usual one, as rounds may lie between some.
func interval(points []result.Point) float64 {
	if len(points) < 2 {
		return 1
	}
	var steps []float64
	for i := 1; i < len(points); i++ {
		if step := points[i].T - points[i-1].T; step > 0 {
			steps = append(steps, step)
		}
	}
	if len(steps) == 0 {
		return 1
	}
	return result.Median(steps)
}
