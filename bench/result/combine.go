package result

import (
	"errors"
	"fmt"
	"slices"
)

// Combine puts several runs of the same benchmark together: counts add up, distributions are merged as a whole, rates and
// shares are medians of the runs, and each run's figures are kept for their range. What belongs to the seconds of one run
// alone, its series, faults and nodes, is left out. It is invalid where one of them is.
func Combine(results ...*Result) (*Result, error) {
	if len(results) == 0 {
		return nil, errors.New("there is no run to put together")
	}
	if len(results) == 1 {
		return results[0], nil
	}
	first := results[0]
	sum := *first
	sum.Runs, sum.Seconds, sum.Nodes, sum.Faults, sum.Generator = 0, 0, nil, nil, nil
	sum.Verdict, sum.Notes, sum.Subjects = Verdict{Valid: true}, nil, nil
	note := func(text string) {
		if !slices.Contains(sum.Notes, text) {
			sum.Notes = append(sum.Notes, text)
		}
	}
	for i, r := range results {
		if err := Comparable(first, r); err != nil {
			return nil, fmt.Errorf("run %d is of another benchmark than the first: %w", i+1, err)
		}
		for _, difference := range Differences(first, r) {
			note(fmt.Sprintf("run %d differs from the first in %s", i+1, difference))
		}
		sum.Runs += max(1, r.Runs)
		sum.Seconds += r.Seconds
		if r.Started.Before(sum.Started) {
			sum.Started = r.Started
		}
		if !r.Verdict.Valid {
			sum.Verdict.Valid = false
			for _, reason := range r.Verdict.Reasons {
				sum.Verdict.Reasons = append(sum.Verdict.Reasons, fmt.Sprintf("run %d: %s", i+1, reason))
			}
		}
		for _, text := range r.Notes {
			note(text)
		}
	}
	for i := range first.Subjects {
		var parts []*Subject
		for n, r := range results {
			part := r.Subject(first.Subjects[i].Name)
			if part == nil {
				return nil, fmt.Errorf("run %d has no subject %q", n+1, first.Subjects[i].Name)
			}
			parts = append(parts, part)
		}
		s, err := combineSubject(parts)
		if err != nil {
			return nil, fmt.Errorf("subject %q: %w", first.Subjects[i].Name, err)
		}
		sum.Subjects = append(sum.Subjects, *s)
	}
	sum.SLO = combineSLO(results)
	sum.Load.Steps = nil
	return &sum, nil
}

func combineSubject(parts []*Subject) (*Subject, error) {
	first := parts[0]
	sum := Subject{Name: first.Name, Role: first.Role, Ceiling: first.Ceiling, Errors: make(map[string]int64)}
	var rates []float64
	for _, part := range parts {
		sum.Runs = append(sum.Runs, part.Figures()...)
		sum.Seconds += part.Seconds
		c, p := &sum.Counts, &part.Counts
		c.Offered, c.Sent, c.Completed = c.Offered+p.Offered, c.Sent+p.Sent, c.Completed+p.Completed
		c.Failed, c.Late, c.Skipped = c.Failed+p.Failed, c.Late+p.Late, c.Skipped+p.Skipped
		for kind, n := range part.Errors {
			sum.Errors[kind] += n
		}
		sum.Bound = sum.Bound || part.Bound
	}
	for i := range sum.Runs {
		rates = append(rates, sum.Runs[i].Rate)
	}
	sum.Rate = Median(rates)
	var err error
	for _, d := range []struct {
		into **Distribution
		of   func(*Subject) *Distribution
	}{
		{&sum.Latency, func(s *Subject) *Distribution { return s.Latency }},
		{&sum.Service, func(s *Subject) *Distribution { return s.Service }},
		{&sum.Lag, func(s *Subject) *Distribution { return s.Lag }},
	} {
		var all []*Distribution
		for _, part := range parts {
			all = append(all, d.of(part))
		}
		if *d.into, err = merge(all); err != nil {
			return nil, err
		}
	}
	sum.CPUPer = medianOf(parts, func(s *Subject) *float64 { return s.CPUPer })
	sum.Allocs = medianOf(parts, func(s *Subject) *float64 { return s.Allocs })
	sum.Server = medianOf(parts, func(s *Subject) *float64 { return s.Server })
	sum.Generate = medianOf(parts, func(s *Subject) *float64 { return s.Generate })
	for i := range first.Shares {
		sum.Shares = append(sum.Shares, combineShare(parts, first.Shares[i].Of))
	}
	if len(sum.Errors) == 0 {
		sum.Errors = nil
	}
	return &sum, nil
}

