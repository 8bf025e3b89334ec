package bench

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/internal/virtualtime"
)

func TestTheFormulaExplainsTheSimulation(t *testing.T) {
	report, err := Simulate(t.Context(), SimOptions{Nodes: []int{10, 100, 300}, Duration: 30 * time.Second, Revocations: 5, Loss: 0.01})
	require.NoError(t, err)
	require.Len(t, report.Clusters, 3)
	for _, c := range report.Clusters {
		for name, figure := range map[string]struct {
			Reckoned
			tolerance float64
		}{
			"questions": {c.Questions, 0.05}, "appends": {c.Appends, 0.05}, "gossip": {c.Gossip, 0.25}, // 150 denies at random times
			"ticks": {c.Ticks, 0.2}, // ten nodes ask at the same ten moments of each second
		} {
			require.InEpsilon(t, figure.Formula, figure.Simulated, figure.tolerance, "%s of %d nodes", name, c.Nodes)
		}
		require.Positive(t, c.Answer.P50)
		require.LessOrEqual(t, c.Answer.P99, c.Answer.Max)
		require.Less(t, c.Missed, 0.001, "each node is told by the origin and by others")
		require.LessOrEqual(t, c.Reach.P99, c.ReachAll.Max)
	}
	var table strings.Builder
	require.NoError(t, report.WriteTable(&table))
	require.Contains(t, table.String(), "LEASE QUESTIONS")
}

func TestTheSameSeedSimulatesTheSame(t *testing.T) {
	o := SimOptions{Nodes: []int{20}, Duration: 10 * time.Second, Seed: 7}
	first, err := Simulate(t.Context(), o)
	require.NoError(t, err)
	again, err := Simulate(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestLossIsMadeUpForByThoseWhoHeard(t *testing.T) {
	report, err := Simulate(t.Context(), SimOptions{Nodes: []int{50}, Duration: 20 * time.Second, Revocations: 20, Loss: 0.3})
	require.NoError(t, err)
	missed := report.Clusters[0].Missed
	require.Positive(t, missed)
	require.Less(t, missed, 0.1, "a third of what the origin sent is lost")
}

func TestSimOptionsAreHeldToTheirBounds(t *testing.T) {
	for message, o := range map[string]SimOptions{
		"between 2 and": {Nodes: []int{1}},
		"loss is":       {Loss: 1},
		"duration is":   {Duration: 2 * time.Hour},
		"latency is":    {Latency: time.Minute},
		"too much":      {Nodes: []int{5000}, Duration: time.Hour, Revocations: 1000},
	} {
		_, err := Simulate(t.Context(), o)
		require.ErrorContains(t, err, message)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Simulate(ctx, SimOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// The simulation has rules of its own for leases and ticks. These are the real ones, in virtual time.
func TestTheSimulationKeepsTimeWithTheRealLeases(t *testing.T) {
	const (
		seconds = 30
		commit  = DefaultSimCommit
		latency = DefaultSimLatency
	)
	for _, nodes := range []int{10, 100} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			var questions, ticks, held int64
			virtualtime.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				var asked, committed atomic.Int64
				leader := cluster.NewTicks(func(context.Context) (uint64, error) {
					time.Sleep(commit)
					return uint64(committed.Add(1)), nil
				})
				leases := make([]*cluster.Lease, nodes)
				ended := make(chan struct{})
				for i := range leases {
					leases[i] = cluster.NewLease(cluster.LeaseOptions{
						Ask: func(ctx context.Context) (uint64, error) {
							asked.Add(1)
							time.Sleep(latency)
							index, err := leader.Commit(ctx)
							time.Sleep(latency)
							return index, err
						},
						WaitApplied: func(context.Context, uint64) error { return nil },
						Member:      func() bool { return true },
						Duration:    func() time.Duration { return 10 * time.Second },
						Now:         func() time.Duration { return time.Since(began) },
					})
					go func() {
						time.Sleep(time.Duration(i*i*37%1000) * time.Millisecond) // they start at different times
						_ = leases[i].Run(ctx)
						ended <- struct{}{}
					}()
				}
				time.Sleep(seconds * time.Second)
				questions, ticks = asked.Load(), committed.Load()
				for _, lease := range leases {
					if lease.Check() == nil {
						held++
					}
				}
				cancel()
				for range leases {
					<-ended
				}
				time.Sleep(time.Second) // the leader's last tick
			})
			require.EqualValues(t, nodes, held, "all of them hold a lease")

			report, err := Simulate(t.Context(), SimOptions{Nodes: []int{nodes}, Duration: seconds * time.Second})
			require.NoError(t, err)
			simulated := report.Clusters[0]
			require.InEpsilon(t, float64(questions)/seconds, simulated.Questions.Simulated, 0.05)
			require.InEpsilon(t, float64(ticks)/seconds, simulated.Ticks.Simulated, 0.35) // by when ten nodes start
			t.Logf("%d nodes: %d questions and %d ticks in %d s, simulated %.1f and %.1f a second",
				nodes, questions, ticks, seconds, simulated.Questions.Simulated, simulated.Ticks.Simulated)
		})
	}
}
