package report

import (
	"fmt"
	"math"

	"github.com/deputy-id/deputy/bench/result"
)

// Sizes of a picture over time, in pixels of its own. All panels share the axis at the bottom.
const (
	pictureWidth = 960
	plotLeft     = 78
	plotRight    = pictureWidth - 140 // room for the names of the lines
	rateHeight   = 150
	delayHeight  = 190
	panelGap     = 34
	laneHeight   = 26
	topMargin    = 26
)

// timeline draws throughput, latency and faults of one subject over the same seconds. It is nil without a series.
func timeline(id string, s *result.Subject, r *result.Result) *picture {
	list := buckets(s)
	if len(list) == 0 {
		return nil
	}
	lanes := lanesOf(r)
	first, last := list[0].t, list[len(list)-1].t+list[len(list)-1].seconds
	for _, f := range r.Faults {
		first, last = min(first, f.T), max(last, f.T)
	}
	t := timeAxis(first, last, plotLeft, plotRight)
	p := &picture{ID: id, Title: "Throughput and latency over time: " + s.Name, Width: pictureWidth}
	rateTop := float64(topMargin)
	delayTop := rateTop + rateHeight + panelGap
	laneTop := delayTop + delayHeight + panelGap
	bottom := laneTop + float64(len(lanes)*laneHeight)
	if len(lanes) == 0 {
		bottom = delayTop + delayHeight
	}
	p.Height = bottom + 44
	p.shadeWarmUp(&t, rateTop, bottom)
	p.faultLines(&t, r.Faults, rateTop, bottom)
	p.ratePanel(&t, list, rateTop, r.Load.Model)
	p.delayPanel(&t, list, delayTop, r.Load.Model)
	p.lanePanel(&t, lanes, laneTop, last)
	p.timeTicks(&t, bottom)
	p.tips(&t, list, rateTop, delayTop+delayHeight)
	p.Desc = describe(list, r)
	return p
}

func describe(list []bucket, r *result.Result) string {
	worst, slowest := list[0], list[0]
	for _, b := range list {
		if b.t >= 0 && (b.p99 > worst.p99 || worst.t < 0) {
			worst = b
		}
		if b.t >= 0 && (b.completed < slowest.completed || slowest.t < 0) {
			slowest = b
		}
	}
	text := fmt.Sprintf("The worst p99 of a second was %s at %s; the fewest requests completed were %s a second at %s.",
		Latency(worst.p99), Seconds(worst.t), Count(slowest.completed), Seconds(slowest.t))
	if n := len(r.Faults); n > 0 {
		text += fmt.Sprintf(" %d things happened to the nodes; they are listed in the table of faults.", n)
	}
	return text
}

func (p *picture) shadeWarmUp(t *axis, top, bottom float64) {
	if t.low >= 0 {
		return
	}
	end := t.at(min(0, t.high))
	p.rect("warm-up", t.from, top, end-t.from, bottom-top, "warm-up: shown, not counted")
	p.text("note", t.from+6, top+14, "warm-up")
	p.line("begin", end, top-8, end, bottom)
}

func (p *picture) faultLines(t *axis, faults []result.Fault, top, bottom float64) {
	for i := range faults {
		x := t.at(faults[i].T)
		p.line("fault-line "+faultClass(faults[i].What), x, top, x, bottom)
	}
}

func (p *picture) ratePanel(t *axis, list []bucket, top float64, model result.Model) {
	largest := 0.0
	for _, b := range list {
		largest = max(largest, b.offered, b.completed)
	}
	y := rateAxis(largest, top+rateHeight, top)
	p.text("panel", plotLeft, top-10, "requests a second")
	p.grid(&y, y.ticks(4), Count)
	var offered, completed []point
	for _, b := range list {
		x := t.at(b.t + b.seconds/2)
		offered = append(offered, point{x, y.at(b.offered)})
		completed = append(completed, point{x, y.at(b.completed)})
	}
	p.path("area s0", area(completed, y.from), "")
	if model == result.Open {
		p.path("curve offered", polyline(offered), "")
	}
	p.path("curve s0", polyline(completed), "")
	failed := false
	for _, b := range list {
		if b.errors > 0 {
			failed = true
			// A few errors among many requests must be seen all the same.
			height := max(3, y.from-y.at(b.errors))
			p.rect("errors", t.at(b.t), y.from-height, max(2, t.at(b.t+b.seconds)-t.at(b.t)-1), height, "")
		}
	}
	names := []label{{completed[len(completed)-1].y, "completed", "s0"}}
	if model == result.Open {
		names = append(names, label{offered[len(offered)-1].y, "offered", "offered"})
	}
	if failed {
		names = append(names, label{y.from, "errors", "errors"})
	}
	p.labels(names, top, top+rateHeight)
}

