package report

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/bench/result"
)

func pointer[T any](v T) *T { return &v }

// recorded is a distribution of n latencies around a median, of which slow have a delay on top.
func recorded(t testing.TB, seed uint64, n int, median float64, slow int, delay time.Duration) *result.Distribution {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 1))
	h := hdrhistogram.New(int64(time.Microsecond), int64(time.Minute), 3)
	for i := range n {
		us := median * math.Exp(0.35*dice.NormFloat64())
		if i < slow {
			us += float64(delay.Microseconds()) * dice.Float64()
		}
		require.NoError(t, h.RecordValue(int64(max(us, 1)*1e3)))
	}
	d, err := result.NewDistribution(h)
	require.NoError(t, err)
	return d
}

// failover is an open-loop run in which the leader is killed at second 20 of 60 and another node is stalled later.
func failover(t testing.TB) *result.Result {
	t.Helper()
	const rate, seconds = 5000, 60
	dice := rand.New(rand.NewPCG(7, 7))
	var series, warm []result.Point
	failed := int64(0)
	for second := -5; second < seconds; second++ {
		p := result.Point{T: float64(second), Offered: rate, Completed: rate, P50: 410 + 30*dice.Float64(), P99: 1100 + 400*dice.Float64(), Max: 4200 + 3000*dice.Float64()}
		switch second {
		case 20:
			p.Errors, p.P50, p.P99, p.Max = 180, 900, 212_000, 402_000
		case 21:
			p.Errors, p.P99, p.Max = 12, 41_000, 96_000
		case 42:
			p.P99, p.Max = 187_000, 204_000
		}
		p.Completed -= p.Errors
		if second < 0 {
			warm = append(warm, p)
			continue
		}
		failed += p.Errors
		series = append(series, p)
	}
	offered := int64(rate * seconds)
	r := &result.Result{
		Command: []string{"deputy", "bench", "failover", "--rate", "5000", "--duration", "60s", "--slo", "p99<2ms,errors<0.1%", "--html", "failover.html"},
		Started: time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC), Seconds: 71.3,
		Environment: result.Environment{
			Version: "v0.9.0", Commit: "0123456789ab", CPU: "AMD EPYC", CPUs: 8, Kernel: "6.18.44", OS: "linux/amd64", Go: "go1.26.8", GOMAXPROCS: 2,
			ServerCPUs: []int{2, 3, 4, 5, 6, 7}, GeneratorCPUs: []int{0, 1}, Pinned: true,
			Fsync: &result.Fsync{Where: "data folder of node-1", Count: 200, Bytes: 4096, P50: 412, P99: 1830, Max: 5210},
		},
		Workload: "failover", About: "Tokens by client_credentials over three nodes, whose leader is killed at second 20.",
		Load:      result.Load{Model: result.Open, Rate: rate, Arrival: "constant", Connections: 256, Seconds: seconds, WarmUp: 5, LateAfter: 1000},
		Exchange:  &result.Exchange{Request: 254, Response: 1063, Body: 883, Token: 728},
		Generator: &result.Generator{CPU: 0.41},
		Subjects: []result.Subject{
			{
				Name: "mint", Role: result.RoleMeasured, Seconds: seconds, Rate: float64(offered-failed) / seconds,
				Counts:  result.Counts{Offered: offered, Sent: offered, Completed: offered - failed, Failed: failed, Late: 31},
				Errors:  map[string]int64{"http 503": failed - 40, result.ErrorClosed: 40},
				Latency: recorded(t, 1, 30_000, 420, 90, 400*time.Millisecond), Service: recorded(t, 2, 30_000, 400, 6, 200*time.Millisecond),
				Lag: recorded(t, 3, 30_000, 8, 30, 20*time.Millisecond), Series: series,
				WarmUp: &result.WarmUp{Seconds: 5, Completed: 25_000, Rate: 5000, Series: warm}, CPUPer: pointer(49.3), Allocs: pointer(38.0), Server: pointer(0.62), Generate: pointer(0.41),
				Shares: []result.Share{{Of: "ceiling: handler + sign", Rounds: result.Spread{Median: 0.862, Low: 0.81, High: 0.91}, ByCPU: pointer(0.86), Target: pointer(0.85), Met: pointer(true)}},
			},
			{
				Name: "ceiling: empty handler", Role: result.RoleCeiling, Ceiling: "empty", Seconds: 10, Rate: 18_400,
				Counts:  result.Counts{Offered: 184_000, Sent: 184_000, Completed: 184_000},
				Latency: recorded(t, 4, 20_000, 110, 20, 5*time.Millisecond), Server: pointer(0.96), Rounds: &result.Spread{Median: 18_400, Low: 17_300, High: 19_000},
			},
			{
				Name: "ceiling: handler + sign", Role: result.RoleCeiling, Ceiling: "sign", Seconds: 10, Rate: 5790,
				Counts:  result.Counts{Offered: 57_900, Sent: 57_900, Completed: 57_900},
				Latency: recorded(t, 5, 57_900, 330, 20, 9*time.Millisecond), Server: pointer(0.99), Rounds: &result.Spread{Median: 5790, Low: 5610, High: 5900},
			},
		},
		Nodes: []result.Node{
			{Name: "node-1", Requests: 39_000, CPU: 2.1, PerOp: pointer(53.8), RSS: 61 << 20, PeakRSS: 64 << 20},
			{Name: "node-2", Requests: 131_000, CPU: 6.3, PerOp: pointer(48.1), AllocsPer: pointer(38.0), RSS: 71 << 20, PeakRSS: 80 << 20, Leader: true},
		},
		SLO: &result.SLO{Text: "p99<2ms,errors<0.1%", Met: true, Objectives: []result.Objective{
			{Text: "p99<2ms", Limit: 2000, Measured: 1010, Unit: "us", Met: true}, {Text: "errors<0.1%", Limit: 0.001, Measured: 0.00064, Unit: "share", Met: true},
		}},
		Faults: []result.Fault{
			{T: 20, End: pointer(20.01), Node: "node-1", What: result.FaultKilled, Detail: "kill -9"},
			{T: 20.4, Node: "node-2", What: result.FaultLeaderChanged},
			{T: 33, Node: "node-1", What: result.FaultStarted},
			{T: 42, End: pointer(42.2), Node: "node-3", What: result.FaultStalled, Detail: "SIGSTOP for 200 ms"},
		},
		Verdict: result.Verdict{Valid: true}, Runs: 1,
	}
	require.NoError(t, r.Check())
	return r
}

// search is a step search with a step that starved the generator, and hence invalid.
func search(t testing.TB) *result.Result {
	t.Helper()
	r := failover(t)
	r.Workload, r.Faults, r.Nodes, r.About = "mint", nil, nil, ""
	for i, rate := range []float64{2000, 4000, 8000, 16000, 12000, 10000} {
		d := recorded(t, uint64(10+i), 20_000, 300+rate/40, int(rate/100), 9*time.Millisecond)
		s := result.Step{Rate: rate, Seconds: 10, Completed: rate, Latency: *d, Valid: true, Met: rate < 12000}
		if !s.Met {
			s.Reason = "p99<2ms was missed"
		}
		if rate == 16000 {
			s.Valid, s.Reason = false, "the generator was the bottleneck"
		}
		r.Load.Steps = append(r.Load.Steps, s)
	}
	r.SLO.Highest = pointer(10000.0)
	r.Verdict = result.Verdict{Reasons: []string{"the generator used 97 % of its CPUs: it was the bottleneck", "4 % of the requests were sent late"}}
	require.NoError(t, r.Check())
	return r
}
