package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
)

// saturated is the share of its CPUs above which a process is taken to have no time left.
const saturated = 0.95

// Report is what a run found.
type Report struct {
	Workload    Workload       `json:"workload"`
	Load        string         `json:"load"` // how the load was offered
	Connections int            `json:"connections"`
	Rounds      int            `json:"rounds"`
	RoundMillis int64          `json:"round_ms"`
	Environment Environment    `json:"environment"`
	ServerCPUs  []int          `json:"server_cpus,omitempty"` // empty: not pinned
	Generator   []int          `json:"generator_cpus,omitempty"`
	Exchange    shape          `json:"exchange"`
	Profiled    bool           `json:"profiled,omitempty"`
	Subjects    []Subject      `json:"subjects"`            // what was measured, then its ceilings
	SignRate    *result.Spread `json:"sign_rate,omitempty"` // bare Ed25519 signatures a second on the server's core
	Ratio       Ratio          `json:"ratio"`
	Proving     []Proving      `json:"proving,omitempty"`       // mints that prove more than a secret
	Verify      float64        `json:"verify_micros,omitempty"` // one bare Ed25519 signature check
	Notes       []string       `json:"notes,omitempty"`         // what to know before believing it

	found *result.Result // the same with whole distributions
}

// Subject is what one server did over all its rounds.
type Subject struct {
	Name            string                 `json:"name"`
	Ceiling         Ceiling                `json:"ceiling,omitempty"`
	Rate            float64                `json:"rate"`         // successes a second, over all rounds
	RoundRate       result.Spread          `json:"round_rate"`   // the same, round by round
	RatePerCPU      float64                `json:"rate_per_cpu"` // successes a second of the server's CPU time; 0 where unknown
	WarmUpRate      float64                `json:"warmup_rate"`  // shown, not counted
	Succeeded       int64                  `json:"succeeded"`
	Failed          int64                  `json:"failed"`
	Failures        map[load.Failure]int64 `json:"failures,omitempty"`
	Latency         load.Latency           `json:"latency"`
	ServerCPU       float64                `json:"server_cpu"`    // share of its CPUs, 0 to 1; 0 where unknown
	GeneratorCPU    float64                `json:"generator_cpu"` // share of the generator's CPUs, 0 to 1
	GeneratorBound  bool                   `json:"generator_bound"`
	WarmUpFailures  map[load.Failure]int64 `json:"warmup_failures,omitempty"`
	MeasuredSeconds float64                `json:"measured_seconds"`
}

// Ratio is what was measured to its ceiling.
type Ratio struct {
	Of       string        `json:"of"`
	Rounds   result.Spread `json:"rounds"` // of the rounds' ratios; the median counts
	ByCPU    float64       `json:"by_cpu"` // the same by the servers' CPU time, which what else runs can't spoil; 0 where unknown
	Target   float64       `json:"target"`
	Met      bool          `json:"met"`      // false unless OneCore: the target speaks of that alone
	OneCore  bool          `json:"one_core"` // server and ceilings took turns on one core of their own
	Quotable bool          `json:"quotable"` // nothing in Notes speaks against the figure
}

func (r *run) report() (*Report, error) {
	environment := environment()
	report := &Report{
		Workload: r.Workload, Load: "closed loop: a connection asks again once it has its answer",
		Connections: r.Concurrency, Rounds: r.Rounds, RoundMillis: (r.Duration / time.Duration(r.Rounds)).Milliseconds(),
		Environment: environment, ServerCPUs: r.cpus.server, Generator: r.cpus.generator, Exchange: r.shape, Profiled: r.Profile != "",
	}
	for _, s := range r.subjects {
		report.Subjects = append(report.Subjects, s.report(max(1, len(r.cpus.server)), environment.GOMAXPROCS))
	}
	if len(r.signRate) > 0 {
		rate := result.SpreadOf(r.signRate)
		report.SignRate = &rate
	}
	target, ceiling := MintTarget, r.subjects[len(r.subjects)-1].name
	if r.Workload == WorkloadIntrospect {
		target = IntrospectTarget
	}
	if r.Cold {
		target = ColdTarget
	}
	if r.Policies > 0 {
		target = PoliciesTarget
	}
	rounds := result.SpreadOf(r.ratios())
	report.Ratio = Ratio{
		Of:     fmt.Sprintf("%s / (%s)", r.subjects[0].name, strings.TrimPrefix(ceiling, "ceiling: ")),
		Rounds: rounds, Target: target, Met: r.cpus.pinned() && rounds.Median >= target, OneCore: r.cpus.pinned(),
	}
	first, last := report.Subjects[0], report.Subjects[len(report.Subjects)-1]
	if last.RatePerCPU > 0 {
		report.Ratio.ByCPU = first.RatePerCPU / last.RatePerCPU
	}
	if r.cold != nil && r.cold.again.Load() > 0 {
		report.Notes = append(report.Notes, fmt.Sprintf("%d questions were about tokens that had been asked about before: there were too few", r.cold.again.Load()))
	}
	report.Proving, report.Verify = r.proofRatios(report), r.verifyMicros
	report.judge()
	var err error
	report.found, err = r.result(report)
	return report, err
}

