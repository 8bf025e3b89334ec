package report

import (
	"cmp"
	"slices"
)

// labelHeight keeps the names of lines from being written over each other.
const labelHeight = 15

// label names a line at its right end.
type label struct {
	y     float64
	text  string
	class string
}

// labels writes names beside the ends of their lines, moved apart where lines end close together.
func (p *picture) labels(list []label, top, bottom float64) {
	slices.SortStableFunc(list, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	floor := top
	for i := range list {
		list[i].y = max(list[i].y, floor)
		floor = list[i].y + labelHeight
	}
	ceiling := bottom
	for i := len(list) - 1; i >= 0; i-- {
		list[i].y = min(list[i].y, ceiling)
		ceiling = list[i].y - labelHeight
	}
	for _, l := range list {
		p.text("name "+l.class, plotRight+8, l.y+4, l.text)
	}
}

// grid draws a horizontal line for each tick, and spells it at the left.
func (p *picture) grid(y *axis, ticks []float64, spell func(float64) string) {
	for _, v := range ticks {
		at := y.at(v)
		p.line("grid", plotLeft, at, plotRight, at)
		p.text("tick end", plotLeft-8, at+4, spell(v))
	}
}
