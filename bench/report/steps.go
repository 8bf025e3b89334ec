package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

const stepsHeight = 220

// stepPicture draws p99 by the rate offered, one mark for each step. It is nil without steps.
func stepPicture(id string, r *result.Result) *picture {
	steps := r.Load.Steps
	if len(steps) == 0 {
		return nil
	}
	least, largest, highest := math.Inf(1), 0.0, 0.0
	for i := range steps {
		highest = max(highest, steps[i].Rate)
		if us := steps[i].Latency.P99; us > 0 {
			least, largest = min(least, us), max(largest, us)
		}
	}
	limit := tailLimit(r.SLO)
	if limit > 0 {
		least, largest = min(least, limit), max(largest, limit)
	}
	p := &picture{ID: id, Title: "p99 by the rate offered", Width: pictureWidth, Height: topMargin + stepsHeight + 44}
	y := latencyAxis(least, largest, topMargin+stepsHeight, topMargin)
	x := rateAxis(highest, plotLeft, plotRight)
	p.text("panel", plotLeft, topMargin-10, "p99 of a step, log scale")
	p.grid(&y, y.ticks(8), Latency)
	p.line("axis", x.from, y.from, x.to, y.from)
	for _, v := range x.ticks(8) {
		p.text("tick middle", x.at(v), y.from+19, Count(v))
	}
	p.text("note end", x.to, y.from+36, "requests offered a second")
	if limit > 0 {
		p.line("target", x.from, y.at(limit), x.to, y.at(limit))
		p.text("name", plotRight+8, y.at(limit)+4, Latency(limit))
	}
	for i := range steps {
		s := &steps[i]
		px, py := x.at(s.Rate), y.at(s.Latency.P99)
		if s.Latency.Count == 0 {
			py = y.to
		}
		tip := fmt.Sprintf("step %d: %s/s, p99 %s, %s", i+1, Count(s.Rate), known(s.Latency.Count, s.Latency.P99), outcome(s))
		if s.Met && s.Valid {
			p.circle("mark met", px, py, 6, tip)
			continue
		}
		p.path("mark missed", fmt.Sprintf("M%s %sl10 10m0 -10l-10 10", number(px-5), number(py-5)), tip)
	}
	if r.SLO != nil && r.SLO.Highest != nil && *r.SLO.Highest <= x.high {
		at := x.at(*r.SLO.Highest)
		p.line("target", at, topMargin, at, y.from)
		p.text("fault middle", at, topMargin-10, Count(*r.SLO.Highest)+"/s")
	}
	p.Desc = "A filled circle is a step that met the service level, a cross one that did not."
	return p
}

// tailLimit is what the service level asks of p99, or 0.
func tailLimit(slo *result.SLO) float64 {
	if slo == nil {
		return 0
	}
	for _, o := range slo.Objectives {
		if o.Unit == "us" && strings.HasPrefix(o.Text, "p99<") {
			return o.Limit
		}
	}
	return 0
}
