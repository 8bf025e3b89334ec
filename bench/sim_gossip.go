package bench

import (
	"context"
	"time"

	"github.com/deputy-id/deputy/cluster"
)

// sendTime is what one datagram costs its sender: to encrypt it, and a system call. They leave one after the other.
const sendTime = 12 * time.Microsecond

// gossipSim is the way of denies from member to member: to all by the origin, and on to a few by each that hears it first.
type gossipSim struct {
	agenda
	link
	nodes int
	f     cluster.Figures
	rate  float64
	free  []time.Duration // when each node has sent what it has to

	sent, denied  int
	reached, last []time.Duration
}

// said is one deny.
type said struct {
	origin int
	at     time.Duration
	heard  []bool
	latest time.Duration
}

func newGossipSim(n int, f cluster.Figures, o *SimOptions) *gossipSim {
	return &gossipSim{
		agenda: agenda{until: o.Duration + f.DenyRepeated}, link: newLink(o, 2), nodes: n, f: f, rate: o.Revocations,
		free: make([]time.Duration, n),
	}
}

func (s *gossipSim) run(ctx context.Context) error {
	if s.rate == 0 {
		return nil
	}
	var all []*said
	var deny func()
	end := s.until - s.f.DenyRepeated
	next := func() time.Duration {
		return time.Duration(s.random.ExpFloat64() / s.rate * float64(time.Second))
	}
	deny = func() {
		if s.now > end {
			return
		}
		d := &said{origin: s.random.IntN(s.nodes), at: s.now, heard: make([]bool, s.nodes)}
		d.heard[d.origin] = true
		all = append(all, d)
		s.denied++
		for node := range s.nodes {
			if node != d.origin {
				s.send(d, d.origin, node)
			}
		}
		s.after(next(), deny)
	}
	s.after(next(), deny)
	if err := s.agenda.run(ctx); err != nil {
		return err
	}
	for _, d := range all {
		if d.latest > 0 {
			s.last = append(s.last, d.latest)
		}
	}
	return nil
}

// send is one datagram, behind those that its sender has yet to send.
func (s *gossipSim) send(d *said, from, to int) {
	s.sent++
	s.free[from] = max(s.free[from], s.now) + sendTime
	if s.lost() {
		return
	}
	s.after(s.free[from]-s.now+s.delay(), func() { s.hear(d, to) })
}

func (s *gossipSim) hear(d *said, node int) {
	if d.heard[node] {
		return
	}
	d.heard[node] = true
	d.latest = s.now - d.at
	s.reached = append(s.reached, d.latest)
	others := s.nodes - 2 // but for itself and the origin
	chosen := make([]int, 0, s.f.DenyFanout)
	for len(chosen) < min(s.f.DenyFanout, others) {
		to := s.random.IntN(s.nodes)
		fresh := to != node && to != d.origin
		for _, c := range chosen {
			fresh = fresh && c != to
		}
		if fresh {
			chosen = append(chosen, to)
			s.send(d, node, to)
		}
	}
}
