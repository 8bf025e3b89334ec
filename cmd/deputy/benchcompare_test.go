package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/bench/result"
)

// benchFile writes a result of a rate into a folder, and returns its name.
func benchFile(t *testing.T, folder, name string, rate float64, change func(*result.Result)) string {
	t.Helper()
	r := &result.Result{
		Command: []string{"deputy", "bench", "mint", "--self"}, Started: time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC), Workload: "mint",
		Load: result.Load{Model: result.Closed}, Verdict: result.Verdict{Valid: true},
		Subjects: []result.Subject{{Name: "mint", Role: result.RoleMeasured, Rate: rate}},
	}
	if change != nil {
		change(r)
	}
	path := filepath.Join(folder, name)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, r.WriteFile(path))
	return path
}

func TestCompareFailsOnARegressionAlone(t *testing.T) {
	dir := t.TempDir()
	fast, slow := benchFile(t, dir, "fast.json", 1000, nil), benchFile(t, dir, "slow.json", 900, nil)

	got := deputy(t, "", "bench", "compare", fast, slow)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.out, "WORSE")
	require.Contains(t, got.out, "-10.0 %")
	require.Contains(t, got.out, "one run on a side")

	require.Equal(t, exitDone, deputy(t, "", "bench", "compare", slow, fast).code)
	require.Equal(t, exitDone, deputy(t, "", "bench", "compare", fast, slow, "--tolerance", "11%").code)
	require.Equal(t, exitDone, deputy(t, "", "bench", "compare", fast, slow, "--metric", "errors").code)
	require.Equal(t, exitFailed, deputy(t, "", "bench", "compare", fast, fast, slow).code, "one of two is worse")
	require.Contains(t, deputy(t, "", "bench", "compare", fast, slow, "-o", "json").out, `"regressed": true`)
}

func TestSidesMayBeFoldersOfRuns(t *testing.T) {
	dir := t.TempDir()
	base, fresh := filepath.Join(dir, "base"), filepath.Join(dir, "new")
	for i, rate := range []float64{1000, 1100, 950} {
		benchFile(t, base, fmt.Sprintf("%d.json", i), rate, nil)
		benchFile(t, fresh, fmt.Sprintf("%d.json", i), rate-100, nil)
	}
	require.NoError(t, os.WriteFile(filepath.Join(base, "notes.json"), []byte(`{"of":"somebody else"}`), 0o600))

	got := deputy(t, "", "bench", "compare", "--base", base, "--new", fresh)

	require.Equal(t, exitDone, got.code, "the ranges overlap")
	require.Contains(t, got.out, "1,000/s (950/s–1,100/s)")
	require.Contains(t, got.out, "3 runs")
	require.Contains(t, got.out, "within noise")
}

func TestCompareSaysWhatItCanNotRead(t *testing.T) {
	dir := t.TempDir()
	good := benchFile(t, dir, "good.json", 1, nil)
	bad := benchFile(t, dir, "bad.json", 1, func(r *result.Result) { r.Verdict = result.Verdict{Reasons: []string{"starved"}} })
	newer := filepath.Join(dir, "newer.json")
	require.NoError(t, os.WriteFile(newer, []byte(`{"kind":"deputy.bench.result","version":99}`), 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.Mkdir(empty, 0o755))

	for args, want := range map[string]string{
		good + " " + bad:                      "--allow-invalid",
		good + " " + newer:                    "upgrade deputy",
		good + " " + empty:                    "holds no result",
		good + " " + dir + "/no":              "no such file",
		good + " " + good + " --metric speed": "p99.9",
	} {
		got := deputy(t, "", append([]string{"bench", "compare"}, strings.Fields(args)...)...)
		require.Equal(t, exitFailed, got.code, args)
		require.Contains(t, got.err, want)
	}
	for _, args := range []string{good, "--base " + good, good + " " + good + " --base " + good + " --new " + good, good + " " + good + " --tolerance x"} {
		require.Equal(t, exitUsage, deputy(t, "", append([]string{"bench", "compare"}, strings.Fields(args)...)...).code, args)
	}
}

func TestReportShowsAResultAgain(t *testing.T) {
	dir := t.TempDir()
	a, b := benchFile(t, dir, "a.json", 1000, nil), benchFile(t, dir, "b.json", 1200, nil)

	require.Contains(t, deputy(t, "", "bench", "report", a).out, "mint, closed loop")
	require.Contains(t, deputy(t, "", "bench", "report", a, b, "--combine").out, "1,100 (1,000–1,200)")
	require.Contains(t, deputy(t, "", "bench", "report", a, "--markdown").out, "    deputy bench mint --self\n")
	require.Contains(t, deputy(t, "", "bench", "report", a, "-o", "json").out, `"version": 1`)

	page := filepath.Join(dir, "page.html")
	got := deputy(t, "", "bench", "report", a, "--html", page)
	require.Equal(t, exitDone, got.code, got.err)
	require.Empty(t, got.out)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "<!DOCTYPE html>")

	got = deputy(t, "", "bench", "report", a, b, "--html", page)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "--combine")
}

func TestFiguresGoBetweenTheMarksAndNowhereElse(t *testing.T) {
	dir := t.TempDir()
	a := benchFile(t, dir, "a.json", 1000, nil)
	manual := filepath.Join(dir, "manual.md")
	require.NoError(t, os.WriteFile(manual, []byte("# Before\n"+figuresBegin+"\nold\n"+figuresEnd+"\nAfter\n"), 0o600))

	for range 2 { // writing again changes nothing
		got := deputy(t, "", "bench", "report", a, "--markdown", "--into", manual)
		require.Equal(t, exitDone, got.code, got.err)
		text, err := os.ReadFile(manual)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "# Before\n"+figuresBegin+"\n\n### mint, closed loop\n"))
		require.True(t, strings.HasSuffix(string(text), "\n\n"+figuresEnd+"\nAfter\n"))
		require.NotContains(t, string(text), "old")
	}
	require.NoError(t, os.WriteFile(manual, []byte("# Nothing here\n"), 0o600))
	got := deputy(t, "", "bench", "report", a, "--markdown", "--into", manual)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, figuresBegin)
	require.Equal(t, exitUsage, deputy(t, "", "bench", "report", a, "--into", manual).code)
}
