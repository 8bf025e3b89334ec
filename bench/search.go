package bench

import (
	"context"
	"fmt"
	"strings"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
)

// Bounds of a search.
const (
	maxSteps = 24
	// closeEnough ends a search: the highest rate that was met and the lowest that was not are this near.
	closeEnough = 1.05
)

// search looks for the highest rate that meets the SLO: it doubles from the first rate on until one misses, or halves
// until one meets, and then goes to the middle of what is left.
func (d *drive) search(ctx context.Context) error {
	met, missed := 0.0, 0.0
	var firstSample *load.Sample
	for rate := d.Rate; len(d.steps) < d.maxSteps && rate >= 1 && rate <= load.MaxRate; {
		sample, err := d.offer(ctx, fmt.Sprintf("step %d", len(d.steps)+1), load.Constant(rate, d.Step))
		if err != nil {
			return err
		}
		if firstSample == nil {
			firstSample = sample
		}
		step, err := d.stepOf(rate, sample)
		if err != nil {
			return err
		}
		d.steps = append(d.steps, step)
		d.Progress.Event("step %d: %.0f/s: p99 %.0f us, errors %.3f %%: %s", len(d.steps), rate, step.Latency.P99, 100*step.ErrorRate, stepVerdict(&step))
		if step.Met && step.Valid {
			met, d.sample = rate, sample
			d.highest = &met
		} else {
			missed = rate
			if !step.Valid {
				d.limited = fmt.Sprintf("at %.0f/s %s, so the search ended there: the servers may do more than shown", rate, step.Reason)
			} else {
				d.limited = ""
			}
		}
		switch {
		case missed == 0:
			rate *= 2
		case met == 0:
			rate /= 2
		case missed/met <= closeEnough:
			return nil
		default:
			rate = (met + missed) / 2
		}
	}
	if d.sample == nil {
		d.sample = firstSample // nothing met it: the first rate shows how far off it is
	}
	return nil
}

func stepVerdict(s *result.Step) string {
	switch {
	case !s.Valid:
		return "INVALID: " + s.Reason
	case s.Met:
		return "met"
	}
	return "missed: " + s.Reason
}

// stepOf judges one step.
func (d *drive) stepOf(rate float64, sample *load.Sample) (result.Step, error) {
	total := sample.Total()
	latency, err := result.NewDistribution(total.Latency)
	if err != nil {
		return result.Step{}, fmt.Errorf("summarizing a step: %w", err)
	}
	step := result.Step{
		Rate: rate, Seconds: sample.Elapsed.Seconds(), Completed: sample.Rate(), Latency: *latency, Met: true, Valid: true,
	}
	if total.Offered > 0 {
		step.ErrorRate = float64(total.Failed()+total.Skipped) / float64(total.Offered)
	}
	share := sample.GeneratorCPU.Seconds() / sample.Elapsed.Seconds() / float64(generatorCPUs())
	if reasons := invalid(sample, share, d.MaxLag); len(reasons) > 0 {
		step.Valid, step.Reason = false, strings.Join(reasons, "; ")
		return step, nil
	}
	var misses []string
	for i := range d.SLO.Objectives {
		o := &d.SLO.Objectives[i]
		if measured := o.Measured(total, sample.Elapsed); !o.Met(measured) {
			step.Met = false
			misses = append(misses, o.Text)
		}
	}
	step.Reason = strings.Join(misses, ", ")
	return step, nil
}

// sloOf holds the SLO against the measured time, all operations together.
func (d *drive) sloOf() *result.SLO {
	slo := &result.SLO{Text: d.SLO.Text, Met: true, Highest: d.highest}
	total := d.sample.Total()
	for i := range d.SLO.Objectives {
		o := &d.SLO.Objectives[i]
		measured := o.Measured(total, d.sample.Elapsed)
		met := o.Met(measured)
		slo.Met = slo.Met && met
		slo.Objectives = append(slo.Objectives, result.Objective{Text: o.Text, Limit: o.Limit, Measured: measured, Unit: o.Unit(), Met: met})
	}
	return slo
}
