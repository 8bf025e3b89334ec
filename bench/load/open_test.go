package load

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// inEachWay runs a test with loops, where the platform has them, and with a goroutine for each connection.
func inEachWay(t *testing.T, test func(t *testing.T, ways way)) {
	t.Helper()
	t.Run("in loops", func(t *testing.T) { test(t, way{}) })
	t.Run("in goroutines", func(t *testing.T) { test(t, way{blocking: true}) })
}

type way struct{ blocking bool }

func (w way) generator(t *testing.T, p Plan, connections int) *Generator {
	t.Helper()
	g, err := NewGenerator(p, connections)
	require.NoError(t, err)
	t.Cleanup(g.Close)
	g.blocking = w.blocking
	return g
}

func (w way) run(t *testing.T, p Plan, connections int, o OpenOptions) *Sample {
	t.Helper()
	return runOf(t, w.generator(t, p, connections), o)
}

func runOf(t *testing.T, g *Generator, o OpenOptions) *Sample {
	t.Helper()
	result := NewSample(len(g.plan.Operations))
	result.WithSeries(o.Shape.Length)
	require.NoError(t, g.FillOpen(t.Context(), o, result))
	return result
}

func planOf(t *testing.T, addresses ...string) Plan {
	t.Helper()
	plan, err := Target{Addresses: addresses, Requests: [][]byte{get("/")}}.Plan()
	require.NoError(t, err)
	return plan
}

func TestAnOpenLoadOffersWhatItsRateSays(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		var served atomic.Int64
		address := serve(t, func(*fasthttp.RequestCtx) { served.Add(1) })

		result := w.run(t, planOf(t, address), 8, OpenOptions{Shape: Constant(500, 400*time.Millisecond)})

		op := result.Operations[0]
		require.EqualValues(t, 200, op.Offered)
		require.Equal(t, op.Offered, op.Sent+op.Skipped)
		require.Equal(t, op.Sent, op.Succeeded+op.Failed())
		require.Equal(t, op.Sent, served.Load())
		require.Zero(t, op.Skipped)
		require.Equal(t, op.Succeeded, op.Latency.TotalCount())
		require.Equal(t, op.Sent, op.Lag.TotalCount())
	})
}

// The stall is the server's, and everything that was due meanwhile felt it: of 1,000 a second for 200 ms, 200 requests.
// A closed loop of one connection sees one slow answer.
func TestAStallIsSeenByAllThatWasDueMeanwhileAndHiddenByAClosedLoop(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		const stall = 200 * time.Millisecond
		var began atomic.Int64
		address := serve(t, func(*fasthttp.RequestCtx) {
			if began.Add(1) == 100 {
				<-time.After(stall)
			}
		})
		plan := planOf(t, address)

		open := w.run(t, plan, 1, OpenOptions{Shape: Constant(1000, time.Second)})
		began.Store(0)
		closed, err := w.generator(t, plan, 1).RunClosed(t.Context(), time.Second)
		require.NoError(t, err)

		// Half of what was due during the stall waited for half of it or longer.
		require.GreaterOrEqual(t, open.Latency().P90, float64((stall / 3).Microseconds()))
		require.GreaterOrEqual(t, open.Latency().Max, float64(stall.Microseconds()))
		require.GreaterOrEqual(t, open.Operations[0].Late, int64(50))
		require.Less(t, microseconds(closed.Operations[0].Latency.ValueAtPercentile(90)), float64((stall / 3).Microseconds()))
	})
}

// A node that stalls can't hand its share to the others.
func TestAStalledNodeKeepsItsShareOfTheLoad(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		var stalledCalls, others atomic.Int64
		stalled := serve(t, func(*fasthttp.RequestCtx) {
			if stalledCalls.Add(1) <= 2 {
				<-time.After(200 * time.Millisecond)
			}
		})
		quick := serve(t, func(*fasthttp.RequestCtx) { others.Add(1) })

		result := w.run(t, planOf(t, stalled, quick), 4, OpenOptions{Shape: Constant(400, 500*time.Millisecond)})

		require.EqualValues(t, 200, result.Operations[0].Offered)
		require.EqualValues(t, 100, stalledCalls.Load())
		require.EqualValues(t, 100, others.Load())
	})
}

