package result

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRunsPutTogetherKeepWhatEachFound(t *testing.T) {
	a, b, c := sample(t), sample(t), sample(t)
	a.Subjects[0].Rate, b.Subjects[0].Rate, c.Subjects[0].Rate = 900, 1100, 1000
	b.Subjects[0].Latency = distribution(t, 5e6)
	met := true
	for _, r := range []*Result{a, b, c} {
		r.Subjects[0].Shares = []Share{{Of: "sign", Rounds: Spread{Median: r.Subjects[0].Rate / 1000}, Target: new(0.95), Met: &met}}
	}

	sum, err := Combine(a, b, c)

	require.NoError(t, err)
	require.Equal(t, 3, sum.Runs)
	s := &sum.Subjects[0]
	require.Equal(t, 1000.0, s.Rate, "the median")
	require.Equal(t, Counts{Offered: 6000, Sent: 5985, Completed: 5970, Failed: 15, Late: 9, Skipped: 15}, s.Counts)
	require.Equal(t, int64(9), s.Latency.Count)
	require.Equal(t, Range{Median: 1000, Min: 900, Max: 1100, Count: 3}, RangeIn(s.Figures(), func(f *Figures) *float64 { return &f.Rate }))
	require.Equal(t, 1.0, s.Shares[0].Rounds.Median)
	require.True(t, *s.Shares[0].Met)
	require.NoError(t, sum.Write(new(bytes.Buffer)))

	again, err := Combine(sum, a)
	require.NoError(t, err)
	require.Equal(t, 4, again.Runs)
	require.Len(t, again.Subjects[0].Runs, 4)
}

func TestAnInvalidRunMakesTheWholeInvalid(t *testing.T) {
	bad := sample(t)
	bad.Verdict = Verdict{Reasons: []string{"starved"}}
	sum, err := Combine(sample(t), bad)
	require.NoError(t, err)
	require.Equal(t, Verdict{Reasons: []string{"run 2: starved"}}, sum.Verdict)
}

func TestRunsOfDifferentBenchmarksAreNotPutTogether(t *testing.T) {
	other := sample(t)
	other.Workload = "introspect"
	_, err := Combine(sample(t), other)
	require.ErrorContains(t, err, "run 2")
	other = sample(t)
	other.Subjects[0].Name = "other"
	_, err = Combine(sample(t), other)
	require.ErrorContains(t, err, `no subject "mint"`)
	_, err = Combine()
	require.Error(t, err)
}

func TestRunsOnDifferentMachinesAreNoted(t *testing.T) {
	other := sample(t)
	other.Environment.CPU = "another"
	sum, err := Combine(sample(t), other)
	require.NoError(t, err)
	require.Len(t, sum.Notes, 1)
	require.Contains(t, sum.Notes[0], "CPU")
}

func TestRunsThatAreScheduledInOtherWaysAreNoRepetitions(t *testing.T) {
	ahead, old := sample(t), sample(t)
	ahead.Environment.Scheduling, old.Environment.Scheduling = "rr 1", ""
	ordinary := sample(t)
	ordinary.Environment.Scheduling = OrdinaryScheduling
	require.Equal(t, [][]*Result{{ordinary, old}, {ahead}}, Group([]*Result{ordinary, ahead, old}))
	require.Empty(t, Differences(ordinary, old), "a result that doesn't say is of before it was asked")
	require.Equal(t, []string{"scheduling: rr 1, and other 0"}, Differences(ahead, ordinary))
}

func TestAnObjectiveIsMetWhereItsMedianMeetsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		measured := rapid.SliceOfN(rapid.Float64Range(0, 4000), 2, 9).Draw(t, "p99")
		if len(measured)%2 == 0 {
			measured = measured[1:]
		}
		if len(measured) < 2 {
			return
		}
		var runs []*Result
		for _, us := range measured {
			r := &Result{Load: Load{Model: Open}, Verdict: Verdict{Valid: true}, Subjects: []Subject{{Name: "a"}}}
			r.SLO = &SLO{Text: "p99<2ms", Objectives: []Objective{{Text: "p99<2ms", Limit: 2000, Measured: us, Unit: "us", Met: us < 2000}}}
			runs = append(runs, r)
		}
		sum, err := Combine(runs...)
		if err != nil {
			t.Fatal(err)
		}
		if o := sum.SLO.Objectives[0]; o.Met != (o.Measured < 2000) || sum.SLO.Met != o.Met {
			t.Fatalf("median %v of %v, met %v", o.Measured, measured, o.Met)
		}
	})
}

// Merged histograms are as if one had seen all.
func TestDistributionsAreMergedExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := histogram()
		var parts []*Distribution
		for range rapid.IntRange(1, 5).Draw(t, "runs") {
			values := rapid.SliceOfN(rapid.Int64Range(1000, 60e9), 0, 50).Draw(t, "latencies")
			d, err := NewDistribution(histogram(values...))
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, d)
			all.Merge(histogram(values...))
		}
		got, err := merge(parts)
		if err != nil {
			t.Fatal(err)
		}
		want, err := NewDistribution(all)
		if err != nil {
			t.Fatal(err)
		}
		if all.TotalCount() == 0 {
			if got != nil {
				t.Fatalf("something of nothing: %v", got)
			}
			return
		}
		if *got != *want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

func TestRunsOfTheSameLoadAreGathered(t *testing.T) {
	mint, again, faster, other, longer := sample(t), sample(t), sample(t), sample(t), sample(t)
	faster.Load.Rate = 2000
	other.Workload = "introspect"
	longer.Subjects = append(longer.Subjects, Subject{Name: "ceiling: sign", Role: RoleCeiling})
	require.Equal(t, [][]*Result{{mint, again}, {faster}, {other}, {longer}}, Group([]*Result{mint, faster, other, again, longer}))
	require.Empty(t, Group(nil))
}
