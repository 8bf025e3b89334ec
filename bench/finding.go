package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// result puts what the report says, and the distributions behind it, into the shape that all benchmarks share.
func (r *run) result(rep *Report) (*result.Result, error) {
	found := &result.Result{
		Environment: environmentOf(), Workload: string(r.Workload), About: about[r.Workload],
		Load: result.Load{
			Model: result.Closed, Connections: r.Concurrency, Seconds: r.Duration.Seconds(), WarmUp: r.WarmUp.Seconds(), Rounds: r.Rounds,
		},
		Exchange: &result.Exchange{Request: r.shape.Request, Response: r.shape.Response, Body: r.shape.Body, Token: r.shape.Token},
		Verdict:  result.Verdict{Valid: true}, Runs: 1,
	}
	e := &found.Environment
	e.ServerCPUs, e.GeneratorCPUs, e.Pinned = r.cpus.server, r.cpus.generator, r.cpus.pinned()
	last := len(r.subjects) - 1
	for i, s := range r.subjects {
		subject, err := s.result(&rep.Subjects[i])
		if err != nil {
			return nil, err
		}
		if s.ceiling == "" {
			subject.Shares = []result.Share{r.shareOf(i, last, rep)}
		}
		// What spoils a measured subject, or the ceiling that it is held against, spoils the run.
		if reason := rep.Subjects[i].starved(rep.Ratio.OneCore); reason != "" && (s.ceiling == "" || i == last) {
			found.Verdict.Valid = false
			found.Verdict.Reasons = append(found.Verdict.Reasons, reason)
		}
		found.Subjects = append(found.Subjects, subject)
	}
	found.Notes = slices.DeleteFunc(slices.Clone(rep.Notes), func(note string) bool {
		return slices.Contains(found.Verdict.Reasons, note)
	})
	if rep.SignRate != nil {
		found.Subjects = append(found.Subjects, bare("bare Ed25519 signature", "bare sign", *rep.SignRate))
	}
	if r.verifyMicros > 0 {
		rate := 1e6 / r.verifyMicros
		found.Subjects = append(found.Subjects, bare("bare Ed25519 verification", "bare verify", result.Spread{Median: rate, Low: rate, High: rate}))
	}
	return found, nil
}

// about says in a sentence what a workload does.
var about = map[Workload]string{
	WorkloadMint:       "Tokens by client_credentials, beside an HTTP handler that only signs.",
	WorkloadIntrospect: "Introspection of tokens seen before, beside an HTTP handler that only looks them up.",
}

func (s *subject) result(of *Subject) (result.Subject, error) {
	role := result.RoleMeasured
	if s.ceiling != "" {
		role = result.RoleCeiling
	}
	out, err := subjectOf(s.name, role, s.total.Total(), s.total.Elapsed.Seconds())
	if err != nil {
		return out, err
	}
	out.Ceiling, out.Bound = string(s.ceiling), of.GeneratorBound
	out.Rounds = new(of.RoundRate)
	out.WarmUp = warmUpOf(s.warmUp.Total(), s.warmUp.Elapsed.Seconds())
	if s.pid != 0 {
		out.Server = new(of.ServerCPU)
	}
	out.Generate = new(of.GeneratorCPU)
	if of.RatePerCPU > 0 {
		out.CPUPer = new(1e6 / of.RatePerCPU)
	}
	return out, nil
}

// shareOf is what a measured subject reaches of the ceiling, round by round.
func (r *run) shareOf(measured, ceiling int, rep *Report) result.Share {
	of, to := &rep.Subjects[measured], &rep.Subjects[ceiling]
	share := result.Share{Of: to.Name, Rounds: result.SpreadOf(ratiosOf(r.subjects[measured].rates, r.subjects[ceiling].rates))}
	if of.RatePerCPU > 0 && to.RatePerCPU > 0 {
		share.ByCPU = new(of.RatePerCPU / to.RatePerCPU)
	}
	// The target speaks of the first subject, on one core.
	if measured == 0 {
		share.Target = new(rep.Ratio.Target)
		if rep.Ratio.OneCore {
			share.Met = new(rep.Ratio.Met)
		}
	}
	return share
}

// ratiosOf are, round by round, what was measured to the ceiling.
func ratiosOf(measured, ceiling []float64) []float64 {
	ratios := make([]float64, min(len(measured), len(ceiling)))
	for i := range ratios {
		if ceiling[i] > 0 {
			ratios[i] = measured[i] / ceiling[i]
		}
	}
	return ratios
}

// bare is a ceiling without a server around it: a rate, and nothing else.
func bare(name, kind string, rate result.Spread) result.Subject {
	return result.Subject{Name: name, Role: result.RoleCeiling, Ceiling: kind, Rate: rate.Median, Rounds: &rate}
}

// show says how the round that is over went.
func (r *run) show(round int, name string, s *load.Sample) {
	l := s.Latency()
	r.Progress.Show(report.Tick{
		Phase: fmt.Sprintf("round %d of %d", round+1, r.Rounds), Subject: name, Rate: s.Rate(),
		P50: micro(l.P50), P99: micro(l.P99), Errors: s.Failed(),
	})
}

func micro(us float64) time.Duration { return time.Duration(us * float64(time.Microsecond)) }
