package report

import (
	"math"
	"strconv"
	"strings"
)

// picture is one SVG. Its texts are put in by html/template, which escapes them.
type picture struct {
	ID            string // of the document's own; never from a result
	Title         string
	Desc          string // what somebody who can't see it wants to know
	Width, Height float64
	Marks         []mark
}

// mark is one shape. Which fields count depends on Shape.
type mark struct {
	Shape string // path, line, rect, circle or text
	Class string
	X, Y  float64
	X2    float64 // of a line
	Y2    float64
	W, H  float64 // of a rect
	R     float64 // of a circle
	D     string  // of a path
	Text  string
	Tip   string // shown by a browser where the pointer rests
}

func (p *picture) line(class string, x, y, x2, y2 float64) {
	p.Marks = append(p.Marks, mark{Shape: "line", Class: class, X: x, Y: y, X2: x2, Y2: y2})
}

func (p *picture) rect(class string, x, y, w, h float64, tip string) {
	p.Marks = append(p.Marks, mark{Shape: "rect", Class: class, X: x, Y: y, W: max(w, 0), H: max(h, 0), Tip: tip})
}

func (p *picture) circle(class string, x, y, r float64, tip string) {
	p.Marks = append(p.Marks, mark{Shape: "circle", Class: class, X: x, Y: y, R: r, Tip: tip})
}

func (p *picture) text(class string, x, y float64, text string) {
	p.Marks = append(p.Marks, mark{Shape: "text", Class: class, X: x, Y: y, Text: text})
}

func (p *picture) path(class, d, tip string) {
	if d != "" {
		p.Marks = append(p.Marks, mark{Shape: "path", Class: class, D: d, Tip: tip})
	}
}

// point is a place in a picture. One that is NaN is a gap.
type point struct{ x, y float64 }

func (p point) isGap() bool { return math.IsNaN(p.x) || math.IsNaN(p.y) }

func gap() point { return point{math.NaN(), math.NaN()} }

// polyline joins the points, and begins anew after a gap. One point between two gaps becomes a dot's worth of line.
func polyline(points []point) string {
	var b strings.Builder
	drawing := false
	for i, p := range points {
		if p.isGap() {
			drawing = false
			continue
		}
		verb := byte('L')
		if !drawing {
			verb = 'M'
		}
		b.WriteByte(verb)
		b.WriteString(pair(p))
		if !drawing && (i+1 == len(points) || points[i+1].isGap()) {
			b.WriteString("h0.01")
		}
		drawing = true
	}
	return b.String()
}

// area fills what is between the points and a base line.
func area(points []point, base float64) string {
	var b strings.Builder
	for from := 0; from < len(points); {
		if points[from].isGap() {
			from++
			continue
		}
		to := from
		for to+1 < len(points) && !points[to+1].isGap() {
			to++
		}
		b.WriteString("M" + pair(point{points[from].x, base}))
		for _, p := range points[from : to+1] {
			b.WriteString("L" + pair(p))
		}
		b.WriteString("L" + pair(point{points[to].x, base}) + "Z")
		from = to + 1
	}
	return b.String()
}

// pair spells a place to a tenth of a pixel.
func pair(p point) string { return number(p.x) + " " + number(p.y) }

func number(f float64) string {
	return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64)
}
