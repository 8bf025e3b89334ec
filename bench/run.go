package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/client"
)

// subject is one thing that takes its turn in every round.
type subject struct {
	name      string
	ceiling   Ceiling // "" for what is measured
	generator *load.Generator
	pid       int // 0 where the server isn't a child of the run
	warmUp    *load.Sample
	total     *load.Sample
	rates     []float64 // of each round

	// refill, if set, is called before each turn and is not part of it.
	refill func(ctx context.Context, turn time.Duration) error
}

// layout says which CPUs serve and which generate. Nothing is pinned where either is empty.
type layout struct {
	server    []int
	generator []int
}

func (l layout) pinned() bool { return len(l.server) > 0 }

// plan gives the server one core of its own, the last one, as interrupts favour the first, and the generator
// all the others. With a single core, or for nodes that run elsewhere, nothing is pinned.
func plan(self bool) (layout, error) {
	cpus, err := allowedCPUs()
	if err != nil || !self || len(cpus) < 2 {
		return layout{}, err
	}
	last := len(cpus) - 1
	return layout{server: cpus[last:], generator: cpus[:last]}, nil
}

// pin keeps this process off the measured core, as far as it is to be pinned at all. The function it returns
// undoes that.
func (l layout) pin() (restore func(), err error) {
	if !l.pinned() {
		return func() {}, nil
	}
	if err := pinSelf(l.generator); err != nil {
		return nil, err
	}
	before := runtime.GOMAXPROCS(len(l.generator))
	return func() {
		runtime.GOMAXPROCS(before)
		// Failing would only leave this process on fewer CPUs than it might have.
		_ = pinSelf(append(slices.Clone(l.generator), l.server...))
	}, nil
}

// Run measures a workload and its ceilings, and cleans up after itself. Where only the cleaning up fails, it
// returns the report as well as the error.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	cpus, err := plan(o.Client == nil)
	if err != nil {
		return nil, err
	}
	r := run{Options: o, cpus: cpus}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	restore, err := cpus.pin()
	if err != nil {
		return nil, err
	}
	defer restore()
	if err := r.measure(ctx); err != nil {
		return nil, err
	}
	return r.report()
}

// run is one benchmark under way.
type run struct {
	Options
	cpus     layout
	self     *process
	pair     *ownCluster // in place of self, where tokens must come from another node
	ops      string      // ops listener of self
	ceilings *ceilingServer
	fixture  *fixture
	subjects []*subject // what is measured first
	signRate []float64
	shape    shape

	verifyMicros float64 // one bare signature check
	cold         *coldTokens
}

// shape is the size of one exchange with the measured server, which the ceilings copy.
type shape struct {
	Request  int `json:"request_bytes"`
	Response int `json:"response_bytes"` // with the head
	Body     int `json:"body_bytes"`
	Token    int `json:"token_bytes"`
}

