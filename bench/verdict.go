package bench

import (
	"fmt"
	"runtime"
	"time"

	"github.com/deputy-id/deputy/bench/load"
)

// starved is the share of its CPUs from which on a generator is taken to have been the bottleneck.
const starved = 0.9

// generatorCPUs is how many CPUs the generator may use.
func generatorCPUs() int { return runtime.GOMAXPROCS(0) }

// invalid says why the figures of a run are the generator's and not the servers'.
func invalid(s *load.Sample, share float64, maxLag time.Duration) (reasons []string) {
	if share >= starved {
		reasons = append(reasons, fmt.Sprintf("the generator used %.0f %% of its CPUs: it was the bottleneck; give it more of them or ask for less", 100*share))
	}
	if loop := s.Busiest.Seconds() / s.Elapsed.Seconds(); loop >= starved {
		reasons = append(reasons, fmt.Sprintf("a thread of the generator had something to do for %.0f %% of the time, and answers waited for it: give it more CPUs or more connections, or ask for less", 100*loop))
	}
	total := s.Total()
	if total.Lag != nil && total.Lag.TotalCount() > 0 {
		if lag := time.Duration(total.Lag.ValueAtPercentile(99)); lag > maxLag {
			reasons = append(reasons, fmt.Sprintf("the generator sent its requests late by itself: p99 of the lag is %s, above %s; what else runs on its CPUs?",
				lag.Round(10*time.Microsecond), maxLag))
		}
	}
	if total.Missed > 0 {
		reasons = append(reasons, fmt.Sprintf("the generator skipped %d requests although connections were free", total.Missed))
	}
	return reasons
}
