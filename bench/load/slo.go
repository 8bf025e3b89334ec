package load

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Measure is what an objective speaks of.
type Measure string

// The measures besides percentiles.
const (
	MeasureMax     Measure = "max"
	MeasureMean    Measure = "mean"
	MeasureErrors  Measure = "errors"  // failed and skipped, of what was offered
	MeasureSkipped Measure = "skipped" // of what was offered
	MeasureLate    Measure = "late"    // of what was offered
	MeasureRate    Measure = "rate"    // completed a second
)

// Objective is one part of an SLO.
type Objective struct {
	Text       string
	Measure    Measure // one of the above, or "p" and a percentile
	Percentile float64 // of "p…"
	Above      bool    // the measure must be above the limit, not below
	OrEqual    bool
	Limit      float64 // microseconds, a share of 1, or a rate
}

// SLO is what a load must not break.
type SLO struct {
	Text       string
	Objectives []Objective
}

const sloForm = `write an SLO as p99<2ms,errors<0.01% (measures: p50 to p99.999, max, mean, errors, skipped, late, rate)`

// ParseSLO reads an SLO such as "p99<2ms,errors<0.01%".
func ParseSLO(text string) (*SLO, error) {
	slo := &SLO{Text: text}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		objective, err := parseObjective(part)
		if err != nil {
			return nil, fmt.Errorf("SLO %q: %w; %s", text, err, sloForm)
		}
		for _, other := range slo.Objectives {
			if other.Measure == objective.Measure && other.Above == objective.Above {
				return nil, fmt.Errorf("SLO %q: %s is limited twice", text, objective.Measure)
			}
		}
		slo.Objectives = append(slo.Objectives, objective)
	}
	return slo, nil
}

func parseObjective(text string) (o Objective, err error) {
	o.Text = text
	at := strings.IndexAny(text, "<>")
	if at <= 0 {
		return o, fmt.Errorf("%q has no < or > after a measure", text)
	}
	name, limit := strings.TrimSpace(text[:at]), text[at+1:]
	o.Above = text[at] == '>'
	if rest, ok := strings.CutPrefix(limit, "="); ok {
		o.OrEqual, limit = true, rest
	}
	limit = strings.TrimSpace(limit)
	o.Measure = Measure(strings.ToLower(name))
	switch o.Measure {
	case MeasureErrors, MeasureSkipped, MeasureLate:
		o.Limit, err = parseShare(limit)
	case MeasureRate:
		o.Limit, err = ParseRate(limit)
		if err == nil && !o.Above {
			err = fmt.Errorf("a rate is to be above something: rate>%s", limit)
		}
	case MeasureMax, MeasureMean:
		o.Limit, err = parseLatency(limit)
	default:
		if o.Percentile, err = parsePercentile(string(o.Measure)); err == nil {
			o.Limit, err = parseLatency(limit)
		}
	}
	if err != nil {
		return o, fmt.Errorf("%q: %w", text, err)
	}
	if o.Above && o.Measure != MeasureRate {
		return o, fmt.Errorf("%q: only a rate can be asked to be above something", text)
	}
	return o, nil
}

// parsePercentile reads p50, p99.9, and p999 as people write that.
func parsePercentile(name string) (float64, error) {
	digits, ok := strings.CutPrefix(name, "p")
	if !ok {
		return 0, fmt.Errorf("measure %q is not known", name)
	}
	if len(digits) > 2 && strings.Trim(digits, "9") == "" { // p999 is 99.9
		digits = digits[:2] + "." + digits[2:]
	}
	percentile, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(percentile > 0) || percentile >= 100 {
		return 0, fmt.Errorf("measure %q is no percentile between 0 and 100", name)
	}
	return percentile, nil
}

func parseLatency(text string) (microseconds float64, err error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 2ms or 800us", text)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%q: a latency is above 0", text)
	}
	return float64(d) / 1e3, nil
}

func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		share /= 100
	}
	if err != nil || share < 0 || share > 1 || share != share {
		return 0, fmt.Errorf("%q is not a share such as 0.01%% or 0.001", text)
	}
	return share, nil
}

// Measured is what an operation has of the objective, in the unit of its limit.
func (o *Objective) Measured(op *Operation, elapsed time.Duration) float64 {
	share := func(n int64) float64 {
		if op.Offered == 0 {
			return 0
		}
		return float64(n) / float64(op.Offered)
	}
	switch o.Measure {
	case MeasureErrors:
		return share(op.Failed() + op.Skipped)
	case MeasureSkipped:
		return share(op.Skipped)
	case MeasureLate:
		return share(op.Late)
	case MeasureRate:
		return float64(op.Succeeded) / elapsed.Seconds()
	case MeasureMax:
		return microseconds(op.Latency.Max())
	case MeasureMean:
		return op.Latency.Mean() / 1e3
	}
	return microseconds(op.Latency.ValueAtPercentile(o.Percentile))
}

// Met reports whether a measured value is within the limit.
func (o *Objective) Met(measured float64) bool {
	switch {
	case o.OrEqual && measured == o.Limit:
		return true
	case o.Above:
		return measured > o.Limit
	}
	return measured < o.Limit
}

// Unit is that of the limit.
func (o *Objective) Unit() string {
	switch o.Measure {
	case MeasureErrors, MeasureSkipped, MeasureLate:
		return "share"
	case MeasureRate:
		return "per second"
	}
	return "us"
}
