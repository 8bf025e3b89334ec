package bench

import (
	"context"
	"time"

	"github.com/deputy-id/deputy/cluster"
)

// leaseSim is the rounds of cluster.Lease, the ticks of cluster.Ticks, and what raft sends for them. Those two run on
// goroutines and timers of the machine's own clock; here are the same rules on an agenda, and a test holds their rates
// against those of the real ones.
type leaseSim struct {
	agenda
	link
	nodes  int
	f      cluster.Figures
	commit time.Duration

	waiting []question // for the next tick
	running bool

	sends []int // number of the send that each follower's timer was last set after

	questions, ticks, appends int
	answers                   []time.Duration
}

type question struct {
	node  int
	asked time.Duration
}

func newLeaseSim(n int, f cluster.Figures, o *SimOptions) *leaseSim {
	return &leaseSim{
		agenda: agenda{until: o.Duration}, link: newLink(o, 1), nodes: n, f: f, commit: o.Commit, sends: make([]int, n),
	}
}

func (s *leaseSim) run(ctx context.Context) error {
	for node := range s.nodes {
		// Nodes start at different times.
		s.after(time.Duration(s.random.Int64N(int64(s.f.LeaseRenewal))), func() { s.ask(node) })
		if node > 0 {
			s.patience(node)
			s.beat()
		}
	}
	return s.agenda.run(ctx)
}

// ask is a round of Lease: node 0 leads, and asks itself.
func (s *leaseSim) ask(node int) {
	q := question{node, s.now}
	s.questions++
	s.after(s.way(node), func() { s.arrive(q) })
}

func (s *leaseSim) way(node int) time.Duration {
	if node == 0 {
		return 0
	}
	return s.delay()
}

// arrive is Ticks.Commit.
func (s *leaseSim) arrive(q question) {
	s.waiting = append(s.waiting, q)
	if !s.running {
		s.running = true
		s.after(s.f.TickGather, s.tick)
	}
}

// tick is a turn of Ticks.run.
func (s *leaseSim) tick() {
	round := s.waiting
	s.waiting = nil
	if len(round) == 0 {
		s.running = false
		return
	}
	s.ticks++
	for node := 1; node < s.nodes; node++ {
		s.send(node)
	}
	s.after(s.commit, func() {
		for _, q := range round {
			s.answer(q)
		}
		s.after(s.f.TickGather, s.tick)
	})
}

// answer gets to the node, which has applied the tick once it has also heard of the commit: with the next append.
func (s *leaseSim) answer(q question) {
	took := s.way(q.node)
	if q.node != 0 {
		took = max(took, time.Duration(s.random.Int64N(int64(2*s.f.CommitTimeout)))+s.delay())
	}
	s.after(took, func() {
		s.answers = append(s.answers, s.now-q.asked)
		s.after(max(0, s.f.LeaseRenewal-(s.now-q.asked)), func() { s.ask(q.node) })
	})
}

// send is an AppendEntries, after which the leader's patience with the follower begins anew.
func (s *leaseSim) send(node int) {
	s.appends++
	s.sends[node]++
	s.patience(node)
}

func (s *leaseSim) patience(node int) {
	number := s.sends[node]
	s.after(s.between(s.f.CommitTimeout), func() {
		if s.sends[node] == number {
			s.send(node)
		}
	})
}

// beat is raft's heartbeats to one follower.
func (s *leaseSim) beat() {
	s.after(s.between(s.f.Heartbeat), func() {
		s.appends++
		s.beat()
	})
}
