package report

import (
	"fmt"
	"io"

	"github.com/deputy-id/deputy/bench/compare"
)

// Comparison writes a comparison for a terminal.
func Comparison(w io.Writer, c *compare.Comparison) error {
	p := &lines{w: w}
	p.line("%s: base %s (%s) against new %s (%s), tolerance %s", c.Workload, c.Base, runs(c.BaseRuns), c.New, runs(c.NewRuns), Percent(c.Tolerance))
	p.line("")
	g := grid{Title: "Median (least–largest) of the runs", Head: []string{"Subject", "Figure", "Base", "New", "Change", ""}}
	for i := range c.Rows {
		row := &c.Rows[i]
		spell := spelling(row.Unit)
		change := none
		if row.Change != nil {
			change = fmt.Sprintf("%+.1f %%", 100**row.Change)
		}
		outcome := string(row.Outcome)
		if row.Ceiling && row.Outcome != compare.Noise {
			outcome += " (the machine)"
		} else if row.Outcome == compare.Worse {
			outcome = "WORSE"
		}
		g.row(row.Subject, figureName(row.Metric), spellRange(row.Base, spell), spellRange(row.New, spell), change, outcome)
	}
	p.grid(&g)
	p.line("")
	for _, warning := range c.Warnings {
		p.line("warning: %s", warning)
	}
	p.line("%s", yesNo(c.Regressed, "REGRESSED: something that was measured became worse", "no regression"))
	return p.err
}

func runs(n int) string {
	if n == 1 {
		return "1 run"
	}
	return fmt.Sprintf("%d runs", n)
}

func spelling(unit string) func(float64) string {
	switch unit {
	case "us":
		return Latency
	case "ratio":
		return Ratio
	case "share":
		return Percent
	case "per second":
		return func(f float64) string { return Count(f) + "/s" }
	}
	return Count
}

func figureName(metric string) string {
	switch metric {
	case "share":
		return "share of ceiling"
	case "cpu":
		return "server CPU per request"
	case "allocs":
		return "allocations per request"
	}
	return metric
}
