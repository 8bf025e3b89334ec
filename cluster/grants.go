package cluster

import (
	"fmt"
	"sync"
	"time"
)

// Grants is what a leader knows of the leases that may be running: for each member, a time on the leader's own
// boot clock after which no lease that a tick could grant it so far has begun. A fence adds Δ to that time and
// knows when a silent member can speak no more.
//
// It errs to one side only. A lease runs from the time that the member noted before it sent its request, which
// is no later than the arrival of that request here; whether the tick then commits, and whether the member ever
// hears of it, makes no difference to the bound.
//
// Leases that earlier leaders granted are covered by the time of Lead. A tick that an earlier leader proposed
// and that ever commits is in the log with which this leader was elected, or it could not have been elected. So
// it was proposed, and before that asked for, before this leader's term began, and Lead comes after.
type Grants struct {
	now func() time.Duration

	mu    sync.Mutex
	term  uint64                   // 0: never led
	led   time.Duration            // every member counts as having asked then
	asked map[string]time.Duration // and those here have asked again since
}

// maxGrants bounds the members that are remembered one by one. Ids are never reused, so in a term of months the
// departed add up; a cluster has far fewer members than this at a time.
const maxGrants = 4096

// NewGrants makes the ledger of a node that never led. now is time since boot, counted through suspend: the clock
// that leases run on.
func NewGrants(now func() time.Duration) *Grants {
	return &Grants{now: now, asked: make(map[string]time.Duration)}
}

// Lead says that this node leads in term, which it learns from LeadsIn or from the first commit of that term,
// and that every member may just have asked an earlier leader. A term that was seen already changes nothing, and
// neither does one that is over. The sooner it is called the shorter the first fences of a term wait.
func (g *Grants) Lead(term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if term <= g.term {
		return
	}
	g.term, g.led = term, g.now()
	clear(g.asked)
}

// Asked notes that a member's request for a tick has arrived. It must be called BEFORE the tick is proposed:
// a tick in the log whose request is not noted yet would be a lease that a fence doesn't wait for.
//
// ErrNotLeader where term is not the one of Lead: the request came to a leadership that is over, or that Lead
// has not been told of. The tick itself may still be proposed in a later term than the request was noted in, for
// then Lead has been or will be called for that term, with a time after this one.
func (g *Grants) Asked(term uint64, member string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.term == 0 || term != g.term {
		return fmt.Errorf("%w in term %d", ErrNotLeader, term)
	}
	now := g.now()
	if _, known := g.asked[member]; !known && len(g.asked) >= maxGrants {
		g.led = now // forgetting whoever asked means: all have asked just now
		clear(g.asked)
	}
	g.asked[member] = now
	return nil
}

// Latest returns a time after which no lease of the member has begun by a tick that was proposed before this
// call in the last term that Lead was told of, or in any earlier one. ok is false on a node that never led.
//
// It knows nothing of later terms. Who can't be sure that Lead was called since this node last became the leader
// uses LatestIn.
func (g *Grants) Latest(member string) (asked time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.latest(member)
}

// LatestIn is Latest for a node that leads in term, as LeadsIn has it; ok is false where Lead was told of another
// term. Without this check a node that leads again, and has forgotten to say so, would judge by what it knew
// when it led before, and miss every lease that was granted by others in between.
func (g *Grants) LatestIn(term uint64, member string) (asked time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if term != g.term {
		return 0, false
	}
	return g.latest(member)
}

func (g *Grants) latest(member string) (time.Duration, bool) {
	if g.term == 0 {
		return 0, false
	}
	if asked, ok := g.asked[member]; ok {
		return max(asked, g.led), true
	}
	return g.led, true
}