func (p *picture) delayPanel(t *axis, list []bucket, top float64, model result.Model) {
	least, largest := math.Inf(1), 0.0
	for _, b := range list {
		if b.p50 > 0 {
			least, largest = min(least, b.p50), max(largest, b.max)
		}
	}
	y := latencyAxis(least, largest, top+delayHeight, top)
	heading := "latency from when a request was due, log scale"
	if model == result.Closed {
		heading = "latency, log scale"
	}
	p.text("panel", plotLeft, top-10, heading)
	p.grid(&y, y.ticks(8), Latency)
	curves := []struct {
		name, class string
		of          func(bucket) float64
	}{
		{"max", "s3", func(b bucket) float64 { return b.max }},
		{"p99", "s1", func(b bucket) float64 { return b.p99 }},
		{"p50", "s0", func(b bucket) float64 { return b.p50 }},
	}
	var names []label
	for _, c := range curves {
		var points []point
		end := math.NaN()
		for _, b := range list {
			if v := c.of(b); v > 0 {
				points = append(points, point{t.at(b.t + b.seconds/2), y.at(v)})
				end = y.at(v)
			} else {
				points = append(points, gap())
			}
		}
		p.path("curve "+c.class+" "+c.name, polyline(points), "")
		if !math.IsNaN(end) {
			names = append(names, label{end, c.name, c.class})
		}
	}
	p.labels(names, top, top+delayHeight)
}

// tips lets a browser show a second's figures where the pointer rests; they are in the table as well.
func (p *picture) tips(t *axis, list []bucket, top, bottom float64) {
	for _, b := range list {
		text := fmt.Sprintf("%s: offered %s/s, completed %s/s, errors %s/s", Seconds(b.t), Count(b.offered), Count(b.completed), Count(b.errors))
		if b.p50 > 0 {
			text += fmt.Sprintf(", p50 %s, p99 %s, max %s", Latency(b.p50), Latency(b.p99), Latency(b.max))
		}
		x := t.at(b.t)
		p.rect("tip", x, top, t.at(b.t+b.seconds)-x, bottom-top, text)
	}
}

func (p *picture) timeTicks(t *axis, bottom float64) {
	p.line("axis", t.from, bottom, t.to, bottom)
	for _, v := range t.ticks(10) {
		x := t.at(v)
		p.line("axis", x, bottom, x, bottom+5)
		p.text("tick middle", x, bottom+19, digitsSigned(v))
	}
	p.text("note end", t.to, bottom+36, "seconds of measured time")
}

func digitsSigned(f float64) string {
	if f < 0 {
		return "−" + digits(-f)
	}
	return digits(f)
}

// timelineGrid is the table beside the picture.
func timelineGrid(s *result.Subject) grid {
	g := grid{Title: "Second by second: " + s.Name, Head: []string{"At", "Offered/s", "Completed/s", "Errors/s", "p50", "p99", "Max"}}
	list := buckets(s)
	if len(list) > 0 && list[0].seconds > 1.5*interval(s.Series) {
		g.Title += fmt.Sprintf(" (%s put together: rates are means, latencies the worst second's)", Seconds(list[0].seconds))
	}
	for _, b := range list {
		has := int64(b.p50 * 1e3)
		g.row(digitsSigned(b.t)+" s", Count(b.offered), Count(b.completed), Count(b.errors), known(has, b.p50), known(has, b.p99), known(has, b.max))
	}
	return g
}