func (s *subject) report(serverCPUs, generatorCPUs int) Subject {
	seconds := s.total.Elapsed.Seconds()
	out := Subject{
		Name: s.name, Ceiling: s.ceiling, Rate: s.total.Rate(), RoundRate: result.SpreadOf(s.rates), WarmUpRate: s.warmUp.Rate(),
		Succeeded: s.total.Succeeded(), Failed: s.total.Failed(), Failures: s.total.Failures(), Latency: s.total.Latency(),
		WarmUpFailures: s.warmUp.Failures(), MeasuredSeconds: seconds,
	}
	if seconds > 0 {
		out.ServerCPU = s.total.ServerCPU.Seconds() / seconds / float64(serverCPUs)
		out.GeneratorCPU = s.total.GeneratorCPU.Seconds() / seconds / float64(generatorCPUs)
	}
	if spent := s.total.ServerCPU.Seconds(); spent > 0 {
		out.RatePerCPU = float64(s.total.Succeeded()) / spent
	}
	out.GeneratorBound = out.GeneratorCPU >= saturated && out.ServerCPU < saturated
	return out
}

// starved says who had too little CPU for the figure to be the server's own: the generator, or a server on its own core.
func (s *Subject) starved(oneCore bool) string {
	switch {
	case s.GeneratorBound:
		return fmt.Sprintf("the generator was the bottleneck for %q: the server could do more than shown", s.Name)
	case oneCore && s.ServerCPU < saturated-0.05:
		return fmt.Sprintf("%q had only %s of its core: something else ran there", s.Name, share(s.ServerCPU))
	}
	return ""
}

// judge says what stands between the figures and their being quoted.
func (r *Report) judge() {
	note := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	if !r.Ratio.OneCore {
		note("nothing was pinned: servers, ceilings and generator share the CPUs, so the ratio is not that of one server core (--self on two CPUs or more)")
	}
	for _, s := range r.Subjects {
		if reason := s.starved(r.Ratio.OneCore); reason != "" {
			note("%s", reason)
		}
		if s.Failed > 0 {
			note("%q failed %d times: only successes are in its rate", s.Name, s.Failed)
		}
	}
	if half := (r.Ratio.Rounds.High - r.Ratio.Rounds.Low) / 2; r.Ratio.Rounds.Median > 0 && half/r.Ratio.Rounds.Median > 0.1 {
		note("rounds differ by more than a tenth either way: the machine is busy with something else; repeat it")
	}
	if r.Profiled {
		note("the server was being profiled, which costs it some percent")
	}
	r.Ratio.Quotable = len(r.Notes) == 0
}

// Result is what the run found as all benchmarks have it.
func (r *Report) Result() *result.Result { return r.found }

