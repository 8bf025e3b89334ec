package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/bench/result"
)

// title names the run.
func title(r *result.Result) string {
	if e := &r.Environment; e.Policy() != result.OrdinaryScheduling {
		return heldAt(r) + ", scheduled as " + e.Policy()
	}
	return heldAt(r)
}

// heldAt names what was run, and under which load.
func heldAt(r *result.Result) string {
	switch {
	case r.Load.Model == result.Closed:
		return r.Workload + ", closed loop"
	case r.SLO != nil && r.SLO.Highest != nil:
		return fmt.Sprintf("%s, the highest rate within %s", r.Workload, r.SLO.Text)
	case r.Load.From > 0:
		return fmt.Sprintf("%s, open loop, %s to %s/s", r.Workload, Count(r.Load.From), Count(r.Load.Rate))
	case r.Load.Rate > 0:
		return fmt.Sprintf("%s, open loop at %s/s", r.Workload, Count(r.Load.Rate))
	}
	return r.Workload + ", open loop"
}

// loadLine says how the load was offered.
func loadLine(r *result.Result) string {
	l := &r.Load
	var b strings.Builder
	if l.Model == result.Closed {
		b.WriteString("closed loop: a connection asks again once it has its answer, which finds throughput and hides waiting")
	} else {
		arrival := l.Arrival
		if arrival == "" {
			arrival = "constant"
		}
		fmt.Fprintf(&b, "open loop: requests are due by %s arrival whether or not earlier ones were answered, and latency counts from then", arrival)
	}
	fmt.Fprintf(&b, "; %s connections, %s measured", Count(float64(l.Connections)), Seconds(l.Seconds))
	if l.Rounds > 1 {
		fmt.Fprintf(&b, " in %d rounds taken in turns", l.Rounds)
	}
	if l.WarmUp > 0 {
		fmt.Fprintf(&b, " after %s of warm-up", Seconds(l.WarmUp))
	}
	if r.Runs > 1 {
		fmt.Fprintf(&b, "; %d runs put together", r.Runs)
	}
	if e := r.Exchange; e != nil {
		fmt.Fprintf(&b, "; request %d bytes, answer %d, of which body %d", e.Request, e.Response, e.Body)
	}
	return b.String()
}

// fact is one line of the environment.
type fact struct{ Name, Value string }

func facts(r *result.Result) []fact {
	e := &r.Environment
	list := []fact{
		{"Deputy", e.Version},
		{"Commit", e.Commit},
		{"CPU", fmt.Sprintf("%s, %d CPUs", e.CPU, e.CPUs)},
		{"Kernel", e.Kernel},
		{"Go", e.Go + " " + e.OS},
		{"GOMAXPROCS", strconv.Itoa(e.GOMAXPROCS) + " (generator)"},
		{"Server CPUs", cpus(e.ServerCPUs, e.Pinned)},
		{"Generator CPUs", cpus(e.GeneratorCPUs, e.Pinned)},
		{"Scheduling", schedulingLine(e)},
		{"fsync", fsyncLine(e.Fsync)},
	}
	if g := r.Generator; g != nil {
		list = append(list, fact{"Generator", Percent(g.CPU) + " of its CPUs" + yesNo(g.Bound, ", and the bottleneck", "")})
	}
	kept := list[:0]
	for _, f := range list {
		if f.Value != "" {
			kept = append(kept, f)
		}
	}
	return append(kept, fact{"Started", r.Started.UTC().Format("2006-01-02 15:04:05 UTC")}, fact{"Took", Seconds(r.Seconds)})
}

func cpus(list []int, pinned bool) string {
	if len(list) == 0 || !pinned {
		return "shared, not pinned"
	}
	texts := make([]string, len(list))
	for i, cpu := range list {
		texts[i] = strconv.Itoa(cpu)
	}
	return strings.Join(texts, ", ")
}

// schedulingLine is empty where nothing was asked of the kernel.
func schedulingLine(e *result.Environment) string {
	if e.Policy() == result.OrdinaryScheduling {
		return ""
	}
	return e.Scheduling + ", as chrt(1) has it, of the generator and of the servers that it started"
}

func fsyncLine(f *result.Fsync) string {
	if f == nil {
		return "not measured"
	}
	return fmt.Sprintf("p50 %s, p99 %s, max %s (%d appends of %d bytes, %s)", Latency(f.P50), Latency(f.P99), Latency(f.Max), f.Count, f.Bytes, f.Where)
}

func outcome(s *result.Step) string {
	text := yesNo(s.Met, "met", "missed")
	if !s.Valid {
		text = "INVALID"
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// verdictLine is what stands first and last.
func verdictLine(r *result.Result) string {
	if r.Verdict.Valid {
		return "valid"
	}
	return "INVALID: " + strings.Join(r.Verdict.Reasons, "; ")
}

func sloLine(r *result.Result) string {
	text := fmt.Sprintf("%s: %s", r.SLO.Text, yesNo(r.SLO.Met, "met", "MISSED"))
	if r.SLO.Highest != nil {
		text += fmt.Sprintf("; highest rate that met it: %s/s", Count(*r.SLO.Highest))
	}
	return text
}