// prepare brings up what is missing, makes the fixture and looks at one exchange.
func (r *run) prepare(ctx context.Context) error {
	if r.Client == nil {
		begin := r.startSelf
		if r.Cold {
			begin = r.startPair
		}
		if err := begin(ctx); err != nil {
			return err
		}
	}
	nodes, err := nodeAddresses(r.Client)
	if err != nil {
		return err
	}
	if r.fixture, err = newFixture(ctx, r.Client); err != nil {
		return err
	}
	if err := r.addPolicies(ctx); err != nil {
		return err
	}
	count := 1
	if r.Workload == WorkloadIntrospect {
		count = r.WarmTokens
	}
	r.Logger.Info("minting tokens to begin with", "count", count)
	var minted []string
	if r.Cold {
		minted, err = harvest(ctx, r.other(), r.fixture.mintRequest(), count)
	} else {
		minted, err = r.fixture.mint(ctx, count)
	}
	if err != nil {
		return err
	}
	measured := load.Target{Requests: [][]byte{r.fixture.mintRequest()}, Expect: []byte(`"access_token"`)}
	kinds := []Ceiling{CeilingEmpty, CeilingSign}
	if r.Workload == WorkloadIntrospect {
		measured = load.Target{Expect: []byte(`"active":true`)}
		for _, token := range minted {
			measured.Requests = append(measured.Requests, r.fixture.introspectRequest(token))
		}
		kinds = []Ceiling{CeilingEmpty, CeilingLookup}
		if r.Cold {
			kinds = []Ceiling{CeilingEmpty, CeilingVerify}
		}
	}
	measured.Addresses = nodes
	if err := r.probe(ctx, measured, len(minted[0])); err != nil {
		return err
	}
	r.Logger.Info("starting the ceilings", "body_bytes", r.shape.Body, "token_bytes", r.shape.Token)
	sizes := CeilingOptions{Kinds: kinds, BodyBytes: r.shape.Body, TokenBytes: r.shape.Token}
	if r.Cold {
		if sizes.VerifyKey, err = r.verifyKey(ctx, minted[0]); err != nil {
			return err
		}
	}
	if r.ceilings, err = startCeilings(ctx, r.Binary, sizes, minted, r.cpus.server, r.Stderr); err != nil {
		return err
	}
	pid := 0
	switch {
	case r.self != nil:
		pid = r.self.pid()
	case r.pair != nil:
		pid = r.pair.nodes[0].pid()
	}
	if r.Cold {
		if err := r.addCold(measured, pid); err != nil {
			return err
		}
	} else if err := r.add(r.title(), "", measured, pid); err != nil {
		return err
	}
	if r.Workload == WorkloadMint && !r.SecretOnly {
		if err := r.addProving(ctx, measured, pid); err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		ceiling := load.Target{Addresses: []string{r.ceilings.addresses[kind]}, Requests: measured.Requests}
		if err := r.add("ceiling: "+ceilingTitles[kind], kind, ceiling, r.ceilings.pid()); err != nil {
			return err
		}
	}
	return nil
}

// title is how reports call what is measured.
func (r *run) title() string {
	if r.Policies == 0 {
		return string(r.Workload)
	}
	return fmt.Sprintf("%s under %d policies more", r.Workload, r.Policies)
}

// ceilingTitles are how reports call the ceilings.
var ceilingTitles = map[Ceiling]string{
	CeilingEmpty:  "empty handler",
	CeilingSign:   "handler + sign",
	CeilingVerify: "handler + verify",
	CeilingLookup: "handler + cached lookup",
}

func (r *run) startSelf(ctx context.Context) error {
	r.Logger.Info("starting a server of its own", "cpus", r.cpus.server)
	var err error
	if r.self, err = start(ctx, r.Binary, []string{"bench", "self-server"}, r.cpus.server, nil, r.Stderr); err != nil {
		return err
	}
	var address selfAddress
	if err := firstLine(r.self.stdout, &address); err != nil {
		return fmt.Errorf("the server did not come up: %w", err)
	}
	r.ops = address.Ops
	r.Client, err = client.New(client.Options{Addresses: []string{address.Public}, Token: address.Token, UserAgent: "deputy-bench"})
	return err
}

