package compare

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/bench/result"
)

// run is one of a rate and a p99, beside a ceiling.
func run(rate, p99, ceiling float64) *result.Result {
	share := rate / ceiling
	return &result.Result{
		Workload: "mint", Load: result.Load{Model: result.Closed}, Verdict: result.Verdict{Valid: true}, Runs: 1,
		Subjects: []result.Subject{
			{
				Name: "mint", Role: result.RoleMeasured, Rate: rate, Counts: result.Counts{Offered: 1000, Sent: 1000, Completed: 1000},
				Runs:   []result.Figures{{Rate: rate, P99: &p99, Share: &share}},
				Shares: []result.Share{{Of: "ceiling: sign", Rounds: result.Spread{Median: share}}},
			},
			{Name: "ceiling: sign", Role: result.RoleCeiling, Rate: ceiling},
		},
	}
}

func outcomes(c *Comparison) map[string]Outcome {
	found := map[string]Outcome{}
	for _, row := range c.Rows {
		found[row.Subject+" "+row.Metric] = row.Outcome
	}
	return found
}

func TestAClearRegressionIsFound(t *testing.T) {
	base := []*result.Result{run(20_000, 900, 24_000), run(20_400, 950, 24_100), run(19_800, 920, 23_900)}
	fresh := []*result.Result{run(17_000, 905, 24_000), run(17_400, 955, 24_050), run(16_900, 921, 24_020)}

	c, err := Compare(base, fresh, Options{Tolerance: DefaultTolerance})

	require.NoError(t, err)
	require.True(t, c.Regressed)
	require.Equal(t, 3, c.BaseRuns)
	require.Equal(t, map[string]Outcome{
		"mint rate": Worse, "mint p99": Noise, "mint share": Worse, "mint errors": Noise, "ceiling: sign rate": Noise,
	}, outcomes(c))
	require.Empty(t, c.Warnings)

	c, err = Compare(fresh, base, Options{Tolerance: DefaultTolerance})
	require.NoError(t, err)
	require.False(t, c.Regressed)
	require.Equal(t, Better, outcomes(c)["mint rate"])
}

func TestASlowerMachineIsNotARegressionOfTheServer(t *testing.T) {
	base := []*result.Result{run(20_000, 900, 24_000), run(20_100, 910, 24_100)}
	fresh := []*result.Result{run(20_050, 905, 18_000), run(20_150, 915, 18_100)}

	c, err := Compare(base, fresh, Options{Tolerance: DefaultTolerance})

	require.NoError(t, err)
	require.False(t, c.Regressed, "only the ceiling became worse")
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "machine")
}

func TestInvalidRunsAreRefused(t *testing.T) {
	good, bad := run(1, 1, 1), run(1, 1, 1)
	bad.Verdict = result.Verdict{Reasons: []string{"starved"}}
	for _, sides := range [][2]*result.Result{{good, bad}, {bad, good}} {
		_, err := Compare(sides[:1], sides[1:], Options{})
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, "starved")
		require.ErrorContains(t, err, "--allow-invalid")
		c, err := Compare(sides[:1], sides[1:], Options{AllowInvalid: true})
		require.NoError(t, err)
		require.Contains(t, c.Warnings[0], "INVALID")
	}
}

func TestWhatCannotBeComparedIsSaid(t *testing.T) {
	other := run(1, 1, 1)
	other.Workload = "introspect"
	_, err := Compare([]*result.Result{run(1, 1, 1)}, []*result.Result{other}, Options{})
	require.ErrorContains(t, err, "introspect")

	open := run(1, 1, 1)
	open.Load.Model = result.Open
	_, err = Compare([]*result.Result{run(1, 1, 1)}, []*result.Result{open}, Options{})
	require.ErrorContains(t, err, "open")

	_, err = Compare(nil, []*result.Result{open}, Options{})
	require.ErrorContains(t, err, "base")
	_, err = Compare([]*result.Result{open}, []*result.Result{open}, Options{Metrics: []string{"speed"}})
	require.ErrorContains(t, err, "p99.9")
	_, err = Compare([]*result.Result{open}, []*result.Result{open}, Options{Tolerance: 2})
	require.ErrorContains(t, err, "tolerance")
	_, err = Compare([]*result.Result{open}, []*result.Result{open}, Options{Metrics: []string{"allocs"}})
	require.ErrorContains(t, err, "both sides")
}

