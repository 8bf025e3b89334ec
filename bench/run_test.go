package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/client"
)

// fakeNode is as much of a node as a run asks of: it makes and removes agents and applications, mints one
// token, and finds it active.
type fakeNode struct {
	lock    sync.Mutex
	objects map[string]any
	minting func(ctx *fasthttp.RequestCtx) // replaces the token endpoint, where set
}

var fakeToken = strings.Repeat("a", 100) + "." + strings.Repeat("b", 400) + "." + strings.Repeat("c", 86)

func (n *fakeNode) handle(ctx *fasthttp.RequestCtx) {
	n.lock.Lock()
	defer n.lock.Unlock()
	path := string(ctx.Path())
	secret := &wire.NewCredential{ID: "crd_1", ClientID: "bench", Secret: "secret"}
	ctx.Response.Header.Set(wire.HeaderDPoPNonce, "a-nonce")
	switch method := string(ctx.Method()); {
	case path == "/.well-known/oauth-authorization-server":
		answer(ctx, 200, wire.Metadata{Issuer: "https://deputy.invalid"})
	case method == "POST" && path == "/api/v1/agents/"+fixtureAgent+"/credentials":
		answer(ctx, 201, secret)
	case path == tokenPath && n.minting != nil:
		n.minting(ctx)
	case path == tokenPath:
		answer(ctx, 200, wire.Token{AccessToken: fakeToken, TokenType: "Bearer", ExpiresIn: 3600})
	case path == introspectPath:
		answer(ctx, 200, wire.Introspection{Active: string(ctx.FormValue("token")) == fakeToken, Scope: "bench.tickets.read"})
	case method == "POST" && path == "/api/v1/agents":
		n.objects["/api/v1/agents/"+fixtureAgent] = wire.Agent{ID: fixtureAgent, Labels: map[string]string{fixtureMark: "true"}}
		answer(ctx, 201, wire.Agent{Credential: secret})
	case method == "POST" && path == "/api/v1/applications":
		n.objects["/api/v1/applications/"+fixtureApplication] = wire.Application{ID: fixtureApplication, Tags: []string{fixtureMark}}
		answer(ctx, 201, wire.Application{Credential: secret})
	case n.objects[path] == nil:
		answer(ctx, 404, wire.Problem{Type: wire.ProblemType + "not-found", Title: "not found", Status: 404})
	case method == "DELETE":
		delete(n.objects, path)
		answer(ctx, 200, wire.Deleted{ID: path, Known: true})
	default:
		answer(ctx, 200, n.objects[path])
	}
}

func answer(ctx *fasthttp.RequestCtx, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		ctx.Error(err.Error(), 500)
		return
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	if status >= 400 {
		ctx.SetContentType(wire.ContentTypeProblem)
	}
	ctx.SetBody(text)
}

func testOptions(t *testing.T, node *fakeNode, workload Workload) Options {
	t.Helper()
	if node.objects == nil {
		node.objects = map[string]any{}
	}
	return Options{
		Workload: workload, Client: testClient(t, "http://"+serve(t, node.handle)), Binary: deputy(t),
		Concurrency: 4, Duration: 100 * time.Millisecond, WarmUp: 10 * time.Millisecond, Rounds: 2, WarmTokens: 3,
		Stderr: t.Output(),
	}
}

func testClient(t *testing.T, address string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Addresses: []string{address}, Token: "token"})
	require.NoError(t, err)
	return c
}

func TestRunMeasuresAWorkloadAndItsCeilings(t *testing.T) {
	for workload, ceiling := range map[Workload]Ceiling{WorkloadMint: CeilingSign, WorkloadIntrospect: CeilingLookup} {
		t.Run(string(workload), func(t *testing.T) {
			node := &fakeNode{}

			report, err := Run(t.Context(), testOptions(t, node, workload))

			require.NoError(t, err)
			require.Empty(t, node.objects, "the fixture must be gone")
			subjects := 3
			if workload == WorkloadMint {
				subjects = 5 // by a secret, by a key, and bound to one
			}
			require.Len(t, report.Subjects, subjects)
			require.Len(t, report.Proving, subjects-3)
			require.Equal(t, ceiling, report.Subjects[subjects-1].Ceiling)
			for _, s := range report.Subjects {
				require.Positive(t, s.Rate, s.Name)
				require.Positive(t, s.WarmUpRate, s.Name)
				require.Zero(t, s.Failed, s.Failures)
				require.Positive(t, s.Latency.P50, s.Name)
			}
			require.Positive(t, report.Ratio.Rounds.Median)
			require.False(t, report.Ratio.OneCore)
			require.False(t, report.Ratio.Quotable)
			require.Equal(t, workload == WorkloadMint, report.SignRate != nil)

			var table strings.Builder
			require.NoError(t, report.WriteTable(&table))
			require.Contains(t, table.String(), "closed loop")
			require.Contains(t, table.String(), "nothing was pinned")
			require.Contains(t, table.String(), report.Ratio.Of)
			var document bytes.Buffer
			require.NoError(t, report.Result().Write(&document))
			back, err := result.Read(&document)
			require.NoError(t, err)
			require.Len(t, back.Measured(), subjects-2)
			require.Equal(t, report.Ratio.Rounds, back.Subjects[0].Shares[0].Rounds)
			require.Equal(t, report.Subjects[0].Succeeded, back.Subjects[0].Counts.Completed)
			require.Equal(t, back.Subjects[0].Counts.Completed, back.Subjects[0].Latency.Count)
			require.Equal(t, report.Subjects[0].Latency.P99, back.Subjects[0].Latency.P99)
			require.Nil(t, back.Subjects[0].Shares[0].Met, "the target speaks of one core alone")
			require.Positive(t, back.Subjects[0].WarmUp.Completed)
		})
	}
}

