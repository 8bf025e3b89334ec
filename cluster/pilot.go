package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

const (
	// A server is healthy if it heard of the leader this recently …
	healthyContact = 2 * time.Second
	// … and lacks no more entries than this, which is a fraction of a second under full load.
	healthyTrailing = 2_000
)

// pilot runs autopilot while this node leads, and tells it what it needs to know.
type pilot struct {
	node      *Node
	raft      *raft.Raft
	autopilot *autopilot.Autopilot
	ctx       context.Context // of the node's life: autopilot's changes come without one

	mu      sync.Mutex
	members map[string]memberReport
	planned map[raft.ServerID]bool // the voters that the plan in hand goes by, with what was carried out of it
	even    time.Time              // since when plans have found an even number of voters; zero where the last did not
}

// memberReport is the last answer of a member, and what autopilot makes of its answers.
type memberReport struct {
	memberStats
	at      time.Time
	healthy bool
	since   time.Time // of the last change of healthy
}

func newPilot(ctx context.Context, n *Node, r *raft.Raft) *pilot {
	p := &pilot{node: n, raft: r, ctx: ctx, members: make(map[string]memberReport)}
	p.autopilot = autopilot.New(guardedRaft{r, p}, integration{p},
		autopilot.WithPromoter(promoter{p}),
		autopilot.WithUpdateInterval(n.tuning.AutopilotUpdate),
		autopilot.WithReconcileInterval(n.tuning.AutopilotReconcile),
		autopilot.WithTimeProvider(clock(n.o.Clock)),
		autopilot.WithLogger(newHclog(n.o.Logger, "autopilot")),
	)
	return p
}

// run follows leadership until the pilot's context ends.
func (p *pilot) run() {
	ctx := p.ctx
	defer func() { <-p.autopilot.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-p.raft.LeaderCh():
			p.node.logger.Info("leadership changed", "leader", leads, "term", p.raft.CurrentTerm())
			if leads {
				p.autopilot.Start(ctx)
				continue
			}
			<-p.autopilot.Stop()
			p.mu.Lock()
			clear(p.members)
			p.even = time.Time{}
			p.mu.Unlock()
		}
	}
}

// describe fills in what the leader knows.
func (p *pilot) describe(s *Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if report, ok := p.members[s.ID]; ok && !report.at.IsZero() {
		s.Healthy, s.LastContact = report.healthy, report.lastContact
		s.LastIndex, s.Applied = report.lastIndex, report.applied
	}
}

// answers reports whether the member answered the last question or the one before.
func (p *pilot) answers(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	report, ok := p.members[id]
	return ok && p.recent(report)
}

func (p *pilot) recent(report memberReport) bool {
	return time.Since(report.at) < 3*p.node.tuning.AutopilotUpdate
}

// integration is what autopilot asks of its owner.
type integration struct{ *pilot }

func (p integration) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers:      false, // removing a live server that was merely cut off upsets leadership
		LastContactThreshold:    healthyContact,
		MaxTrailingLogs:         healthyTrailing,
		ServerStabilizationTime: p.node.tuning.Stabilization,
	}
}

// NotifyState notes how each server is, and since when. Autopilot's own StableSince is the time at which it first
// saw the server: version 0.3.0 compares the new health with a pointer to itself, and never finds it changed.
func (p integration) NotifyState(state *autopilot.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.node.o.Clock()
	maps.DeleteFunc(p.members, func(id string, _ memberReport) bool { return state.Servers[raft.ServerID(id)] == nil })
	for id, server := range state.Servers {
		report := p.members[string(id)]
		if report.since.IsZero() || report.healthy != server.Health.Healthy {
			report.healthy, report.since = server.Health.Healthy, now
		}
		p.members[string(id)] = report
	}
}

// KnownServers are those of the configuration. Health is judged by their answers, not by gossip: the two may
// disagree, and a vote should go by what raft itself can reach.
func (p integration) KnownServers() map[raft.ServerID]*autopilot.Server {
	config, _, err := configuration(p.raft)
	if err != nil {
		return nil
	}
	known := make(map[raft.ServerID]*autopilot.Server, len(config.Servers))
	for _, s := range config.Servers {
		known[s.ID] = &autopilot.Server{
			ID: s.ID, Name: string(s.ID), Address: s.Address, NodeStatus: autopilot.NodeAlive,
			NodeType: autopilot.NodeVoter, RaftVersion: 3, IsLeader: string(s.ID) == p.node.o.NodeID && p.node.IsLeader(),
		}
	}
	return known
}

func (p integration) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	var (
		mu  sync.Mutex
		wg  sync.WaitGroup
		all = make(map[raft.ServerID]*autopilot.ServerStats, len(servers))
	)
	for id := range servers {
		wg.Go(func() {
			stats, err := p.fetch(ctx, string(id))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				// Left out, it would count as healthy by its last answer.
				all[id] = &autopilot.ServerStats{LastContact: -1}
				return
			}
			all[id] = &autopilot.ServerStats{LastContact: stats.lastContact, LastTerm: stats.lastTerm, LastIndex: stats.lastIndex}
		})
	}
	wg.Wait()
	p.learnSharing()
	return all
}

