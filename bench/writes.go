package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// DelegationsTarget is what the project asks of itself: delegations created through a node that leads, to commands that
// bare raft applies for as many callers beside its leader.
const DelegationsTarget = 0.60

// WriteOptions say how delegations are created against bare raft.
type WriteOptions struct {
	Binary   string
	Folder   string        // where the nodes keep their data; "": that for temporary files
	Nodes    int           // of each cluster
	Callers  int           // at once
	Duration time.Duration // measured time of each subject, over all rounds
	WarmUp   time.Duration // of each subject
	Rounds   int           // turns that the subjects take
	Profile  string        // where to write a CPU profile of the leader, and of the others under their names behind it; "": none
	Command  []string      // the command line, for the result
	Progress *report.Progress
	Logger   *slog.Logger
	Stderr   io.Writer
}

// Defaults of WriteOptions.
const (
	DefaultWriteNodes    = 3
	DefaultWriteCallers  = 512
	DefaultWriteDuration = 10 * time.Second
	DefaultWriteWarmUp   = 2 * time.Second
	DefaultWriteRounds   = 5
)

func (o *WriteOptions) setDefaults() {
	o.Nodes = orDefault(o.Nodes, DefaultWriteNodes)
	o.Callers = orDefault(o.Callers, DefaultWriteCallers)
	o.Duration = orDefault(o.Duration, DefaultWriteDuration)
	o.WarmUp = orDefault(o.WarmUp, DefaultWriteWarmUp)
	o.Rounds = orDefault(o.Rounds, DefaultWriteRounds)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *WriteOptions) validate() error {
	switch {
	case o.Binary == "":
		return errors.New("the path of the deputy binary is missing; nodes run in processes of their own")
	case o.Nodes < 1 || o.Nodes > MaxOwnNodes:
		return fmt.Errorf("nodes is %d; it must be between 1 and %d", o.Nodes, MaxOwnNodes)
	case o.Callers < o.Nodes || o.Callers > maxRaftCallers:
		return fmt.Errorf("callers is %d; it must be between %d, one for each node, and %d", o.Callers, o.Nodes, maxRaftCallers)
	case o.Rounds < 1 || o.Rounds > MaxRounds:
		return fmt.Errorf("rounds is %d; it must be between 1 and %d", o.Rounds, MaxRounds)
	case o.Duration/time.Duration(o.Rounds) < minRound || o.Duration/time.Duration(o.Rounds) > maxRaftDrive:
		return fmt.Errorf("%d rounds in %s: a round takes %s to %s", o.Rounds, o.Duration, minRound, maxRaftDrive)
	case o.WarmUp < 0 || o.WarmUp > maxRaftDrive:
		return fmt.Errorf("warm-up is %s; it must be between 0 and %s", o.WarmUp, maxRaftDrive)
	}
	return nil
}

// Subjects of Writes.
const (
	writeAtLeader = "delegations, at the leader"
	writeAtAll    = "delegations, at all nodes in turn"
	writeHTTP     = "ceiling: handler + bare raft"
	writeRaw      = "ceiling: bare raft, callers beside the leader"
)

// Writes creates delegations in a cluster of real nodes, and has bare raft apply commands of the same size, in turns.
func Writes(ctx context.Context, o WriteOptions) (_ *result.Result, err error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	began := time.Now()
	w := &writes{WriteOptions: o}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.prepare(ctx); err != nil {
		return nil, err
	}
	if err := w.measure(ctx); err != nil {
		return nil, err
	}
	r, err := w.result(ctx)
	if err != nil {
		return nil, err
	}
	r.Started, r.Seconds = began, time.Since(began).Seconds()
	return r, nil
}

// writes is one run of Writes.
type writes struct {
	WriteOptions
	own      *ownCluster
	bare     *rawRaft
	people   *population
	command  int // bytes of one in the log
	exchange result.Exchange
	before   []scraped
	subjects []*writeSubject
}

// writeSubject takes its turns.
type writeSubject struct {
	name      string
	ceiling   string
	generator *load.Generator // nil of bare raft
	total     *load.Sample
	warmUp    *load.Sample
	rates     []float64
}