func TestRunBringsUpARealServerOfItsOwn(t *testing.T) {
	for _, workload := range []Workload{WorkloadMint, WorkloadIntrospect} {
		t.Run(string(workload), func(t *testing.T) {
			before, err := allowedCPUs()
			require.NoError(t, err)
			profile := filepath.Join(t.TempDir(), "cpu.out")

			report, err := Run(t.Context(), Options{
				Workload: workload, Binary: deputy(t), Concurrency: 4, Duration: 400 * time.Millisecond,
				WarmUp: 50 * time.Millisecond, Rounds: 2, WarmTokens: 8, Profile: profile, Stderr: t.Output(),
			})

			require.NoError(t, err)
			require.Zero(t, report.Subjects[0].Failed, report.Subjects[0].Failures)
			require.Positive(t, report.Subjects[0].Rate)
			require.Equal(t, len(before) >= 2, report.Ratio.OneCore)
			require.False(t, report.Ratio.Quotable, "a profiled run is not to be quoted")
			require.FileExists(t, profile)
			after, err := allowedCPUs()
			require.NoError(t, err)
			require.Equal(t, before, after, "the pinning must be undone")
		})
	}
}

func TestMintsUnderMorePoliciesAreMeasuredAndNamedSo(t *testing.T) {
	report, err := Run(t.Context(), Options{
		Workload: WorkloadMint, Binary: deputy(t), Concurrency: 4, Duration: 200 * time.Millisecond,
		WarmUp: 10 * time.Millisecond, Rounds: 2, Policies: 20, SecretOnly: true,
	})
	require.NoError(t, err)
	require.Len(t, report.Subjects, 3, "the mint and its two ceilings")
	require.Equal(t, "mint under 20 policies more", report.Subjects[0].Name)
	require.Positive(t, report.Subjects[0].Succeeded)
	require.Zero(t, report.Subjects[0].Failed, report.Subjects[0].Failures)
	require.InDelta(t, PoliciesTarget, report.Ratio.Target, 0)
}

func TestRunReplacesWhatAnInterruptedRunLeft(t *testing.T) {
	node := &fakeNode{objects: map[string]any{
		"/api/v1/agents/" + fixtureAgent:             wire.Agent{Labels: map[string]string{fixtureMark: "true"}},
		"/api/v1/applications/" + fixtureApplication: wire.Application{Tags: []string{fixtureMark}},
	}}
	_, err := Run(t.Context(), testOptions(t, node, WorkloadMint))
	require.NoError(t, err)
	require.Empty(t, node.objects)
}

func TestRunLeavesOtherPeoplesObjectsAlone(t *testing.T) {
	for path, object := range map[string]any{
		"/api/v1/agents/" + fixtureAgent:             wire.Agent{ID: fixtureAgent},
		"/api/v1/applications/" + fixtureApplication: wire.Application{ID: fixtureApplication},
	} {
		node := &fakeNode{objects: map[string]any{path: object}}
		_, err := Run(t.Context(), testOptions(t, node, WorkloadMint))
		require.ErrorContains(t, err, "is not a benchmark's")
		require.Len(t, node.objects, 1)
	}
}

func TestRunSaysWhatTheServerRefusesAndCleansUp(t *testing.T) {
	node := &fakeNode{minting: func(ctx *fasthttp.RequestCtx) {
		answer(ctx, 401, wire.OAuthError{Error: "invalid_client", Description: "no such client"})
	}}
	_, err := Run(t.Context(), testOptions(t, node, WorkloadMint))
	require.ErrorContains(t, err, "no such client")
	require.Empty(t, node.objects)
}

