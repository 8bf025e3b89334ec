package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

const (
	curveHeight = 330
	// seriesColors is how many colours lines of subjects have; beyond that they begin anew, and names tell them apart.
	seriesColors = 6
)

// drawnCurve is one line of the percentile picture.
type drawnCurve struct {
	name, class string
	points      []result.Percentile
}

// percentileCurve draws latency by percentile, each nine as wide as the one before, as HdrHistogram's plots do: there the
// tail has room, and a stall is a step. It is nil where no subject kept its histogram.
func percentileCurve(id string, r *result.Result) (*picture, error) {
	curves, err := curvesOf(r)
	if err != nil || len(curves) == 0 {
		return nil, err
	}
	nines, least, largest := 2.0, math.Inf(1), 0.0
	for _, c := range curves {
		for _, at := range c.points {
			nines = max(nines, ninesOf(at.Percent))
			if at.Micros > 0 {
				least = min(least, at.Micros)
			}
			largest = max(largest, at.Micros)
		}
	}
	p := &picture{ID: id, Title: "Latency by percentile", Width: pictureWidth, Height: topMargin + curveHeight + 44}
	x := axis{low: 0, high: nines, from: plotLeft, to: plotRight}
	y := latencyAxis(least, largest, topMargin+curveHeight, topMargin)
	p.text("panel", plotLeft, topMargin-10, "latency, log scale")
	p.grid(&y, y.ticks(10), Latency)
	p.percentTicks(&x, y.from)
	if r.SLO != nil {
		p.limits(&x, &y, r.SLO)
	}
	var names []label
	for _, c := range curves {
		points := make([]point, 0, len(c.points))
		for _, at := range c.points {
			points = append(points, point{x.at(ninesOf(at.Percent)), y.at(at.Micros)})
		}
		p.path("curve "+c.class, polyline(points), c.name)
		names = append(names, label{points[len(points)-1].y, short(c.name, 21), c.class})
	}
	p.labels(names, topMargin, topMargin+curveHeight)
	p.Desc = "One line for each subject; to the right of each nine lies a tenth of the requests before it. The table below has the percentiles."
	return p, nil
}

// curvesOf a result: ceilings are drawn grey, and service time of an open loop beside latency, as the space between them is
// what a closed loop would have hidden.
func curvesOf(r *result.Result) ([]drawnCurve, error) {
	var curves []drawnCurve
	color := 0
	for i := range r.Subjects {
		s := &r.Subjects[i]
		class := "ceiling"
		if s.Role != result.RoleCeiling {
			class = "s" + strconv.Itoa(color%seriesColors)
			color++
		}
		points, err := s.Latency.Curve()
		if err != nil {
			return nil, fmt.Errorf("latency of %q: %w", s.Name, err)
		}
		if len(points) > 0 {
			curves = append(curves, drawnCurve{unmarked(s.Name), class, points})
		}
		if r.Load.Model != result.Open || s.Role == result.RoleCeiling {
			continue
		}
		if points, err = s.Service.Curve(); err != nil {
			return nil, fmt.Errorf("service time of %q: %w", s.Name, err)
		}
		if len(points) > 0 {
			curves = append(curves, drawnCurve{serviceName(r, s), class + " service", points})
		}
	}
	return curves, nil
}

// ninesOf a percentile: 90 is one, 99 two.
func ninesOf(percent float64) float64 { return -math.Log10(1 - percent/100) }

func (p *picture) percentTicks(x *axis, bottom float64) {
	p.line("axis", x.from, bottom, x.to, bottom)
	at := []float64{0, 50, 75}
	for nine := 90.0; ninesOf(nine) <= x.high+1e-6 && len(at) < 12; nine += (100 - nine) * 0.9 {
		at = append(at, nine)
	}
	for _, percent := range at {
		px := x.at(ninesOf(percent))
		p.line("grid", px, topMargin, px, bottom)
		p.text("tick middle", px, bottom+19, strconv.FormatFloat(percent, 'f', -1, 32)+" %")
	}
	p.text("note end", x.to, bottom+36, "percentile, each nine as wide as the one before")
}

// limits marks where the service level asks a percentile to stay below.
func (p *picture) limits(x, y *axis, slo *result.SLO) {
	for _, o := range slo.Objectives {
		digits, ok := strings.CutPrefix(strings.TrimSpace(o.Text), "p")
		if !ok || o.Unit != "us" || o.Limit < y.low || o.Limit > y.high {
			continue
		}
		digits = digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789."))]
		percent, err := strconv.ParseFloat(digits, 64)
		if err != nil || percent <= 0 || percent >= 100 || ninesOf(percent) > x.high {
			continue
		}
		px, py := x.at(ninesOf(percent)), y.at(o.Limit)
		class := yesNo(o.Met, "limit met", "limit missed")
		p.line(class, px-44, py, px+44, py)
		p.circle(class, px, py, 4, o.Text+": "+yesNo(o.Met, "met", "missed"))
		p.text("fault middle", px, py-8, short(o.Text, 20))
	}
}

func serviceName(r *result.Result, s *result.Subject) string {
	if len(r.Measured()) == 1 {
		return "service time"
	}
	return s.Name + ", service time"
}
