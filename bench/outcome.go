package bench

import (
	"fmt"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
)

// errorKinds are how a result names the failures of the generator, where the names differ.
var errorKinds = map[load.Failure]string{
	load.FailureDial: result.ErrorConnect, load.FailureTimeout: result.ErrorTimeout, load.FailureClosed: result.ErrorClosed,
	load.FailureMalformed: result.ErrorMalformed, load.FailureAnswer: result.ErrorUnexpected, load.FailureOther: result.ErrorOther,
}

func errorsOf(failures map[load.Failure]int64) map[string]int64 {
	if len(failures) == 0 {
		return nil
	}
	kinds := make(map[string]int64, len(failures))
	for kind, n := range failures {
		name, ok := errorKinds[kind]
		if !ok {
			name = string(kind)
		}
		kinds[name] += n
	}
	return kinds
}

// subjectOf is what became of an operation, as a result has it.
func subjectOf(name string, role result.Role, op *load.Operation, seconds float64) (result.Subject, error) {
	s := result.Subject{
		Name: name, Role: role, Seconds: seconds,
		Counts: result.Counts{
			Offered: op.Offered, Sent: op.Sent, Completed: op.Succeeded, Failed: op.Failed(), Late: op.Late, Skipped: op.Skipped,
		},
		Errors: errorsOf(op.Failures),
	}
	if seconds > 0 {
		s.Rate = float64(op.Succeeded) / seconds
	}
	var err error
	if s.Latency, err = result.NewDistribution(op.Latency); err != nil {
		return s, fmt.Errorf("summarizing %s: %w", name, err)
	}
	if op.Service != nil {
		if s.Service, err = result.NewDistribution(op.Service); err != nil {
			return s, fmt.Errorf("summarizing %s: %w", name, err)
		}
	}
	if op.Lag != nil {
		if s.Lag, err = result.NewDistribution(op.Lag); err != nil {
			return s, fmt.Errorf("summarizing %s: %w", name, err)
		}
	}
	s.Series = pointsOf(op, 0)
	return s, nil
}

// pointsOf is an operation's series, moved by so many seconds.
func pointsOf(op *load.Operation, shift float64) []result.Point {
	series := op.Series()
	points := make([]result.Point, len(series))
	for i, p := range series {
		points[i] = result.Point{
			T: p.At.Seconds() + shift, Offered: p.Offered, Completed: p.Succeeded, Errors: p.Failed, P50: p.P50, P99: p.P99, Max: p.Max,
		}
	}
	if len(points) == 0 {
		return nil
	}
	return points
}

// warmUpOf is what was seen before the measured time.
func warmUpOf(op *load.Operation, seconds float64) *result.WarmUp {
	w := &result.WarmUp{Seconds: seconds, Completed: op.Succeeded, Errors: errorsOf(op.Failures), Series: pointsOf(op, -seconds)}
	if seconds > 0 {
		w.Rate = float64(op.Succeeded) / seconds
	}
	return w
}