func (w *writes) prepare(ctx context.Context) error {
	w.Logger.Info("starting nodes", "count", w.Nodes)
	var err error
	if w.own, err = startOwnCluster(ctx, ownClusterOptions{binary: w.Binary, parent: w.Folder, nodes: w.Nodes}); err != nil {
		return err
	}
	api, err := w.own.client()
	if err != nil {
		return err
	}
	if w.people, err = fillPairs(ctx, api, w.Logger); err != nil {
		return err
	}
	if w.command, err = delegationCommand(w.people); err != nil {
		return err
	}
	w.Logger.Info("starting bare raft", "members", w.Nodes, "command_bytes", w.command)
	if w.bare, err = startRawRaft(ctx, w.Binary, w.Folder, w.Nodes, w.command, w.Stderr); err != nil {
		return err
	}
	return w.addSubjects(ctx)
}

func (w *writes) addSubjects(ctx context.Context) error {
	leader, err := w.own.leader(ctx)
	if err != nil {
		return err
	}
	all := []load.Node{{Address: hostOf(leader.address.Public)}}
	for _, n := range w.own.live() {
		if n != leader {
			all = append(all, load.Node{Address: hostOf(n.address.Public)})
		}
	}
	maker := newDelegationMaker(w.people, w.own.token)
	plan := func(nodes []load.Node) load.Plan {
		return load.Plan{Nodes: nodes, Operations: []string{"delegation"}, Work: maker.work}
	}
	if err := w.probe(ctx, all[0], maker); err != nil {
		return err
	}
	bare := plan([]load.Node{{Address: w.bare.http[w.bare.leader]}})
	bare.Work = func(connection, node int) load.Work { return &bareWork{delegationWork: maker.newWork(connection)} }
	for _, s := range []struct {
		name, ceiling string
		plan          load.Plan
	}{{writeAtLeader, "", plan(all[:1])}, {writeAtAll, "", plan(all)}, {writeHTTP, "handler + raft", bare}} {
		g, err := load.NewGenerator(s.plan, w.Callers)
		if err != nil {
			return err
		}
		g.SetTimeout(raftApplyWait)
		w.subjects = append(w.subjects, &writeSubject{name: s.name, ceiling: s.ceiling, generator: g, total: load.NewSample(1)})
	}
	w.subjects = append(w.subjects, &writeSubject{name: writeRaw, ceiling: "raft", total: load.NewSample(1)})
	return nil
}

// probe makes one delegation, so that a refusal is found before it is measured.
func (w *writes) probe(ctx context.Context, node load.Node, maker *delegationMaker) error {
	c, err := load.Dial(ctx, node.Address, node.TLS)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Until(time.Now().Add(load.DefaultTimeout)); err != nil {
		return err
	}
	var call load.Call
	work := maker.newWork(0)
	work.Next(&call)
	status, body, err := c.Exchange(call.Request)
	if err != nil {
		return fmt.Errorf("creating a first delegation: %w", err)
	}
	if status != 201 {
		return fmt.Errorf("creating a first delegation: it was answered %d %s", status, body)
	}
	w.exchange = result.Exchange{Request: len(call.Request), Response: c.ResponseBytes(), Body: len(body)}
	return nil
}

func (w *writes) measure(ctx context.Context) error {
	for _, s := range w.subjects {
		var err error
		if s.warmUp, _, err = w.turn(ctx, s, "warm-up", w.WarmUp); err != nil {
			return err
		}
	}
	profiled := w.profile(ctx)
	w.before = scrapeAll(ctx, opsOf(w.own))
	round := w.Duration / time.Duration(w.Rounds)
	for n := range w.Rounds {
		for i := range w.subjects {
			s := w.subjects[(n+i)%len(w.subjects)]
			sample, rate, err := w.turn(ctx, s, fmt.Sprintf("round %d of %d", n+1, w.Rounds), round)
			if err != nil {
				return err
			}
			s.rates = append(s.rates, rate)
			s.total.Add(sample)
		}
	}
	w.Progress.Done()
	return <-profiled
}

// profile takes one of the leader while the rounds last, where it was asked for, and of each other node beside it.
func (w *writes) profile(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if w.Profile == "" {
		done <- nil
		return done
	}
	leader, err := w.own.leader(ctx)
	if err != nil {
		done <- err
		return done
	}
	seconds := max(1, int(w.Duration.Seconds()*float64(len(w.subjects))))
	go func() {
		var taking errgroup.Group
		for _, n := range w.own.live() {
			path := w.Profile
			if n != leader {
				path += "." + n.spec.ID
			}
			taking.Go(func() error { return fetchProfile(ctx, n.address.Ops, seconds, path) })
		}
		done <- taking.Wait()
	}()
	return done
}