func TestFailuresUnderLoadAreReportedAndSpoilTheFigure(t *testing.T) {
	asked := 0
	node := &fakeNode{minting: func(ctx *fasthttp.RequestCtx) {
		if asked++; asked > 2 && asked%2 == 0 { // the first two are the setup's and the probe's
			answer(ctx, 503, wire.OAuthError{Error: "temporarily_unavailable"})
			return
		}
		answer(ctx, 200, wire.Token{AccessToken: fakeToken})
	}}

	report, err := Run(t.Context(), testOptions(t, node, WorkloadMint))

	require.NoError(t, err)
	require.Positive(t, report.Subjects[0].Failures["http 503"])
	require.False(t, report.Ratio.Quotable)
	var table strings.Builder
	require.NoError(t, report.WriteTable(&table))
	require.Contains(t, table.String(), "failed: mint: http 503")
}

func TestOptionsAreHeldToTheirBounds(t *testing.T) {
	good := Options{Workload: WorkloadMint, Client: testClient(t, "http://127.0.0.1:8401"), Binary: "deputy"}
	for message, break_ := range map[string]func(*Options){
		"workload is": func(o *Options) { o.Workload = "sleep" },
		"only a run's own server is given policies": func(o *Options) { o.Policies = 1 },
		"policies is":  func(o *Options) { o.Client, o.Policies = nil, MaxPolicies+1 },
		"several ways": func(o *Options) { o.Workload, o.SecretOnly = WorkloadIntrospect, true },
		"own server":   func(o *Options) { o.Profile = "cpu.out" },
		"binary":       func(o *Options) { o.Binary = "" },
		"concurrency":  func(o *Options) { o.Concurrency = MaxConcurrency + 1 },
		"rounds is":    func(o *Options) { o.Rounds = MaxRounds + 1 },
		"too short":    func(o *Options) { o.Duration = time.Millisecond },
		"warm-up":      func(o *Options) { o.WarmUp = -1 },
		"warm tokens":  func(o *Options) { o.WarmTokens = MaxWarmTokens + 1 },
		"plain-HTTP":   func(o *Options) { o.Client = testClient(t, "https://127.0.0.1:8401") },
		"with a port,": func(o *Options) { o.Client = testClient(t, "http://127.0.0.1") },
	} {
		t.Run(message, func(t *testing.T) {
			o := good
			break_(&o)
			o.setDefaults()
			require.ErrorContains(t, o.validate(), strings.TrimSpace(message))
		})
	}
	good.setDefaults()
	require.NoError(t, good.validate())
}

func TestABusyGeneratorIsNamedAsTheBottleneck(t *testing.T) {
	s := &subject{name: "mint", warmUp: load.NewSample(1), total: load.NewSample(1)}
	s.total.Elapsed, s.total.GeneratorCPU, s.total.ServerCPU = time.Second, 980*time.Millisecond, 700*time.Millisecond

	report := Report{Subjects: []Subject{s.report(1, 1)}, Ratio: Ratio{OneCore: true}}
	report.judge()

	require.True(t, report.Subjects[0].GeneratorBound)
	require.False(t, report.Ratio.Quotable)
	require.Contains(t, strings.Join(report.Notes, "\n"), "bottleneck")
}

func TestACrowdedCoreIsNamed(t *testing.T) {
	s := &subject{name: "mint", warmUp: load.NewSample(1), total: load.NewSample(1)}
	s.total.Elapsed, s.total.GeneratorCPU, s.total.ServerCPU = time.Second, 300*time.Millisecond, 400*time.Millisecond

	report := Report{Subjects: []Subject{s.report(1, 1)}, Ratio: Ratio{OneCore: true}}
	report.judge()

	require.False(t, report.Ratio.Quotable)
	require.Contains(t, strings.Join(report.Notes, "\n"), "40 % of its core")
}

func TestAFigureOfAQuietRunMayBeQuoted(t *testing.T) {
	s := &subject{name: "mint", warmUp: load.NewSample(1), total: load.NewSample(1)}
	s.total.Elapsed, s.total.GeneratorCPU, s.total.ServerCPU = time.Second, 700*time.Millisecond, 990*time.Millisecond

	report := Report{
		Subjects: []Subject{s.report(1, 1)},
		Ratio:    Ratio{OneCore: true, Rounds: result.Spread{Median: 0.8, Low: 0.79, High: 0.81}},
	}
	report.judge()

	require.Empty(t, report.Notes)
	require.True(t, report.Ratio.Quotable)
}

func TestTheReportGivesUpAtTheFirstWriteError(t *testing.T) {
	full := errors.New("disk full")
	report := Report{}
	require.ErrorIs(t, report.WriteTable(failingWriter{full}), full)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
