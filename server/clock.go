package server

import (
	"sync"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// maxClockSkew is how far a node's wall clock may be from the time that the cluster agrees on. Revocations are
// kept twice that much longer than any token lives.
const maxClockSkew = 2 * time.Second

// driftPerSecond allows for two good quartz clocks drifting apart while nothing was committed.
const driftPerSecond = time.Millisecond

// clockGuard holds this node's wall clock against FSM time, which is the largest time that any command carried.
//
// FSM time never goes back, so one command stamped by a clock that is hours ahead would let revocations, which
// are forgotten by FSM time, go before the tokens that they stop. Therefore a leader whose clock has leapt
// proposes nothing, and a node whose clock is off holds no lease.
type clockGuard struct {
	fsm  *fsm.FSM
	wall func() time.Time
	boot func() time.Duration

	mu     sync.Mutex
	agreed identity.Instant // FSM time at the last lease round; zero before the first
	at     time.Duration    // boot time no later than when that time was stamped
	within time.Duration    // and no earlier than when it was seen, this much later
}

func newClockGuard(f *fsm.FSM, wall func() time.Time) *clockGuard {
	return &clockGuard{fsm: f, wall: wall, boot: cluster.BootTime}
}

// agree is part of a lease round: the tick that was asked for so long ago has just been applied, so FSM time was
// stamped since then.
func (g *clockGuard) agree(sinceAsked time.Duration) error {
	agreed, own := g.fsm.View().Time(), identity.InstantOf(g.wall())
	g.mu.Lock()
	g.agreed, g.at, g.within = agreed, g.boot()-sinceAsked, sinceAsked
	g.mu.Unlock()
	switch ahead := own.Sub(agreed); {
	case ahead > maxClockSkew+sinceAsked:
		return clockError("ahead of", ahead)
	case ahead < -maxClockSkew:
		return clockError("behind", -ahead)
	}
	return nil
}

// stamp is the time for a command that this node proposes.
func (g *clockGuard) stamp() (identity.Instant, error) {
	own := identity.InstantOf(g.wall())
	g.mu.Lock()
	agreed, at := g.agreed, g.at
	g.mu.Unlock()
	if !agreed.IsZero() {
		elapsed := g.boot() - at
		latest := agreed.Add(elapsed + time.Duration(elapsed.Seconds())*driftPerSecond + maxClockSkew)
		if own > latest {
			return 0, clockError("ahead of", own.Sub(agreed)-elapsed)
		}
	}
	return max(own, g.fsm.View().Time()), nil
}

// offset is how far this node's clock is at least ahead of the cluster's; negative: behind. Within the time that a
// lease round takes nobody can tell.
func (g *clockGuard) offset() time.Duration {
	own := identity.InstantOf(g.wall())
	g.mu.Lock()
	agreed, at, within := g.agreed, g.at, g.within
	g.mu.Unlock()
	if agreed.IsZero() {
		return 0
	}
	switch ahead := own.Sub(agreed) - (g.boot() - at); {
	case ahead > 0:
		return ahead
	case ahead < -within:
		return ahead + within
	default:
		return 0
	}
}

func clockError(where string, by time.Duration) error {
	return identity.Errorf(identity.CodeNotFresh, "this node's clock is %s %s the cluster's", by.Round(time.Millisecond), where).
		WithHint("set this machine's clock by NTP; until then ask another node")
}