func writeJSON(w io.Writer, report any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	p := &printer{w: w}
	p.invalid(r.found)
	p.environment(r.Environment)
	p.line("%s, %s", r.Workload, r.Load)
	p.line("%d connections, %d rounds of %d ms each, taken in turns; request %d bytes, answer %d, of which body %d; token %d",
		r.Connections, r.Rounds, r.RoundMillis, r.Exchange.Request, r.Exchange.Response, r.Exchange.Body, r.Exchange.Token)
	if r.Ratio.OneCore {
		p.line("servers on CPU %v with GOMAXPROCS=%d, one at a time; generator on CPU %v", r.ServerCPUs, len(r.ServerCPUs), r.Generator)
	}
	p.line("")
	p.table(func(row func(cells ...any)) {
		row("SUBJECT", "REQ/S", "P25–P75 OF ROUNDS", "P50", "P90", "P99", "P99.9", "MAX", "FAILED", "SERVER CPU", "REQ/CPU·S", "GENERATOR CPU", "WARM-UP REQ/S")
		for _, s := range r.Subjects {
			row(s.Name, whole(s.Rate), whole(s.RoundRate.Low)+"–"+whole(s.RoundRate.High),
				micros(s.Latency.P50), micros(s.Latency.P90), micros(s.Latency.P99), micros(s.Latency.P999), micros(s.Latency.Max),
				s.Failed, share(s.ServerCPU), whole(s.RatePerCPU), share(s.GeneratorCPU), whole(s.WarmUpRate))
		}
	})
	if r.SignRate != nil {
		p.line("bare Ed25519 signatures, one goroutine: %s/s (p25–p75 %s–%s)", whole(r.SignRate.Median), whole(r.SignRate.Low), whole(r.SignRate.High))
	}
	for _, s := range r.Subjects {
		p.failures(s.Name, s.Failures)
		p.failures(s.Name+", warm-up", s.WarmUpFailures)
	}
	p.line("")
	if r.Ratio.OneCore {
		p.ratio(r.Ratio.Of, r.Ratio.Rounds, r.Ratio.Target, r.Ratio.Met)
	} else {
		p.line("ratio %s = %.3f (median of rounds; p25–p75 %.3f–%.3f)", r.Ratio.Of, r.Ratio.Rounds.Median, r.Ratio.Rounds.Low, r.Ratio.Rounds.High)
	}
	if r.Ratio.ByCPU > 0 {
		p.line("the same by the servers' CPU time: %.3f", r.Ratio.ByCPU)
	}
	for _, proving := range r.Proving {
		extra := "unknown"
		if proving.ExtraMicros != 0 {
			extra = micros(proving.ExtraMicros)
		}
		p.line("ratio %s / (handler + sign) = %.3f (p25–p75 %.3f–%.3f); its extra signature check costs the server %s each (bare check here: %s)",
			proving.Name, proving.Ratio.Median, proving.Ratio.Low, proving.Ratio.High, extra, micros(r.Verify))
	}
	for _, note := range r.Notes {
		p.line("note: %s", note)
	}
	p.invalid(r.found)
	return p.err
}

// printer writes lines until the first error, and keeps it.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// invalid says so first and last, as figures between are copied.
func (p *printer) invalid(found *result.Result) {
	if found != nil && !found.Verdict.Valid {
		p.line("INVALID: %s", strings.Join(found.Verdict.Reasons, "; "))
	}
}

func (p *printer) environment(e Environment) {
	p.line("%s, %d CPUs, kernel %s, %s %s, GOMAXPROCS=%d", e.CPU, e.CPUs, e.Kernel, e.Go, e.OS, e.GOMAXPROCS)
	if e.Scheduling != "" && e.Scheduling != result.OrdinaryScheduling {
		p.line("scheduling: %s", e.Scheduling)
	}
}

func (p *printer) table(fill func(row func(cells ...any))) {
	tab := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	fill(func(cells ...any) {
		texts := make([]string, len(cells))
		for i, cell := range cells {
			texts[i] = fmt.Sprint(cell)
		}
		if p.err == nil {
			_, p.err = fmt.Fprintln(tab, strings.Join(texts, "\t"))
		}
	})
	if err := tab.Flush(); p.err == nil {
		p.err = err
	}
}

func (p *printer) failures(name string, failures map[load.Failure]int64) {
	for _, kind := range slices.Sorted(maps.Keys(failures)) {
		p.line("failed: %s: %s × %d", name, kind, failures[kind])
	}
}

func (p *printer) ratio(of string, rounds result.Spread, target float64, met bool) {
	verdict := "met"
	if !met {
		verdict = "MISSED"
	}
	p.line("ratio %s = %.3f (median of rounds; p25–p75 %.3f–%.3f); asked for: at least %.2f: %s",
		of, rounds.Median, rounds.Low, rounds.High, target, verdict)
}

// whole spells a count with thousands apart.
func whole(f float64) string {
	digits := fmt.Sprintf("%.0f", f)
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && c != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func micros(us float64) string {
	return time.Duration(us * 1e3).Round(time.Microsecond).String()
}

func share(f float64) string {
	if f == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*f)
}
