package cluster

import (
	"context"
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

// clock lets autopilot and its tests share the node's clock.
type clock func() time.Time

func (c clock) Now() time.Time { return c() }