func TestAnotherMachineIsWarnedOf(t *testing.T) {
	other := run(20_000, 900, 24_000)
	other.Environment.CPU, other.Environment.Kernel = "another", "7.0"
	other.Subjects[1].Name = "ceiling: other"
	c, err := Compare([]*result.Result{run(20_000, 900, 24_000)}, []*result.Result{other}, Options{})
	require.NoError(t, err)
	require.Len(t, c.Warnings, 5)
	require.Contains(t, c.Warnings[0], "CPU")
	require.Contains(t, c.Warnings[1], "kernel")
	require.Contains(t, c.Warnings[2], "one run")
	require.Contains(t, c.Warnings[3], "base side alone")
	require.Contains(t, c.Warnings[4], "new side alone")
}

func TestFewErrorsAmongNoneAreNoise(t *testing.T) {
	none, few, many := result.RangeOf([]float64{0}), result.RangeOf([]float64{errorFloor / 2}), result.RangeOf([]float64{0.01})
	require.Equal(t, Noise, Judge(none, few, false, 0.05, errorFloor))
	require.Equal(t, Worse, Judge(none, many, false, 0.05, errorFloor))
	require.Equal(t, Better, Judge(many, none, false, 0.05, errorFloor))
}

func values(t *rapid.T, name string) []float64 {
	return rapid.SliceOfN(rapid.Float64Range(0, 1e6), 1, 9).Draw(t, name)
}

func opposite(o Outcome) Outcome {
	switch o {
	case Better:
		return Worse
	case Worse:
		return Better
	}
	return Noise
}

func TestJudgingIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := result.RangeOf(values(t, "base")), result.RangeOf(values(t, "new"))
		tolerance := rapid.Float64Range(0, 0.99).Draw(t, "tolerance")
		higher := rapid.Bool().Draw(t, "higher")
		judged := Judge(a, b, higher, tolerance, 0)
		if Judge(a, a, higher, tolerance, 0) != Noise {
			t.Fatal("a side differs from itself")
		}
		if Judge(a, b, !higher, tolerance, 0) != opposite(judged) {
			t.Fatal("what is better depends on more than the direction")
		}
		if Judge(b, a, higher, 0, 0) != opposite(Judge(a, b, higher, 0, 0)) {
			t.Fatal("without a tolerance the sides are not alike")
		}
		if judged != Noise && Judge(a, b, higher, tolerance/2, 0) != judged {
			t.Fatal("a smaller tolerance hides a change")
		}
		if wider := (result.Range{Median: b.Median, Min: min(a.Min, b.Min), Max: max(a.Max, b.Max)}); Judge(a, wider, higher, tolerance, 0) != Noise {
			t.Fatal("ranges that overlap differ")
		}
		if judged == Better && (b.Median > a.Median) != higher {
			t.Fatal("the worse is called better")
		}
	})
}

func TestAShiftedSideIsFoundAndItselfIsNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.SliceOfN(rapid.Float64Range(900, 1100), 1, 7).Draw(t, "rates")
		slower := rapid.Float64Range(0.1, 0.7).Draw(t, "factor")
		var base, fresh []*result.Result
		for _, r := range rates {
			base, fresh = append(base, run(r, 1000, 2000)), append(fresh, run(r*slower, 1000, 2000))
		}
		c, err := Compare(base, fresh, Options{Tolerance: DefaultTolerance})
		if err != nil || !c.Regressed {
			t.Fatalf("not found: %v", err)
		}
		if c, err = Compare(base, base, Options{Tolerance: 0}); err != nil || c.Regressed {
			t.Fatalf("a side became worse than itself: %v", err)
		}
	})
}