// probe makes one exchange, so that the ceilings can answer as many bytes, and so that a server that refuses
// the load is found out before it is measured.
func (r *run) probe(ctx context.Context, t load.Target, tokenBytes int) error {
	c, err := load.Dial(ctx, t.Addresses[0], nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Until(time.Now().Add(load.DefaultTimeout)); err != nil {
		return fmt.Errorf("probing %s: %w", t.Addresses[0], err)
	}
	status, body, err := c.Exchange(t.Requests[0])
	if err != nil {
		return fmt.Errorf("probing %s: %w", t.Addresses[0], err)
	}
	if status != 200 || !bytes.Contains(body, t.Expect) {
		var refusal wire.OAuthError
		_ = json.Unmarshal(body, &refusal) // for the message only
		return fmt.Errorf("probing %s: answered %d %s %s", t.Addresses[0], status, refusal.Error, refusal.Description)
	}
	r.shape = shape{Request: len(t.Requests[0]), Response: c.ResponseBytes(), Body: len(body), Token: tokenBytes}
	return nil
}

func (r *run) add(name string, kind Ceiling, t load.Target, pid int) error {
	g, err := load.NewTargetGenerator(t, r.Concurrency)
	if err != nil {
		return err
	}
	r.subjects = append(r.subjects, &subject{name: name, ceiling: kind, generator: g, pid: pid, total: load.NewSample(1)})
	return nil
}

// measure warms every subject up and then lets them take turns. The order rotates, so that none always comes
// after the same other one.
func (r *run) measure(ctx context.Context) error {
	for _, s := range r.subjects {
		r.Progress.Show(report.Tick{Phase: "warming up", Subject: s.name, Total: r.WarmUp})
		var err error
		if s.warmUp, err = r.turn(ctx, s, r.WarmUp); err != nil {
			return err
		}
	}
	defer r.Progress.Done()
	profiled := r.profile(ctx)
	round := r.Duration / time.Duration(r.Rounds)
	r.Logger.Info("measuring", "rounds", r.Rounds, "about", r.Duration*time.Duration(len(r.subjects)))
	for n := range r.Rounds {
		for i := range r.subjects {
			s := r.subjects[(n+i)%len(r.subjects)]
			result, err := r.turn(ctx, s, round)
			if err != nil {
				return err
			}
			s.rates = append(s.rates, result.Rate())
			s.total.Add(result)
			r.show(n, s.name, result)
		}
		if r.Workload == WorkloadMint {
			rate, err := r.ceilings.signRate(ctx, round/2)
			if err != nil {
				return err
			}
			r.signRate = append(r.signRate, rate)
		}
		r.Logger.Debug("round done", "round", n+1, "of", r.Rounds, "ratio", r.ratios()[n])
	}
	return <-profiled
}

func (r *run) turn(ctx context.Context, s *subject, duration time.Duration) (*load.Sample, error) {
	if s.refill != nil {
		if err := s.refill(ctx, duration); err != nil {
			return nil, err
		}
	}
	before := r.cpuOf(s)
	result, err := s.generator.RunClosed(ctx, duration)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", s.name, err)
	}
	result.ServerCPU = r.cpuOf(s) - before
	return result, nil
}

func (r *run) cpuOf(s *subject) time.Duration {
	if s.pid == 0 {
		return 0
	}
	return load.ProcessCPU(s.pid)
}

// ratios are, round by round, what was measured to the ceiling that the target speaks of: the last subject.
func (r *run) ratios() []float64 {
	return ratiosOf(r.subjects[0].rates, r.subjects[len(r.subjects)-1].rates)
}

// close ends and removes all that prepare made.
func (r *run) close() error {
	for _, s := range r.subjects {
		s.generator.Close()
	}
	if r.ceilings != nil {
		r.ceilings.stop()
	}
	var err error
	if r.pair != nil {
		return r.pair.close()
	}
	if r.self != nil {
		r.self.stop() // and with it whatever was made there
	} else if r.fixture != nil {
		err = r.fixture.remove(context.Background()) // bounded by itself; also after an interrupt
	}
	return err
}

// signRate asks the ceilings' process to sign for so long with nothing else to do.
func (s *ceilingServer) signRate(ctx context.Context, duration time.Duration) (float64, error) {
	c, err := load.Dial(ctx, s.addresses[CeilingEmpty], nil)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	duration = min(duration, longestSignRate)
	if err := c.Until(time.Now().Add(duration + load.DefaultTimeout)); err != nil {
		return 0, fmt.Errorf("measuring the bare signature: %w", err)
	}
	request := fmt.Sprintf("GET %s?ms=%d HTTP/1.1\r\nHost: ceiling.invalid\r\n\r\n", signRatePath, duration.Milliseconds())
	status, body, err := c.Exchange([]byte(request))
	if err != nil {
		return 0, fmt.Errorf("measuring the bare signature: %w", err)
	}
	rate, err := strconv.ParseFloat(string(body), 64)
	if status != 200 || err != nil {
		return 0, fmt.Errorf("measuring the bare signature: answered %d", status)
	}
	return rate, nil
}
