package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

// grid is a table in no format yet.
type grid struct {
	Title string
	Head  []string
	Rows  [][]string
	Texts int // the first so many columns are words, and the others figures
}

func (g *grid) row(cells ...string) { g.Rows = append(g.Rows, cells) }

// grids are all tables of a result but those of its series, those that have something to show.
func grids(r *result.Result) []grid {
	all := []grid{latencyGrid(r), speedGrid(r), countGrid(r), shareGrid(r), errorGrid(r), sloGrid(r), stepGrid(r), nodeGrid(r), faultGrid(r), runGrid(r)}
	return slices.DeleteFunc(all, func(g grid) bool { return len(g.Rows) == 0 })
}

func latencyGrid(r *result.Result) grid {
	g := grid{Title: "Latency", Texts: 1, Head: []string{"Subject", "Req/s", "p50", "p90", "p99", "p99.9", "p99.99", "Max"}}
	if r.Load.Model == result.Open {
		g.Title = "Latency, from when a request was due; service time, from when it was sent; lag, between the two"
		g.Head = append(g.Head, "Service p99", "Lag p99")
	}
	for i := range r.Subjects {
		s := &r.Subjects[i]
		d := s.Latency
		if d == nil {
			continue // a bare ceiling has a rate and nothing else
		}
		cells := []string{s.Name, Count(s.Rate)}
		for _, us := range []float64{d.P50, d.P90, d.P99, d.P999, d.P9999, d.Max} {
			cells = append(cells, known(d.Count, us))
		}
		if r.Load.Model == result.Open {
			for _, d := range []*result.Distribution{s.Service, s.Lag} {
				if d == nil {
					d = new(result.Distribution)
				}
				cells = append(cells, known(d.Count, d.P99))
			}
		}
		g.row(cells...)
	}
	return g
}

// known spells a latency where there was one at all.
func known(count int64, us float64) string {
	if count == 0 {
		return none
	}
	return Latency(us)
}

func speedGrid(r *result.Result) grid {
	g := grid{Title: "Rates, those of the rounds from p25 to p75, and what a request costs the server", Texts: 1, Head: []string{"Subject", "Req/s", "Rounds", "Server CPU", "CPU/req", "Allocs/req", "Generator CPU", "Warm-up/s"}}
	for i := range r.Subjects {
		s := &r.Subjects[i]
		rounds, warmUp := none, none
		if s.Rounds != nil {
			rounds = Count(s.Rounds.Low) + "–" + Count(s.Rounds.High)
		}
		if s.WarmUp != nil {
			warmUp = Count(s.WarmUp.Rate)
		}
		g.row(s.Name, Count(s.Rate), rounds, optional(s.Server, Percent), optional(s.CPUPer, Latency), optional(s.Allocs, Count),
			optional(s.Generate, Percent), warmUp)
	}
	return g
}

func countGrid(r *result.Result) grid {
	g := grid{Title: "What became of every request", Texts: 1, Head: []string{"Subject", "Offered", "Sent", "Completed", "Failed", "Wrong answers", "Late", "Skipped"}}
	for i := range r.Subjects {
		s := &r.Subjects[i]
		if s.Counts.Offered == 0 {
			continue
		}
		cells := []string{s.Name}
		for _, n := range []int64{s.Counts.Offered, s.Counts.Sent, s.Counts.Completed, s.Counts.Failed, s.Wrong(), s.Counts.Late, s.Counts.Skipped} {
			cells = append(cells, Count(float64(n)))
		}
		g.row(cells...)
	}
	return g
}

func shareGrid(r *result.Result) grid {
	g := grid{Title: "Share of the ceilings", Texts: 2, Head: []string{"Subject", "Of", "Share", "Rounds, p25–p75", "By CPU time", "Asked for", "Met"}}
	for i := range r.Subjects {
		for _, share := range r.Subjects[i].Shares {
			target, met := none, none
			if share.Target != nil {
				target = "≥ " + Ratio(*share.Target)
			}
			if share.Met != nil {
				met = yesNo(*share.Met, "met", "MISSED")
			}
			g.row(r.Subjects[i].Name, share.Of, Ratio(share.Rounds.Median), Ratio(share.Rounds.Low)+"–"+Ratio(share.Rounds.High),
				optional(share.ByCPU, Ratio), target, met)
		}
	}
	return g
}

