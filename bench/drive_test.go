package bench

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/client"
)

// onItsOwn drives a workload against a server of the run's own, in another process.
func onItsOwn(t *testing.T, workload string, change func(*DriveOptions)) *result.Result {
	t.Helper()
	o := DriveOptions{
		Workload: workload, Self: true, Binary: deputy(t), Rate: 200, Duration: 500 * time.Millisecond, WarmUp: 100 * time.Millisecond,
		Connections: 8, Stderr: t.Output(),
	}
	if change != nil {
		change(&o)
	}
	r, err := Drive(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, r.Check())
	return r
}

func TestEveryWorkloadIsAnsweredAsItShould(t *testing.T) {
	nodes, err := startOwnCluster(t.Context(), ownClusterOptions{binary: deputy(t), parent: t.TempDir(), nodes: 2})
	require.NoError(t, err)
	defer func() { require.NoError(t, nodes.close()) }()
	api, err := nodes.client()
	require.NoError(t, err)
	var ops []string
	for _, n := range nodes.live() {
		ops = append(ops, n.address.Ops)
	}
	for _, w := range DriveWorkloads() {
		if w.Own {
			continue
		}
		t.Run(w.Name, func(t *testing.T) {
			r := onItsOwn(t, w.Name, func(o *DriveOptions) {
				o.Self, o.Client, o.Token, o.Ops = false, api, nodes.token, ops
				o.Tokens, o.RevokeEvery, o.PerMint, o.Fenced = 40, 2, 3, true
			})
			for _, s := range r.Subjects {
				require.Positive(t, s.Counts.Completed, s.Name)
				require.Zero(t, s.Counts.Failed, "%s: %v", s.Name, s.Errors)
				require.Zero(t, s.Counts.Skipped, s.Name)
				require.Positive(t, s.Latency.P50, s.Name)
			}
			require.Len(t, r.Nodes, 2)
			for _, n := range r.Nodes {
				require.Positive(t, n.Requests, n.Name)
				require.Positive(t, n.RSS, n.Name)
			}
		})
	}
}

func TestTheMeasuredTimeIsCountedAndTheWarmUpOnlyShown(t *testing.T) {
	r := onItsOwn(t, "mint", nil)
	s := r.Subjects[0]
	require.EqualValues(t, 100, s.Counts.Offered)
	require.EqualValues(t, 20, s.WarmUp.Completed)
	require.Equal(t, result.Open, r.Load.Model)
	require.Contains(t, strings.Join(r.Notes, "\n"), "answers, drawn from the whole run, were verified")
}

func TestAClosedRunSaysSo(t *testing.T) {
	r := onItsOwn(t, "mint", func(o *DriveOptions) { o.Closed = true })
	require.Equal(t, result.Closed, r.Load.Model)
	require.Zero(t, r.Load.Rate)
	require.Nil(t, r.Subjects[0].Lag)
	require.Contains(t, strings.Join(r.Notes, "\n"), "closed loop")
}

// A node of three hangs for 200 ms while it is due one request every 10 ms: 20 of 300 wait, the first of them for all of it.
func TestAStallOfOneNodeShowsInTheTailOfAnOpenLoad(t *testing.T) {
	t.Parallel()
	const stall = 200 * time.Millisecond
	r, err := Drive(t.Context(), DriveOptions{
		Workload: "mint", OwnNodes: 3, TLS: true, Folder: t.TempDir(), Binary: deputy(t), Rate: 300, Duration: time.Second,
		WarmUp: 200 * time.Millisecond, Connections: 6, Stall: stall,
	})
	require.NoError(t, err)

	s := r.Subjects[0]
	require.Zero(t, s.Counts.Failed, s.Errors)
	// The stalled process was due a request within 10 ms of stopping.
	require.GreaterOrEqual(t, s.Latency.P999, float64((stall - 20*time.Millisecond).Microseconds()))
	require.GreaterOrEqual(t, s.Latency.P99, float64((stall / 2).Microseconds()))
	require.Len(t, r.Faults, 1)
	require.Equal(t, result.FaultStalled, r.Faults[0].What)
	require.GreaterOrEqual(t, *r.Faults[0].End-r.Faults[0].T, stall.Seconds())
	require.Len(t, r.Nodes, 3)
	require.NotNil(t, r.Environment.Fsync)
}