func (w *writes) turn(ctx context.Context, s *writeSubject, phase string, d time.Duration) (*load.Sample, float64, error) {
	w.Progress.Show(report.Tick{Phase: phase, Subject: s.name, Total: d})
	if s.generator != nil {
		sample, err := s.generator.RunClosed(ctx, d)
		if err != nil {
			return nil, 0, fmt.Errorf("loading %s: %w", s.name, err)
		}
		return sample, sample.Rate(), nil
	}
	driven, err := w.bare.drive(ctx, w.Callers, d)
	if err != nil {
		return nil, 0, err
	}
	sample := load.NewSample(1)
	if err := driven.into(&sample.Operations[0]); err != nil {
		return nil, 0, err
	}
	sample.Elapsed = time.Duration(driven.Seconds * float64(time.Second))
	return sample, sample.Rate(), nil
}

func (w *writes) result(ctx context.Context) (*result.Result, error) {
	r := &result.Result{
		Command: w.Command, Environment: environmentOf(), Workload: "delegations",
		About: fmt.Sprintf("delegations created in a cluster of %d nodes, each a process with its log on disk, against bare raft over boltdb with the same settings and commands of %d bytes, in turns",
			w.Nodes, w.command),
		Load: result.Load{
			Model: result.Closed, Connections: w.Callers, Seconds: w.Duration.Seconds(), WarmUp: w.WarmUp.Seconds(), Rounds: w.Rounds,
		},
		Exchange: &w.exchange, Verdict: result.Verdict{Valid: true},
	}
	ceilings := w.subjects[2:]
	for _, s := range w.subjects {
		role := result.RoleMeasured
		if s.ceiling != "" {
			role = result.RoleCeiling
		}
		subject, err := subjectOf(s.name, role, &s.total.Operations[0], s.total.Elapsed.Seconds())
		if err != nil {
			return nil, err
		}
		rounds := result.SpreadOf(s.rates)
		subject.Ceiling, subject.Rounds = s.ceiling, &rounds
		subject.WarmUp = warmUpOf(&s.warmUp.Operations[0], s.warmUp.Elapsed.Seconds())
		if s.generator != nil {
			share := s.total.GeneratorCPU.Seconds() / s.total.Elapsed.Seconds() / float64(r.Environment.GOMAXPROCS)
			subject.Generate = &share
		}
		if role == result.RoleMeasured {
			target, raw := DelegationsTarget, result.SpreadOf(ratios(s.rates, ceilings[1].rates))
			met := raw.Median >= target
			subject.Shares = []result.Share{
				{Of: writeRaw, Rounds: raw, Target: &target, Met: &met},
				{Of: writeHTTP, Rounds: result.SpreadOf(ratios(s.rates, ceilings[0].rates))},
			}
			if s.name == writeAtAll { // what is asked for speaks of the leader; forwarding is shown beside it
				subject.Shares[0].Target, subject.Shares[0].Met = nil, nil
			}
		}
		r.Subjects = append(r.Subjects, subject)
		if n := s.total.Failed(); n > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("%q failed %d times: only successes are in its rate", s.name, n))
		}
	}
	r.Nodes = nodesOf(w.before, scrapeAll(ctx, opsOf(w.own)))
	r.Notes = append(r.Notes,
		"all nodes, bare raft's members and the callers share this machine's CPUs; the callers of bare raft are goroutines beside its leader and cost no HTTP")
	return r, nil
}

func ratios(measured, ceiling []float64) []float64 {
	list := make([]float64, min(len(measured), len(ceiling)))
	for i := range list {
		if ceiling[i] > 0 {
			list[i] = measured[i] / ceiling[i]
		}
	}
	return list
}

func (w *writes) close() error {
	for _, s := range w.subjects {
		if s.generator != nil {
			s.generator.Close()
		}
	}
	var err error
	if w.own != nil {
		err = w.own.close()
	}
	if w.bare != nil {
		err = errors.Join(err, w.bare.close())
	}
	return err
}

// opsOf are the ops listeners of a run's own nodes, by their names.
func opsOf(c *ownCluster) []opsListener {
	var list []opsListener
	for _, n := range c.live() {
		list = append(list, opsListener{Name: n.spec.ID, URL: (&url.URL{Scheme: "http", Host: n.address.Ops}).String()})
	}
	return list
}
