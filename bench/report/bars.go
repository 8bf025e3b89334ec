package report

import (
	"fmt"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

const (
	barLeft   = 250
	barRight  = pictureWidth - 330 // room for what is written after the longest
	barHeight = 24
	barPitch  = 40
)

// ceilingBars draws the rate of every subject beside those of its ceilings, with the share. It is nil where there is only
// one thing to show.
func ceilingBars(id string, r *result.Result) *picture {
	if len(r.Subjects) < 2 {
		return nil
	}
	p := &picture{ID: id, Title: "Rates beside their ceilings", Width: pictureWidth, Height: float64(topMargin + len(r.Subjects)*barPitch + 8)}
	largest := 0.0
	for i := range r.Subjects {
		largest = max(largest, r.Subjects[i].Rate)
	}
	x := axis{low: 0, high: max(largest, 1), from: barLeft, to: barRight}
	p.text("panel", barLeft, topMargin-10, "requests a second")
	for i := range r.Subjects {
		s := &r.Subjects[i]
		y := float64(topMargin + i*barPitch)
		class := "bar " + string(result.RoleMeasured)
		if s.Role == result.RoleCeiling {
			class = "bar ceiling"
		}
		end := x.at(s.Rate)
		p.text("tick end bar-name", barLeft-10, y+16, short(s.Name, 34))
		p.rect(class, barLeft, y, end-barLeft, barHeight, s.Name+": "+Count(s.Rate)+"/s")
		if s.Rounds != nil {
			p.line("whisker", x.at(min(s.Rounds.Low, x.high)), y+barHeight/2, x.at(min(s.Rounds.High, x.high)), y+barHeight/2)
		}
		if s.Rounds != nil {
			end = max(end, x.at(min(s.Rounds.High, x.high)))
		}
		value := Count(s.Rate) + "/s"
		if len(s.Shares) > 0 {
			p.target(&x, r, &s.Shares[0], y)
			end = max(end, x.at(targetRate(r, &s.Shares[0])))
			value += fmt.Sprintf(" · %.1f %% of %s", 100*s.Shares[0].Rounds.Median, short(unmarked(s.Shares[0].Of), 34))
		}
		p.text("value", end+10, y+16, value)
	}
	p.Desc = "One bar for each subject; a ceiling does one thing only and is what the measured can't be faster than. The line in a bar goes from the 25th to the 75th percentile of the rounds."
	return p
}

// target marks the rate that the share asked for would be, where its ceiling is in the run.
func (p *picture) target(x *axis, r *result.Result, share *result.Share, y float64) {
	rate := targetRate(r, share)
	if rate == 0 || rate > x.high {
		return
	}
	at := x.at(rate)
	p.line("target", at, y-4, at, y+barHeight+4)
	p.text("fault middle", at, y+barHeight+14, "asked: "+Ratio(*share.Target))
}

// targetRate is 0 where nothing is asked for.
func targetRate(r *result.Result, share *result.Share) float64 {
	if ceiling := r.Subject(share.Of); ceiling != nil && share.Target != nil {
		return *share.Target * ceiling.Rate
	}
	return 0
}

// unmarked is the name of a ceiling where it is plain that it is one.
func unmarked(name string) string { return strings.TrimPrefix(name, "ceiling: ") }