func TestAFailoverIsOnTheTimeline(t *testing.T) {
	t.Parallel()
	r, err := Drive(t.Context(), DriveOptions{
		Workload: "failover", OwnNodes: 3, Folder: t.TempDir(), Binary: deputy(t), Rate: 90, Duration: 3 * time.Second,
		WarmUp: 100 * time.Millisecond, Connections: 9, FaultAfter: 500 * time.Millisecond,
	})
	require.NoError(t, err)

	var what []result.FaultKind
	for _, f := range r.Faults {
		what = append(what, f.What)
	}
	require.Equal(t, []result.FaultKind{result.FaultKilled, result.FaultLeaderChanged, result.FaultStarted}, what)
	require.NotEqual(t, r.Faults[0].Node, r.Faults[1].Node)
	for _, s := range r.Subjects {
		require.Positive(t, s.Counts.Completed, s.Name)
		require.Positive(t, s.Errors[result.ErrorConnect]+s.Errors[result.ErrorClosed], "%s: %v", s.Name, s.Errors)
		require.Zero(t, s.Wrong(), "%s: %v", s.Name, s.Errors)
	}
}

// With one CPU that others burn, the generator either has no time left or is late by itself, whatever the machine.
func TestAGeneratorWithoutCPUMakesTheRunInvalid(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	var over atomic.Bool
	var burning sync.WaitGroup
	burn := func() {
		for range 4 {
			burning.Go(func() {
				for n := 0; !over.Load(); n++ {
					bytes.Repeat([]byte{byte(n)}, 512)
				}
			})
		}
	}
	defer burning.Wait()
	defer over.Store(true)

	r := onItsOwn(t, "mint", func(o *DriveOptions) { o.Rate, o.beforeLoad = 1000, burn })

	require.False(t, r.Verdict.Valid)
	require.Contains(t, strings.Join(r.Verdict.Reasons, "\n"), "generator")
}

func TestARunIsInvalidOnlyWhereTheGeneratorWasAtFault(t *testing.T) {
	sample := func(lag time.Duration, missed, skipped int64) *load.Sample {
		s := load.NewSample(1)
		s.Operations[0].Lag = load.NewHistogram()
		for range 100 {
			load.Add(s.Operations[0].Lag, lag)
		}
		s.Operations[0].Missed, s.Operations[0].Skipped = missed, skipped
		return s
	}
	looped := func(busiest time.Duration) *load.Sample {
		s := sample(time.Millisecond, 0, 0)
		s.Elapsed, s.Busiest = time.Second, busiest
		return s
	}
	for name, c := range map[string]struct {
		sample *load.Sample
		share  float64
		want   string // "" is valid
	}{
		"well":                {sample(time.Millisecond, 0, 0), 0.5, ""},
		"a node was full":     {sample(time.Millisecond, 0, 9), 0.5, ""},
		"no CPU left":         {sample(time.Millisecond, 0, 0), 0.91, "91 % of its CPUs"},
		"late by itself":      {sample(3*time.Millisecond, 0, 0), 0.5, "p99 of the lag is 3ms"},
		"skipped by itself":   {sample(time.Millisecond, 2, 9), 0.5, "skipped 2 requests"},
		"a loop had no pause": {looped(930 * time.Millisecond), 0.5, "something to do for 93 %"},
		"a loop had pauses":   {looped(500 * time.Millisecond), 0.5, ""},
		"closed, no CPU":      {load.NewSample(1), 0.95, "95 %"},
		"closed, and enough":  {load.NewSample(1), 0.8, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reasons := strings.Join(invalid(c.sample, c.share, 2*time.Millisecond), "\n")
			if c.want == "" {
				require.Empty(t, reasons)
				return
			}
			require.Contains(t, reasons, c.want)
		})
	}
}

// liar passes requests on to a real server and, once it has begun, changes what that answers.
type liar struct {
	to    *fasthttp.HostClient
	began atomic.Bool
	lie   func(path string, request, answer []byte) []byte
}