func TestWhatAFullBacklogTurnsAwayIsSkippedAndNotTheGeneratorsFault(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		release := make(chan struct{})
		address := serve(t, func(*fasthttp.RequestCtx) { <-release })
		time.AfterFunc(time.Second, func() { close(release) })

		result := w.run(t, planOf(t, address), 2, OpenOptions{Shape: Constant(1000, 200*time.Millisecond), Backlog: 10})

		op := result.Operations[0]
		require.EqualValues(t, 200, op.Offered)
		require.EqualValues(t, 12, op.Sent) // two under way, ten waiting
		require.EqualValues(t, 188, op.Skipped)
		require.Equal(t, op.Offered, op.Sent+op.Skipped)
		require.LessOrEqual(t, op.Missed, int64(12)) // before the two connections had picked up theirs
	})
}

func TestASeriesShowsWhenItHappened(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		var down atomic.Bool
		address := serve(t, func(ctx *fasthttp.RequestCtx) {
			if down.Load() {
				ctx.SetStatusCode(503)
			}
		})
		time.AfterFunc(1500*time.Millisecond, func() { down.Store(true) })

		result := w.run(t, planOf(t, address), 4, OpenOptions{Shape: Constant(200, 2*time.Second)})

		points := result.Operations[0].Series()
		require.Len(t, points, 2)
		require.EqualValues(t, 200, points[0].Offered)
		require.EqualValues(t, 200, points[1].Offered)
		require.Positive(t, points[0].P99)
		require.Zero(t, points[0].Failed)
		require.Positive(t, points[1].Failed)
		require.Equal(t, result.Failed(), points[1].Failed)
	})
}

func TestAnOpenRunThatIsCalledOffEndsEarly(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		address := serve(t, func(*fasthttp.RequestCtx) {})
		g := w.generator(t, planOf(t, address), 2)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()

		_, err := g.RunOpen(ctx, OpenOptions{Shape: Constant(100, time.Minute)})

		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestThePacerNeverWakesEarlyByMuch(t *testing.T) {
	p, err := newPacer()
	require.NoError(t, err)
	defer p.close()
	for range 20 {
		start := time.Now()
		p.wait(300 * time.Microsecond)
		require.GreaterOrEqual(t, time.Since(start), 290*time.Microsecond)
	}
}

func TestARampOffersMoreAndMore(t *testing.T) {
	s := Shape{From: 100, To: 300, Length: 10 * time.Second}
	require.InDelta(t, 2000, s.Offers(), 1e-9)
	count := func(until time.Duration) (n uint64) {
		for s.Due(n) < until {
			n++
		}
		return n
	}
	require.InDelta(t, 100+10, count(time.Second), 2)
	require.InDelta(t, 1000+250, count(5*time.Second)+250, 260)
	require.InDelta(t, 2000, count(10*time.Second), 2)
	falling := Shape{From: 300, To: 100, Length: 10 * time.Second}
	require.Equal(t, falling.Length, falling.Due(1_000_000))
	for n := range uint64(1999) {
		require.LessOrEqual(t, falling.Due(n), falling.Due(n+1))
	}
}

func TestRatesAndRampsAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]float64{"5000/s": 5000, "5000": 5000, "1.5k/s": 1500, "300/m": 5, "10,000/s": 10_000} {
		got, err := ParseRate(text)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, 1e-9, text)
	}
	for _, text := range []string{"", "fast", "0/s", "-1", "5/h", "1e99", "NaN"} {
		_, err := ParseRate(text)
		require.ErrorContains(t, err, `rate "`+text+`"`)
	}
	ramp, err := ParseRamp("1000/s..10000/s over 60s")
	require.NoError(t, err)
	require.Equal(t, Shape{From: 1000, To: 10_000, Length: time.Minute}, ramp)
	for _, text := range []string{"", "1000/s", "1000/s..2000/s", "1..2 over soon", "0..2 over 1s"} {
		_, err := ParseRamp(text)
		require.ErrorContains(t, err, `ramp "`+text+`"`)
	}
}
