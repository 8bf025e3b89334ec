package sim

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// newClockGuard mirrors server.Server.newClockGuard.
func (n *node) newClockGuard() *cluster.ClockGuard {
	return cluster.NewClockGuard(cluster.ClockOptions{
		Agreed: func() time.Time { return n.fsm.View().Time().Time() },
		Wall:   n.clock.wall,
		Boot:   n.clock.boot,
		Voters: func() (others []string) {
			for _, s := range n.raft.GetConfiguration().Configuration().Servers {
				if s.Suffrage == raft.Voter && string(s.ID) != n.id {
					others = append(others, string(s.ID))
				}
			}
			return others
		},
		Ask: func(ctx context.Context, voter string) (time.Time, error) {
			answer, err := n.port.call(ctx, voter, clockRequest{})
			if err != nil {
				return time.Time{}, err
			}
			return answer.(time.Time), nil
		},
	})
}

// yieldLeadership mirrors server.Server.yieldLeadership, as far as clocks are concerned.
func (n *node) yieldLeadership(ctx context.Context) {
	ticker := time.NewTicker(yieldEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n.raft.State() == raft.Leader && n.guard.Wrong() {
			n.lab.history.add("%s leads and its clock is wrong: it hands over", n.id)
			_ = n.raft.LeadershipTransfer().Error() // the next round tries again
		}
	}
}

const yieldEvery = 500 * time.Millisecond

// denials mirrors server.denials, without its limits and counters: what is denied is provisional in every set that
// can be reached, and said again until the outcome of the commit is known.
type denials struct {
	node *node

	mu   sync.Mutex
	said map[*said]struct{}
}

type said struct {
	handles []identity.Handle
	last    time.Duration
}

const (
	provisionalFor = 30 * time.Second
	repeatEvery    = 10 * time.Second
	sweepEvery     = time.Second
	tellTimeout    = 2 * time.Second
)

func (d *denials) deny(handles []identity.Handle) *said {
	s := &said{handles: handles, last: d.node.clock.boot()}
	d.add(handles)
	d.mu.Lock()
	d.said[s] = struct{}{}
	d.mu.Unlock()
	d.tell(handles)
	return s
}

func (d *denials) release(s *said) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.said, s)
}

func (d *denials) add(handles []identity.Handle) {
	expires := identity.InstantOf(d.node.clock.wall().Add(provisionalFor))
	for _, h := range handles {
		d.node.revoked.Add(revocation.Entry{Handle: h, Expires: expires, Provisional: true})
	}
}

func (d *denials) tell(handles []identity.Handle) {
	for _, m := range d.node.fsm.View().Members() {
		if m.ID == d.node.id {
			continue
		}
		go func() {
			ctx, cancel := context.WithTimeout(d.node.port.ctx, tellTimeout)
			defer cancel()
			_, _ = d.node.port.call(ctx, m.ID, denyRequest{handles}) // repeated, and committed
		}()
	}
}

func (d *denials) run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
		}
		now := d.node.clock.boot()
		d.mu.Lock()
		var due []*said
		for s := range d.said {
			if now-s.last >= repeatEvery {
				s.last = now
				due = append(due, s)
			}
		}
		d.mu.Unlock()
		for _, s := range due {
			d.add(s.handles)
			d.tell(s.handles)
		}
		d.node.revoked.PurgeProvisional(identity.InstantOf(d.node.clock.wall()))
	}
}
