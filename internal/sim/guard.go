package sim

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// clockGuard mirrors server.clockGuard: it holds the wall clock against FSM time.
type clockGuard struct {
	fsm   *fsm.FSM
	clock *clock

	mu     sync.Mutex
	agreed identity.Instant
	at     time.Duration
}

const (
	maxClockSkew   = 2 * time.Second
	driftPerSecond = time.Millisecond
)

var errClock = errors.New("this node's clock is wrong")

func (g *clockGuard) agree(sinceAsked time.Duration) error {
	agreed, own := g.fsm.View().Time(), identity.InstantOf(g.clock.wall())
	g.mu.Lock()
	g.agreed, g.at = agreed, g.clock.boot()-sinceAsked
	g.mu.Unlock()
	if ahead := own.Sub(agreed); ahead > maxClockSkew+sinceAsked || ahead < -maxClockSkew {
		return errClock
	}
	return nil
}

func (g *clockGuard) stamp() (identity.Instant, error) {
	own := identity.InstantOf(g.clock.wall())
	g.mu.Lock()
	agreed, at := g.agreed, g.at
	g.mu.Unlock()
	if !agreed.IsZero() {
		elapsed := g.clock.boot() - at
		if own > agreed.Add(elapsed+time.Duration(elapsed.Seconds())*driftPerSecond+maxClockSkew) {
			return 0, errClock
		}
	}
	return max(own, g.fsm.View().Time()), nil
}

// knows reports whether there was a lease round since the process began.
func (g *clockGuard) knows() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.agreed.IsZero()
}

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
