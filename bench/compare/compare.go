// Package compare says whether a benchmark has become better or worse, and tells that from noise.
//
// One run against one other says little: machines are noisy, and tails more than medians. So each side may be several
// runs, and two sides differ only where no run of the one lies among those of the other, and the medians lie further
// apart than a tolerance. Ceilings are compared as well: where they moved, it was the machine.
package compare

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

// DefaultTolerance is how far medians may lie apart without meaning anything.
const DefaultTolerance = 0.05

// errorFloor is the share of errors below which two runs are alike: relative to none at all every error is infinitely
// many.
const errorFloor = 0.0001

// Outcome is what became of one figure.
type Outcome string

// The outcomes.
const (
	Better Outcome = "better"
	Worse  Outcome = "worse"
	Noise  Outcome = "within noise"
)

// Metric is a figure that sides are compared by.
type Metric struct {
	Name   string
	Unit   string // as result.Objective has them
	Higher bool   // is better
	Floor  float64
	of     func(*result.Figures) *float64
}

// Metrics lists them, in the order they are shown.
func Metrics() []Metric {
	return []Metric{
		{Name: "rate", Unit: "per second", Higher: true, of: func(f *result.Figures) *float64 { return &f.Rate }},
		{Name: "p50", Unit: "us", of: func(f *result.Figures) *float64 { return f.P50 }},
		{Name: "p99", Unit: "us", of: func(f *result.Figures) *float64 { return f.P99 }},
		{Name: "p99.9", Unit: "us", of: func(f *result.Figures) *float64 { return f.P999 }},
		{Name: "share", Unit: "ratio", Higher: true, of: func(f *result.Figures) *float64 { return f.Share }},
		{Name: "cpu", Unit: "us", of: func(f *result.Figures) *float64 { return f.CPUPer }},
		{Name: "allocs", Unit: "count", of: func(f *result.Figures) *float64 { return f.Allocs }},
		{Name: "errors", Unit: "share", Floor: errorFloor, of: func(f *result.Figures) *float64 { return &f.Errors }},
	}
}

func metricNames() []string {
	var names []string
	for _, m := range Metrics() {
		names = append(names, m.Name)
	}
	return names
}

// Options of a comparison.
type Options struct {
	Tolerance    float64  // share by which medians must differ at least
	Metrics      []string // names; empty for all
	AllowInvalid bool     // compare invalid runs too, and warn
}

func (o *Options) validate() error {
	if !(o.Tolerance >= 0 && o.Tolerance < 1) {
		return fmt.Errorf("the tolerance is %v; it must be at least 0 and less than 1", o.Tolerance)
	}
	for _, name := range o.Metrics {
		if !slices.Contains(metricNames(), name) {
			return fmt.Errorf("there is no metric %q; there are %s", name, strings.Join(metricNames(), ", "))
		}
	}
	return nil
}

// Comparison is what was found.
type Comparison struct {
	Kind      string   `json:"kind"`
	Version   int      `json:"version"`
	Workload  string   `json:"workload"`
	Tolerance float64  `json:"tolerance"`
	BaseRuns  int      `json:"base_runs"`
	NewRuns   int      `json:"new_runs"`
	Base      string   `json:"base"` // version of its binary
	New       string   `json:"new"`
	Rows      []Row    `json:"rows"`
	Warnings  []string `json:"warnings,omitempty"`
	Regressed bool     `json:"regressed"` // one row of what was measured is worse
}

// Kind and version of a comparison's JSON.
const (
	Kind    = "deputy.bench.comparison"
	Version = 1
)

// Row is one figure of one subject on both sides.
type Row struct {
	Subject string       `json:"subject"`
	Ceiling bool         `json:"ceiling,omitempty"` // says something about the machine, and is never a regression
	Metric  string       `json:"metric"`
	Unit    string       `json:"unit"`
	Base    result.Range `json:"base"`
	New     result.Range `json:"new"`
	Change  *float64     `json:"change"` // of the medians, relative; nil where the base is zero
	Outcome Outcome      `json:"outcome"`
}

