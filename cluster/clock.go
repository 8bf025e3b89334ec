package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// MaxClockSkew is how far a node's wall clock may be from the time that the cluster agrees on. Whoever keeps
// something for as long as a token may live keeps it twice that much longer.
const MaxClockSkew = 2 * time.Second

// driftPerSecond allows for two good quartz clocks drifting apart while nothing was committed.
const driftPerSecond = time.Millisecond

// ErrClock is what a ClockGuard's errors wrap.
var ErrClock = errors.New("this node's clock is wrong")

// ClockGuard holds this node's wall clock against agreed time, which is the largest time that any command carried.
//
// Agreed time never goes back, so one command stamped by a clock that is hours ahead would let what is kept by
// agreed time be forgotten hours early, for good. Therefore a leader whose clock has leapt stamps nothing, a node
// whose clock is off holds no lease, and a leader that has not yet held its clock against anybody's asks the other
// voters before its first stamp.
type ClockGuard struct {
	o ClockOptions

	mu     sync.Mutex
	agreed time.Time     // when this clock was last found to be right; zero before
	at     time.Duration // boot time no later than then
	within time.Duration // and no earlier than this much before it was seen

	wrong atomic.Bool // as of the last look
}

// ClockOptions are what a ClockGuard needs of its node.
type ClockOptions struct {
	Agreed func() time.Time     // agreed time, as this node has applied it
	Wall   func() time.Time     // this node's clock
	Boot   func() time.Duration // time since boot, counted through suspend
	// Voters are the other servers with a vote; Ask returns one's clock.
	Voters func() []string
	Ask    func(ctx context.Context, voter string) (time.Time, error)
}

// NewClockGuard makes the guard of a clock that nobody has vouched for.
func NewClockGuard(o ClockOptions) *ClockGuard { return &ClockGuard{o: o} }

// Agree is part of a lease round: the tick that was asked for so long ago has just been applied, so agreed time was
// stamped since then. A clock that disagrees is not remembered: it may be the leader's that was wrong, and what a
// wrong clock said must not be what the next leader is judged by.
func (g *ClockGuard) Agree(sinceAsked time.Duration) error {
	agreed, own := g.o.Agreed(), g.o.Wall()
	switch ahead := own.Sub(agreed); {
	case ahead > MaxClockSkew+sinceAsked:
		g.wrong.Store(true)
		return clockError("ahead of", ahead)
	case ahead < -MaxClockSkew:
		g.wrong.Store(true)
		return clockError("behind", -ahead)
	}
	g.wrong.Store(false)
	g.remember(agreed, g.o.Boot()-sinceAsked, sinceAsked)
	return nil
}

func (g *ClockGuard) remember(agreed time.Time, at, within time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.agreed, g.at, g.within = agreed, at, within
}

func (g *ClockGuard) known() (agreed time.Time, at, within time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.agreed, g.at, g.within
}

// Stamp is the time for a command that this node proposes. Only a leader calls it: as long as its clock has not been
// held against anybody's it asks the other voters, of whom a majority, this node included, must agree.
func (g *ClockGuard) Stamp(ctx context.Context) (time.Time, error) {
	agreed, at, _ := g.known()
	if agreed.IsZero() {
		if err := g.consult(ctx); err != nil {
			g.wrong.Store(true)
			return time.Time{}, err
		}
		agreed, at, _ = g.known()
	}
	own, elapsed := g.o.Wall(), g.o.Boot()-at
	latest := agreed.Add(elapsed + time.Duration(elapsed.Seconds())*driftPerSecond + MaxClockSkew)
	if own.After(latest) {
		g.wrong.Store(true)
		return time.Time{}, clockError("ahead of", own.Sub(agreed)-elapsed)
	}
	if before := g.o.Agreed(); before.After(own) {
		return before, nil
	}
	return own, nil
}

// consultWait bounds the question to all voters.
const consultWait = 2 * time.Second

// consult asks the other voters for their clocks, all at the same time.
func (g *ClockGuard) consult(ctx context.Context) error {
	others := g.o.Voters()
	need := (len(others) + 1) / 2 // of the others, for a majority with this node
	ctx, cancel := context.WithTimeout(ctx, consultWait)
	defer cancel()
	verdicts := make(chan bool, len(others))
	for _, id := range others {
		go func() { verdicts <- g.confirms(ctx, id) }()
	}
	at := g.o.Boot()
	for range others {
		if <-verdicts {
			need--
		}
		if need <= 0 {
			cancel() // whoever is slow need not be waited for
		}
	}
	if need > 0 {
		return fmt.Errorf("%w, or those of the others are: too few voters say the same time", ErrClock)
	}
	g.remember(g.o.Wall(), at, g.o.Boot()-at)
	return nil
}

func (g *ClockGuard) confirms(ctx context.Context, id string) bool {
	before, asked := g.o.Wall(), g.o.Boot()
	theirs, err := g.o.Ask(ctx, id)
	if err != nil {
		return false
	}
	took := g.o.Boot() - asked
	early, late := before.Add(-MaxClockSkew), before.Add(took+MaxClockSkew)
	return !theirs.Before(early) && !theirs.After(late)
}

// Wrong reports whether the clock disagreed at the last look. Of a leader that means that another should lead: as
// long as this one does, either nothing is stamped or agreed time stands still, and nobody holds a lease. Of another
// node it may mean that the leader's is wrong.
func (g *ClockGuard) Wrong() bool { return g.wrong.Load() }

// Offset is how far this node's clock is at least ahead of agreed time; negative: behind. Within the time that a
// lease round takes nobody can tell.
func (g *ClockGuard) Offset() time.Duration {
	agreed, at, within := g.known()
	if agreed.IsZero() {
		return 0
	}
	switch ahead := g.o.Wall().Sub(agreed) - (g.o.Boot() - at); {
	case ahead > 0:
		return ahead
	case ahead < -within:
		return ahead + within
	default:
		return 0
	}
}

func clockError(where string, by time.Duration) error {
	return fmt.Errorf("%w: it is %s %s the cluster's", ErrClock, by.Round(time.Millisecond), where)
}