func yesNo(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func errorGrid(r *result.Result) grid {
	g := grid{Title: "Errors, by kind", Texts: 2, Head: []string{"Subject", "Kind", "Count", "Share of offered"}}
	add := func(name string, errors map[string]int64, offered int64) {
		for _, kind := range slices.Sorted(maps.Keys(errors)) {
			share := none
			if offered > 0 {
				share = Percent(float64(errors[kind]) / float64(offered))
			}
			g.row(name, kind, Count(float64(errors[kind])), share)
		}
	}
	for i := range r.Subjects {
		s := &r.Subjects[i]
		add(s.Name, s.Errors, s.Counts.Offered)
		if s.WarmUp != nil {
			add(s.Name+", warm-up", s.WarmUp.Errors, 0)
		}
	}
	return g
}

func sloGrid(r *result.Result) grid {
	g := grid{Title: "Service level", Texts: 1, Head: []string{"Objective", "Measured", "Met"}}
	if r.SLO == nil {
		return g
	}
	for _, o := range r.SLO.Objectives {
		g.row(o.Text, inUnit(o.Measured, o.Unit), yesNo(o.Met, "met", "MISSED"))
	}
	return g
}

func inUnit(f float64, unit string) string {
	switch unit {
	case "us":
		return Latency(f)
	case "share":
		return Percent(f)
	}
	return strings.TrimSpace(Count(f) + " " + unit)
}

func stepGrid(r *result.Result) grid {
	g := grid{Title: "Steps, in the order they were run", Head: []string{"Offered/s", "Seconds", "Completed/s", "Errors", "p50", "p99", "p99.9", "Service level"}}
	for i := range r.Load.Steps {
		s := &r.Load.Steps[i]
		d := &s.Latency
		g.row(Count(s.Rate), digits(s.Seconds), Count(s.Completed), Percent(s.ErrorRate), known(d.Count, d.P50), known(d.Count, d.P99), known(d.Count, d.P999), outcome(s))
	}
	return g
}

func nodeGrid(r *result.Result) grid {
	g := grid{Title: "Nodes, by their own metrics", Texts: 1, Head: []string{"Node", "Requests", "CPU", "CPU per request", "Allocs per request", "RSS", "Peak RSS"}}
	for _, n := range r.Nodes {
		name := n.Name
		if n.Subject != "" {
			name += " (" + n.Subject + ")"
		}
		if n.Leader {
			name += ", leader"
		}
		g.row(name, Count(float64(n.Requests)), Seconds(n.CPU), optional(n.PerOp, Latency), optional(n.AllocsPer, Count), Bytes(n.RSS), Bytes(n.PeakRSS))
	}
	return g
}

// worthTelling is how many seconds something took at least for a reader to want to know.
const worthTelling = 0.1

func faultGrid(r *result.Result) grid {
	g := grid{Title: "What happened to the nodes", Texts: 4, Head: []string{"At", "Node", "What", "Detail"}}
	for _, f := range r.Faults {
		what := string(f.What)
		switch {
		case f.End == nil:
		case f.What == result.FaultStalled:
			what += " for " + Seconds(*f.End-f.T)
		case *f.End-f.T >= worthTelling:
			what += ", which took " + Seconds(*f.End-f.T)
		}
		g.row(fmt.Sprintf("%.1f s", f.T), f.Node, what, f.Detail)
	}
	return g
}

func runGrid(r *result.Result) grid {
	g := grid{Title: "Runs this is made of: median (least–largest)", Texts: 1, Head: []string{"Subject", "Runs", "Req/s", "p50", "p99", "p99.9", "Share", "CPU per request"}}
	for i := range r.Subjects {
		s := &r.Subjects[i]
		if len(s.Runs) < 2 {
			continue
		}
		cells := []string{s.Name, Count(float64(len(s.Runs)))}
		for _, m := range []struct {
			of    func(*result.Figures) *float64
			spell func(float64) string
		}{
			{func(f *result.Figures) *float64 { return &f.Rate }, Count},
			{func(f *result.Figures) *float64 { return f.P50 }, Latency},
			{func(f *result.Figures) *float64 { return f.P99 }, Latency},
			{func(f *result.Figures) *float64 { return f.P999 }, Latency},
			{func(f *result.Figures) *float64 { return f.Share }, Ratio},
			{func(f *result.Figures) *float64 { return f.CPUPer }, Latency},
		} {
			cells = append(cells, spellRange(result.RangeIn(s.Runs, m.of), m.spell))
		}
		g.row(cells...)
	}
	return g
}

func spellRange(r result.Range, spell func(float64) string) string {
	if r.Count == 0 {
		return none
	}
	if r.Count == 1 {
		return spell(r.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", spell(r.Median), spell(r.Min), spell(r.Max))
}
