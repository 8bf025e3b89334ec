package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/bench/result"
)

func TestTheCommandIsKeptWithoutPasswords(t *testing.T) {
	require.Equal(t,
		[]string{"deputy", "bench", "mint", "--nodes", "http://127.0.0.1:8401,http://u:xxxxx@h:1", "--addr=https://u:xxxxx@h", "--slo", "p99<2ms"},
		commandOf([]string{"bench", "mint", "--nodes", "http://127.0.0.1:8401,http://u:p@h:1", "--addr=https://u:p@h", "--slo", "p99<2ms"}))
}

func TestTheCommandIsScheduledAsTheRunWas(t *testing.T) {
	for scheduling, want := range map[string][]string{
		"": nil, result.OrdinaryScheduling: nil, "other 0, nice 5": nil, "batch 0, nice 5": nil, "mixed": nil, "policy 6, 0": nil,
		"rr 1": {"chrt", "--rr", "1"}, "batch 0": {"chrt", "--batch", "0"},
	} {
		require.Equal(t, want, scheduler(&result.Environment{Scheduling: scheduling}), scheduling)
	}
}

func TestAFileThatCanNotBeWrittenIsFoundBeforeTheRun(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no", "result.json")
	for _, flag := range []string{"--json", "--html"} {
		got := deputy(t, "", "bench", "mint", "--self", flag, missing)
		require.Equal(t, exitUsage, got.code)
		require.Contains(t, got.err, "can't be written")
	}
}

func TestWhatWasAskedForIsMetByAllAndInAValidRun(t *testing.T) {
	yes, no := true, false
	r := func(valid bool, shares ...*bool) *result.Result {
		out := &result.Result{Verdict: result.Verdict{Valid: valid}}
		for _, met := range shares {
			out.Subjects = append(out.Subjects, result.Subject{Shares: []result.Share{{Met: met}}})
		}
		return out
	}
	require.True(t, met(r(true, &yes, nil, &yes)))
	require.False(t, met(r(true, &yes, &no)))
	require.False(t, met(r(false, &yes)), "an invalid run meets nothing")
	require.False(t, met(r(true, nil)), "nothing was asked for: nothing was met")
	slo := r(true)
	slo.SLO = &result.SLO{Met: true}
	require.True(t, met(slo))
	slo.SLO.Met = false
	require.False(t, met(slo))
}

func TestAnInvalidRunOrAWrongAnswerIsAFailure(t *testing.T) {
	r := &result.Result{Verdict: result.Verdict{Valid: true}, Subjects: []result.Subject{{Name: "mint", Errors: map[string]int64{"http 503": 3}}}}
	require.NoError(t, invalidRun(r), "errors are counted, and judged by a service level")
	r.Subjects[0].Errors[result.ErrorFencedAccepted] = 1
	require.ErrorIs(t, invalidRun(r), errWrong)
	r.Verdict.Valid = false
	require.ErrorIs(t, invalidRun(r), errInvalid)
}

// The flags of a benchmark by which its result is kept, end to end: a cluster of no nodes leaves no files behind but
// those it was asked for.
func TestABenchmarkThatFailsWritesNoResult(t *testing.T) {
	file := filepath.Join(t.TempDir(), "result.json")
	got := deputy(t, "", "bench", "mint", "--nodes", "http://127.0.0.1:1", "--json", file, "--timeout", "1s")
	require.NotEqual(t, exitDone, got.code)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, text)
}
