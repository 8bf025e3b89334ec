package audit

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// small has segments so small that a test soon has many.
func small(dir string) Options {
	o := testOptions(dir)
	o.SegmentBytes, o.tinyBounds = 8<<10, true
	o.CheckpointRecords = 16
	return o
}

func TestOldSegmentsGoAndTheRestStaysVerifiable(t *testing.T) {
	o := small(t.TempDir())
	o.RetainBytes, o.HardBytes = 40<<10, 80<<10
	l := openLog(t, o)
	appendAll(t, l, 0, 400)
	eventually(t, "by size", func() bool { return bytesOf(l.catalog.all()) <= o.RetainBytes+o.SegmentBytes })
	first := l.catalog.all()[0].first
	require.Greater(t, first, uint64(1))
	r, err := l.Verify(t.Context(), VerifyOptions{Keys: keysOf("n1")})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	closeLog(t, l)
	r = requireWhole(t, o.Dir)
	require.Greater(t, r.First, uint64(1))
	require.Positive(t, countKind(t, o.Dir, KindRetention))

	left := filepath.Join(o.Dir, indexName(1))
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	l = openLog(t, o)
	require.NoFileExists(t, left, "an index without its segment goes")
	_, err = l.Prove(1)
	require.ErrorIs(t, err, ErrNoRecord)
	all, _ := ask(t, l, Query{OldestFirst: true})
	require.GreaterOrEqual(t, all[0].Sequence, r.First)
	closeLog(t, l)

	// What retention has not announced is missed.
	firsts, _, err := segmentNames(os.DirFS(o.Dir))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(o.Dir, segmentName(firsts[0]))))
	r, err = Verify(t.Context(), o.Dir, VerifyOptions{Keys: keysOf("n1")})
	require.NoError(t, err)
	require.Len(t, r.Problems, 1)
	require.Equal(t, FlawCutFront, r.Problems[0].Flaw)
}

func TestSegmentsGoAfterTheirTime(t *testing.T) {
	o := small(t.TempDir())
	o.RetainAge = time.Hour
	now := time.Now()
	clock := newClock(now)
	o.Now = clock.now
	l := openLog(t, o)
	appendAll(t, l, 0, 100)
	require.NoError(t, l.house.clean(t.Context()))
	require.EqualValues(t, 1, l.catalog.all()[0].first, "all are young")
	clock.set(now.Add(50 * time.Minute))
	appendAll(t, l, 100, 120)
	clock.set(now.Add(70 * time.Minute))
	require.NoError(t, l.house.clean(t.Context()))
	left := l.catalog.all()
	require.Greater(t, left[0].first, uint64(1))
	require.Greater(t, len(left), 1, "those that were written to 20 minutes ago stay")
	closeLog(t, l)
	requireWhole(t, o.Dir)
}

func TestSegmentsWaitForTheSlowestSinkUpToTheHardBound(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o := small(t.TempDir())
		o.RetainBytes, o.HardBytes = 24<<10, 64<<10
		dead := &fakeSink{}
		dead.fail(os.ErrDeadlineExceeded)
		o.Sinks = []SinkOptions{{Name: "dead", Sink: dead}, {Name: "live", Sink: &fakeSink{}}}
		l := openLog(t, o)
		appendAll(t, l, 0, 80)
		time.Sleep(time.Second)
		require.Greater(t, bytesOf(l.catalog.all()), o.RetainBytes)
		require.NoError(t, l.house.clean(t.Context()))
		require.EqualValues(t, 1, l.catalog.all()[0].first, "the sink has not read it")

		for i := 80; i < 400; i += 10 {
			appendAll(t, l, i, i+10)
			time.Sleep(time.Second) // the live sink keeps up
		}
		require.NoError(t, l.house.clean(t.Context()))
		require.LessOrEqual(t, bytesOf(l.catalog.all()), o.HardBytes+o.SegmentBytes)
		first := l.catalog.all()[0].first
		require.Greater(t, first, uint64(1))

		dead.fail(nil)
		time.Sleep(2 * longestPause)
		require.Zero(t, l.Sinks()[0].Behind, "it goes on with what is left")
		closeLog(t, l)
		requireWhole(t, o.Dir)
		var told uint64
		for _, line := range linesOf(t, o.Dir) {
			e, err := ParseEntry(line)
			require.NoError(t, err)
			if e.Kind != KindRetention {
				continue
			}
			var r retention
			require.NoError(t, unmarshalLine(e.Line, &r))
			for _, loss := range r.Sinks {
				require.Equal(t, "dead", loss.Sink)
				told = loss.From + loss.Unconfirmed - 1
			}
		}
		require.Equal(t, first-1, told, "the loss is in the log")
		got := dead.sequences()
		inHand := slices.Index(got, first) // what it had been given before went first
		require.Positive(t, inHand)
		require.Equal(t, first-1-uint64(inHand), l.Sinks()[0].Lost)
		require.EqualValues(t, inHand, got[inHand-1])
	})
}