// combineShare is the spread of the runs' medians.
func combineShare(parts []*Subject, of string) Share {
	sum := Share{Of: of}
	var medians, byCPU []float64
	judged := false
	for _, part := range parts {
		for i := range part.Shares {
			share := &part.Shares[i]
			if share.Of != of {
				continue
			}
			medians = append(medians, share.Rounds.Median)
			if share.ByCPU != nil {
				byCPU = append(byCPU, *share.ByCPU)
			}
			if share.Target != nil {
				sum.Target = share.Target
			}
			judged = judged || share.Met != nil
		}
	}
	sum.Rounds = SpreadOf(medians)
	if len(byCPU) > 0 {
		sum.ByCPU = new(Median(byCPU))
	}
	if judged && sum.Target != nil {
		sum.Met = new(sum.Rounds.Median >= *sum.Target)
	}
	return sum
}

// combineSLO has an objective met where more than half of the runs met it: then their median does.
func combineSLO(results []*Result) *SLO {
	first := results[0].SLO
	if first == nil {
		return nil
	}
	sum := &SLO{Text: first.Text, Objectives: slices.Clone(first.Objectives), Met: true}
	for i := range sum.Objectives {
		o := &sum.Objectives[i]
		var measured []float64
		met := 0
		for _, r := range results {
			if r.SLO == nil || i >= len(r.SLO.Objectives) || r.SLO.Objectives[i].Text != o.Text {
				return nil // they were asked for different things
			}
			measured = append(measured, r.SLO.Objectives[i].Measured)
			if r.SLO.Objectives[i].Met {
				met++
			}
		}
		o.Measured, o.Met = Median(measured), 2*met > len(results)
		sum.Met = sum.Met && o.Met
	}
	var highest []float64
	for _, r := range results {
		if r.SLO.Highest != nil {
			highest = append(highest, *r.SLO.Highest)
		}
	}
	if len(highest) > 0 {
		sum.Highest = new(Median(highest))
	}
	return sum
}

func medianOf(parts []*Subject, of func(*Subject) *float64) *float64 {
	var values []float64
	for _, part := range parts {
		if v := of(part); v != nil {
			values = append(values, *v)
		}
	}
	if len(values) == 0 {
		return nil
	}
	return new(Median(values))
}

// Comparable reports what keeps two results from being of the same benchmark.
func Comparable(a, b *Result) error {
	switch {
	case a.Workload != b.Workload:
		return fmt.Errorf("one has workload %q and the other %q", a.Workload, b.Workload)
	case a.Load.Model != b.Load.Model:
		return fmt.Errorf("one has an %s load and the other a %s one", a.Load.Model, b.Load.Model)
	}
	return nil
}

// Differences lists what may explain that figures differ and is not the code.
func Differences(a, b *Result) []string {
	var list []string
	add := func(what string, x, y any) {
		if x != y {
			list = append(list, fmt.Sprintf("%s: %v, and %v", what, x, y))
		}
	}
	e, f := &a.Environment, &b.Environment
	add("CPU", e.CPU, f.CPU)
	add("CPUs", e.CPUs, f.CPUs)
	add("kernel", e.Kernel, f.Kernel)
	add("system", e.OS, f.OS)
	add("Go", e.Go, f.Go)
	add("GOMAXPROCS", e.GOMAXPROCS, f.GOMAXPROCS)
	add("server CPUs", len(e.ServerCPUs), len(f.ServerCPUs))
	add("generator CPUs", len(e.GeneratorCPUs), len(f.GeneratorCPUs))
	add("pinned", e.Pinned, f.Pinned)
	add("scheduling", e.Policy(), f.Policy())
	add("rate offered", a.Load.Rate, b.Load.Rate)
	add("connections", a.Load.Connections, b.Load.Connections)
	add("measured seconds", a.Load.Seconds, b.Load.Seconds)
	add("rounds", a.Load.Rounds, b.Load.Rounds)
	return list
}

// Names are those of all subjects of both, those of the first in their order.
func Names(a, b *Result) []string {
	var list []string
	seen := make(map[string]bool)
	for _, r := range []*Result{a, b} {
		for i := range r.Subjects {
			if name := r.Subjects[i].Name; !seen[name] {
				seen[name] = true
				list = append(list, name)
			}
		}
	}
	return list
}

// Group gathers the runs of the same benchmark under the same load, in the order in which each first came.
func Group(results []*Result) [][]*Result {
	var groups [][]*Result
	for _, r := range results {
		at := slices.IndexFunc(groups, func(g []*Result) bool { return repeats(g[0], r) })
		if at < 0 {
			groups = append(groups, nil)
			at = len(groups) - 1
		}
		groups[at] = append(groups[at], r)
	}
	return groups
}

func repeats(a, b *Result) bool {
	if Comparable(a, b) != nil || a.Load.Rate != b.Load.Rate || a.Load.From != b.Load.From || a.Load.Connections != b.Load.Connections {
		return false
	}
	if a.Environment.Policy() != b.Environment.Policy() {
		return false
	}
	if (a.SLO == nil) != (b.SLO == nil) || a.SLO != nil && a.SLO.Text != b.SLO.Text {
		return false
	}
	return slices.EqualFunc(a.Subjects, b.Subjects, func(x, y Subject) bool { return x.Name == y.Name })
}