func (l *liar) handle(ctx *fasthttp.RequestCtx) {
	path, request := string(ctx.Path()), bytes.Clone(ctx.Request.Body())
	if err := l.to.Do(&ctx.Request, &ctx.Response); err != nil {
		ctx.SetStatusCode(fasthttp.StatusBadGateway)
		return
	}
	if l.began.Load() {
		ctx.Response.SetBody(l.lie(path, request, bytes.Clone(ctx.Response.Body())))
	}
}

// lied drives a workload against a server whose answers are changed from the warm-up on.
func lied(t *testing.T, workload string, lie func(path string, request, answer []byte) []byte) *result.Result {
	t.Helper()
	p, err := start(t.Context(), deputy(t), []string{"bench", "self-server"}, nil, nil, t.Output())
	require.NoError(t, err)
	t.Cleanup(p.stop)
	var address selfAddress
	require.NoError(t, firstLine(p.stdout, &address))
	l := &liar{to: &fasthttp.HostClient{Addr: hostOf(address.Public)}, lie: lie}
	api, err := client.New(client.Options{Addresses: []string{"http://" + serve(t, l.handle)}, Token: address.Token})
	require.NoError(t, err)
	r, err := Drive(t.Context(), DriveOptions{
		Workload: workload, Client: api, Token: address.Token, Binary: deputy(t), Rate: 500, Duration: time.Second, WarmUp: 200 * time.Millisecond,
		Connections: 4, Fenced: true, PerMint: 2, RevokeEvery: 1, beforeLoad: func() { l.began.Store(true) },
	})
	require.NoError(t, err)
	require.NoError(t, r.Check())
	return r
}

func changed(old, replacement string) func(string, []byte, []byte) []byte {
	return func(_ string, _, answer []byte) []byte {
		return bytes.Replace(answer, []byte(old), []byte(replacement), 1)
	}
}

func TestABadSignatureIsAWrongAnswer(t *testing.T) {
	t.Parallel()
	r := lied(t, "mint", func(_ string, _, answer []byte) []byte {
		token := tokenIn(answer)
		if token == nil {
			return answer
		}
		at := len(token) - 10 // within the signature, and not in its last character, whose low bits mean nothing
		token[at] = "AB"[(token[at]&1)^1]
		return answer
	})
	require.Positive(t, r.Subjects[0].Errors[result.ErrorBadSignature], r.Subjects[0].Errors)
	require.Positive(t, r.Subjects[0].Wrong())
}

func TestAClaimThatWasNotAskedForIsAWrongAnswer(t *testing.T) {
	t.Parallel()
	minted := lied(t, "mint", changed(`"scope":"bench.tickets.assign bench.tickets.read"`, `"scope":"bench.tickets.read"`))
	require.Positive(t, minted.Subjects[0].Errors[result.ErrorClaimsDiffer], minted.Subjects[0].Errors)

	introspected := lied(t, "introspect", changed(`"sub":"bench-agent"`, `"sub":"bench-other"`))
	require.Positive(t, introspected.Subjects[0].Errors[result.ErrorClaimsDiffer], introspected.Subjects[0].Errors)
}

func TestAFencedTokenThatIsAcceptedIsAWrongAnswer(t *testing.T) {
	t.Parallel()
	yes := changed(`{"active":false}`, `{"active":true,"scope":"bench.tickets.read"}`)
	only := func(path string, request, answer []byte) []byte {
		if path != introspectPath {
			return answer
		}
		return yes(path, request, answer)
	}
	for _, workload := range []string{"fleet", "revoke"} {
		var n int64
		for _, s := range lied(t, workload, only).Subjects {
			n += s.Errors[result.ErrorFencedAccepted]
		}
		require.Positive(t, n, workload)
	}
}

func TestAGoodTokenThatIsRefusedIsAWrongAnswer(t *testing.T) {
	t.Parallel()
	r := lied(t, "introspect", func(path string, _, answer []byte) []byte {
		if path != introspectPath {
			return answer
		}
		return []byte(`{"active":false}`)
	})
	s := r.Subjects[0]
	require.Equal(t, s.Counts.Sent, s.Errors[result.ErrorGoodTokenRefused], s.Errors)
}

