package result

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func histogram(nanoseconds ...int64) *hdrhistogram.Histogram {
	h := hdrhistogram.New(int64(time.Microsecond), int64(time.Minute), 3)
	for _, n := range nanoseconds {
		_ = h.RecordValue(n)
	}
	return h
}

func distribution(t testing.TB, nanoseconds ...int64) *Distribution {
	t.Helper()
	d, err := NewDistribution(histogram(nanoseconds...))
	require.NoError(t, err)
	return d
}

func sample(t testing.TB) *Result {
	t.Helper()
	return &Result{
		Command: []string{"deputy", "bench", "mint", "--rate", "1000"}, Started: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC),
		Workload: "mint", Load: Load{Model: Open, Rate: 1000, Seconds: 2}, Verdict: Verdict{Valid: true},
		Subjects: []Subject{{
			Name: "mint", Role: RoleMeasured, Seconds: 2, Rate: 995,
			Counts:  Counts{Offered: 2000, Sent: 1995, Completed: 1990, Failed: 5, Late: 3, Skipped: 5},
			Errors:  map[string]int64{"http 503": 4, ErrorBadSignature: 1},
			Latency: distribution(t, 1e6, 2e6, 3e6, 200e6),
			Series:  []Point{{T: 0, Offered: 1000}, {T: 1, Offered: 1000}},
		}},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	var file bytes.Buffer
	written := sample(t)
	require.NoError(t, written.Write(&file))

	read, err := Read(&file)

	require.NoError(t, err)
	require.Equal(t, written, read)
	require.Equal(t, int64(1), read.Subjects[0].Wrong())
}

func TestANewerVersionIsRefusedAndSaysWhatToDo(t *testing.T) {
	_, err := Read(strings.NewReader(`{"kind":"deputy.bench.result","version":2,"subjects":{}}`))
	require.ErrorIs(t, err, ErrNewer)
	require.ErrorContains(t, err, "version 2")
	require.ErrorContains(t, err, "upgrade deputy")
}

func TestOtherDocumentsAreNoResults(t *testing.T) {
	for _, text := range []string{"", "[]", "{}", `{"kind":"deputy.bench.result"}`, `{"kind":"x","version":1}`, `{"workload":"mint","subjects":[]}`} {
		_, err := Read(strings.NewReader(text))
		require.ErrorIs(t, err, ErrNoResult, text)
	}
}

func TestAResultThatContradictsItselfIsRefused(t *testing.T) {
	for what, spoil := range map[string]func(r *Result){
		"skipped":       func(r *Result) { r.Subjects[0].Counts.Skipped++ },
		"completed":     func(r *Result) { r.Subjects[0].Counts.Completed-- },
		"errors add up": func(r *Result) { r.Subjects[0].Errors["timeout"] = 1 },
		"late":          func(r *Result) { r.Subjects[0].Counts.Late = 5000 },
		"out of order":  func(r *Result) { r.Subjects[0].Series[1].T = -1 },
		"no subject":    func(r *Result) { r.Subjects = nil },
		"name":          func(r *Result) { r.Subjects = append(r.Subjects, r.Subjects[0]) },
		"load":          func(r *Result) { r.Load.Model = "" },
		"reason":        func(r *Result) { r.Verdict.Valid = false },
	} {
		r := sample(t)
		r.Kind, r.Version = Kind, Version
		spoil(r)
		text, err := json.Marshal(r)
		require.NoError(t, err)
		_, err = Read(bytes.NewReader(text))
		require.ErrorIs(t, err, ErrNoResult, what)
		require.ErrorContains(t, err, what)
		require.Error(t, r.Write(new(bytes.Buffer)), what)
	}
}

func TestAHistogramSurvivesTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(1000, 60e9), 1, 200).Draw(t, "latencies")
		h := histogram(values...)
		d, err := NewDistribution(h)
		if err != nil {
			t.Fatal(err)
		}
		back, err := d.Decode()
		if err != nil || !back.Equals(h) {
			t.Fatalf("came back different: %v", err)
		}
	})
}

func TestADistributionThatDiffersFromItsHistogramIsRefused(t *testing.T) {
	d := distribution(t, 1e6, 2e6)
	d.Count = 3
	_, err := d.Decode()
	require.ErrorContains(t, err, "3")
	d.Histogram = "HISTFAAA"
	_, err = d.Decode()
	require.Error(t, err)
}

func TestThePercentileCurveNeverFallsAndEndsAtTheLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(1000, 60e9), 1, 500).Draw(t, "latencies")
		d, err := NewDistribution(histogram(values...))
		if err != nil {
			t.Fatal(err)
		}
		curve, err := d.Curve()
		if err != nil || len(curve) == 0 {
			t.Fatalf("no curve: %v", err)
		}
		for i := 1; i < len(curve); i++ {
			if curve[i].Micros < curve[i-1].Micros || curve[i].Percent <= curve[i-1].Percent {
				t.Fatalf("falls at %d: %v", i, curve)
			}
		}
		if last := curve[len(curve)-1]; last.Micros != d.Max || last.Percent >= 100 {
			t.Fatalf("ends at %v, the largest is %v", last, d.Max)
		}
	})
}

func TestTheMedianLiesInTheMiddle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-1e300, 1e300), 1, 50).Draw(t, "values")
		r := RangeOf(values)
		below, above := 0, 0
		for _, v := range values {
			if v <= r.Median {
				below++
			}
			if v >= r.Median {
				above++
			}
		}
		if 2*below < len(values) || 2*above < len(values) {
			t.Fatalf("%v is not the median of %v", r.Median, values)
		}
		s := SpreadOf(values)
		if r.Min > s.Low || s.Low > s.Median || s.Median > s.High || s.High > r.Max || s.Median != r.Median {
			t.Fatalf("%v and %v are out of order", r, s)
		}
	})
	require.Zero(t, RangeOf(nil))
	require.Zero(t, SpreadOf(nil))
}