// ErrInvalid means that a run must not be compared.
var ErrInvalid = errors.New("an invalid run says nothing about the server")

// Compare holds new runs against those of the base.
func Compare(base, fresh []*result.Result, o Options) (*Comparison, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Comparison{Kind: Kind, Version: Version, Tolerance: o.Tolerance}
	before, err := c.side("base", base, o.AllowInvalid)
	if err != nil {
		return nil, err
	}
	after, err := c.side("new", fresh, o.AllowInvalid)
	if err != nil {
		return nil, err
	}
	if err := result.Comparable(before, after); err != nil {
		return nil, fmt.Errorf("these are of different benchmarks: %w", err)
	}
	for _, difference := range result.Differences(before, after) {
		c.warn("base and new differ in %s", difference)
	}
	c.Workload, c.BaseRuns, c.NewRuns = before.Workload, before.Runs, after.Runs
	c.Base, c.New = before.Environment.Version, after.Environment.Version
	if c.BaseRuns == 1 || c.NewRuns == 1 {
		c.warn("one run on a side shows no range: noise beyond the tolerance looks like a change; take three or more of each")
	}
	for _, name := range result.Names(before, after) {
		c.subject(name, before.Subject(name), after.Subject(name), o.Metrics)
	}
	if len(c.Rows) == 0 {
		return nil, errors.New("no subject has such a figure on both sides")
	}
	return c, nil
}

func (c *Comparison) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

func (c *Comparison) side(name string, runs []*result.Result, allowInvalid bool) (*result.Result, error) {
	if len(runs) == 0 {
		return nil, fmt.Errorf("the %s side has no run", name)
	}
	sum, err := result.Combine(runs...)
	if err != nil {
		return nil, fmt.Errorf("the %s side: %w", name, err)
	}
	if !sum.Verdict.Valid {
		reasons := strings.Join(sum.Verdict.Reasons, "; ")
		if !allowInvalid {
			return nil, fmt.Errorf("the %s side: %w: %s (repeat it, or --allow-invalid)", name, ErrInvalid, reasons)
		}
		c.warn("the %s side is INVALID: %s", name, reasons)
	}
	return sum, nil
}

func (c *Comparison) subject(name string, before, after *result.Subject, only []string) {
	if before == nil || after == nil {
		side := "new"
		if after == nil {
			side = "base"
		}
		c.warn("%q is on the %s side alone", name, side)
		return
	}
	ceiling := before.Role == result.RoleCeiling
	for _, m := range Metrics() {
		if len(only) > 0 && !slices.Contains(only, m.Name) {
			continue
		}
		// Of a ceiling, only its rate says something: how fast the machine was.
		if ceiling && m.Name != "rate" {
			continue
		}
		row := Row{
			Subject: name, Ceiling: ceiling, Metric: m.Name, Unit: m.Unit,
			Base: result.RangeIn(before.Figures(), m.of), New: result.RangeIn(after.Figures(), m.of),
		}
		if row.Base.Count == 0 || row.New.Count == 0 {
			continue
		}
		row.Outcome = Judge(row.Base, row.New, m.Higher, c.Tolerance, m.Floor)
		if row.Base.Median != 0 {
			row.Change = new(row.New.Median/row.Base.Median - 1)
		}
		c.Rows = append(c.Rows, row)
		switch {
		case ceiling && row.Outcome != Noise:
			c.warn("%q became %s: the machine changed between the sides, so trust shares and not rates", name, row.Outcome)
		case !ceiling && row.Outcome == Worse:
			c.Regressed = true
		}
	}
}

// Judge says what became of a figure. It changed where the ranges have no value in common, and the medians differ by more
// than the tolerance of the base's, and by more than the floor.
func Judge(base, fresh result.Range, higherIsBetter bool, tolerance, floor float64) Outcome {
	difference := fresh.Median - base.Median
	overlap := fresh.Min <= base.Max && base.Min <= fresh.Max
	if overlap || math.Abs(difference) <= tolerance*math.Abs(base.Median) || math.Abs(difference) <= floor {
		return Noise
	}
	if (difference > 0) == higherIsBetter {
		return Better
	}
	return Worse
}