func TestTheHighestRateIsFoundInStepsThatAreShown(t *testing.T) {
	t.Parallel()
	slo, err := load.ParseSLO("max<1m,errors<50%")
	require.NoError(t, err)
	impossible, err := load.ParseSLO("p50<1us")
	require.NoError(t, err)

	// The largest rate is bound by the machine: what is looked at is that a step that meets it is followed by a higher one.
	found := onItsOwn(t, "mint", func(o *DriveOptions) {
		o.SLO, o.Search, o.Step, o.Rate, o.MaxLag, o.WarmUp = slo, true, time.Second, 100, 50*time.Millisecond, 0
		o.maxSteps = 3
	})
	steps := found.Load.Steps
	require.Len(t, steps, 3)
	require.InDelta(t, 100, steps[0].Rate, 1e-9)
	if steps[0].Met && steps[0].Valid {
		require.InDelta(t, 200, steps[1].Rate, 1e-9)
		require.GreaterOrEqual(t, *found.SLO.Highest, 100.0)
	}

	missed := onItsOwn(t, "mint", func(o *DriveOptions) {
		o.SLO, o.Search, o.Step, o.Rate, o.MaxLag, o.WarmUp = impossible, true, time.Second, 8, time.Minute, 0
		o.maxSteps = 2
	})
	require.Nil(t, missed.SLO.Highest)
	require.False(t, missed.SLO.Met)
	require.InDelta(t, 4, missed.Load.Steps[1].Rate, 1e-9)
	require.Equal(t, "p50<1us", missed.Load.Steps[0].Reason)
}

func TestDriveOptionsAreCheckedBeforeAnythingStarts(t *testing.T) {
	slo, err := load.ParseSLO("p99<2ms")
	require.NoError(t, err)
	good := DriveOptions{Workload: "mint", Self: true, Binary: "deputy"}
	for want, spoil := range map[string]func(*DriveOptions){
		"must be one of mint,":      func(o *DriveOptions) { o.Workload = "everything" },
		"exactly one place":         func(o *DriveOptions) { o.OwnNodes = 3 },
		"exactly one place to load": func(o *DriveOptions) { o.Self = false },
		"--cluster 3":               func(o *DriveOptions) { o.Workload = "failover" },
		"it must have 1 to":         func(o *DriveOptions) { o.Self, o.OwnNodes = false, -1 },
		"a rate only":               func(o *DriveOptions) { o.Workload, o.Closed = "introspect-cold", true },
		"closed load has no rate":   func(o *DriveOptions) { o.Closed, o.Search = true, true },
		"needs an SLO":              func(o *DriveOptions) { o.Search = true },
		"no ramp": func(o *DriveOptions) {
			o.Search, o.SLO, o.Ramp = true, slo, &load.Shape{From: 1, To: 2, Length: time.Second}
		},
		"needs two nodes at least":       func(o *DriveOptions) { o.Workload, o.Binary = "introspect-cold", deputy(t) },
		"rate is -1":                     func(o *DriveOptions) { o.Rate = -1 },
		"connections is -1":              func(o *DriveOptions) { o.Connections = -1 },
		"as its tokens end":              func(o *DriveOptions) { o.Duration = time.Hour },
		"exponent of the mix is 0.5":     func(o *DriveOptions) { o.Zipf = 0.5 },
		"batch is 101":                   func(o *DriveOptions) { o.Batch = 101 },
		"backlog is -1":                  func(o *DriveOptions) { o.Backlog = -1 },
		"path of the deputy binary":      func(o *DriveOptions) { o.Binary = "" },
		"is given a certificate":         func(o *DriveOptions) { o.TLS = true },
		"admin is missing":               func(o *DriveOptions) { o.Self, o.Client = false, testClient(t, "http://127.0.0.1:1") },
		"stall is -1s":                   func(o *DriveOptions) { o.Stall = -time.Second },
		"timeout is 2m0s; it must be at": func(o *DriveOptions) { o.Timeout = 2 * time.Minute },
	} {
		t.Run(want, func(t *testing.T) {
			o := good
			spoil(&o)
			_, err := Drive(t.Context(), o)
			require.ErrorContains(t, err, want)
		})
	}
}