func (p *pilot) fetch(ctx context.Context, id string) (memberStats, error) {
	answer, err := p.node.Call(ctx, id, methodStats, nil)
	if err != nil {
		return memberStats{}, err
	}
	stats, err := decodeStats(answer)
	if err != nil {
		return memberStats{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	report := p.members[id]
	report.memberStats, report.at = stats, time.Now()
	p.members[id] = report
	return stats, nil
}

// RemoveFailedServer is never called: CleanupDeadServers is off.
func (p integration) RemoveFailedServer(*autopilot.Server) {}

// guardedRaft makes autopilot's changes conditional on the configuration that it decided by, and slow enough.
//
// Autopilot passes no index, so that promoting a server which was removed a moment ago would add it again. And it
// plans by what it gathered some time ago: by a state with two voters of three, of which one did not answer just
// then, it would take one of three away. So a plan ends where the voters are not those that it goes by.
//
// And raft refuses its vote to a candidate that has none in the voter's own configuration. If two servers were
// promoted in a row while a third lagged behind both changes, and the leader died then, the one that has the
// whole log could not be elected. So the next change waits until the last one is in everybody's log.
type guardedRaft struct {
	*raft.Raft
	pilot *pilot
}

func (g guardedRaft) AddVoter(id raft.ServerID, addr raft.ServerAddress, _ uint64, timeout time.Duration) raft.IndexFuture {
	return g.guard(id, raft.Voter, func(index uint64) raft.IndexFuture { return g.Raft.AddVoter(id, addr, index, timeout) })
}

func (g guardedRaft) DemoteVoter(id raft.ServerID, _ uint64, timeout time.Duration) raft.IndexFuture {
	return g.guard(id, raft.Nonvoter, func(index uint64) raft.IndexFuture { return g.Raft.DemoteVoter(id, index, timeout) })
}

func (g guardedRaft) guard(id raft.ServerID, becomes raft.ServerSuffrage, change func(index uint64) raft.IndexFuture) raft.IndexFuture {
	config, index, err := configuration(g.Raft)
	if err != nil {
		return failedFuture{err}
	}
	if s, ok := find(config, string(id)); !ok || s.Suffrage == becomes {
		return failedFuture{fmt.Errorf("server %s can't become a %s: it is one already, or no member any more", id, suffrage(becomes))}
	}
	if !g.pilot.carriesOut(config, id, becomes) {
		return failedFuture{fmt.Errorf("server %s is left as it is: the plan is of before the last change of voters", id)}
	}
	return spreadFuture{change(index), g.pilot}
}

// planFor begins a plan that goes by these servers' standing, and returns for how long the number of voters has been even.
func (p *pilot) planFor(servers []standing, now time.Time) (even time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.planned = make(map[raft.ServerID]bool, len(servers))
	for _, s := range servers {
		if s.voter {
			p.planned[s.id] = true
		}
	}
	switch {
	case len(p.planned)%2 != 0:
		p.even = time.Time{}
		return 0
	case p.even.IsZero():
		p.even = now
	}
	return now.Sub(p.even)
}

// carriesOut reports whether the configuration's voters are those of the plan in hand, and if so notes the change
// that is made next. A change that fails leaves the rest of its plan undone, which autopilot drops anyway.
func (p *pilot) carriesOut(config raft.Configuration, id raft.ServerID, becomes raft.ServerSuffrage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := 0
	for _, s := range config.Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if !p.planned[s.ID] {
			return false
		}
		count++
	}
	if count != len(p.planned) {
		return false
	}
	if becomes == raft.Voter {
		p.planned[id] = true
	} else {
		delete(p.planned, id)
	}
	return true
}

// spreadFuture is a change that is over when it is in the log of every server that answers.
type spreadFuture struct {
	raft.IndexFuture
	pilot *pilot
}

func (f spreadFuture) Error() error {
	if err := f.IndexFuture.Error(); err != nil {
		return err
	}
	f.pilot.awaitSpread(f.Index())
	return nil
}

const (
	spreadPatience = 2 * time.Second // for one that lags or died just now; the change itself is committed
	spreadPause    = 10 * time.Millisecond
)

// awaitSpread waits until index is in the log of every server that answered of late, or patience ends.
func (p *pilot) awaitSpread(index uint64) {
	config, _, err := configuration(p.raft)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, spreadPatience)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range config.Servers {
		if id := string(s.ID); id != p.node.o.NodeID && p.answers(id) {
			wg.Go(func() { p.awaitLog(ctx, id, index) })
		}
	}
	wg.Wait()
}

func (p *pilot) awaitLog(ctx context.Context, id string, index uint64) {
	for {
		if stats, err := p.fetch(ctx, id); err == nil && stats.lastIndex >= index {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(spreadPause):
		}
	}
}

type failedFuture struct{ err error }

func (f failedFuture) Error() error  { return f.err }
func (f failedFuture) Index() uint64 { return 0 }

// clock lets autopilot and its tests share the node's clock.
type clock func() time.Time

func (c clock) Now() time.Time { return c() }
