package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Lease is this node's right to speak: proof that its own state machine had applied everything that was
// committed at some instant less than Δ ago.
//
// One round: note the time; have the leader commit a tick that it proposes after the question arrived; wait
// until this node's own state machine has applied that tick's index. The lease then lasts Δ from the noted
// time, never from the receipt of the answer. A committed tick needs a live quorum and is ordered after
// everything acknowledged before it, so a deposed, paused or cut-off leader can grant nothing, and a node
// that has applied it has applied all of that.
//
// What looks simpler and does not do is listed in DESIGN.md: LastContact, AppliedIndex, VerifyLeader.
type Lease struct {
	o LeaseOptions

	grant atomic.Pointer[leaseGrant] // never nil
	loss  atomic.Pointer[leaseLoss]  // why there is no lease, where there is none; never nil

	mu          sync.Mutex // of whoever changes the above: a renewal must not undo an end
	surrendered atomic.Bool
}

// leaseGrant is what a round has won, in boot time.
type leaseGrant struct {
	noted  time.Duration // everything committed by then is applied; kept after the lease has ended
	until  time.Duration // 0: none, or ended before its time
	proved bool          // false: no round has ever succeeded
}

// leaseLoss is why a node holds no lease.
type leaseLoss struct {
	reason string
	detail string
	index  uint64 // the tick that has yet to be applied, where that is the reason
}

// LeaseOptions are what a Lease needs of its node.
type LeaseOptions struct {
	// Ask has the leader commit a tick proposed after the question arrived, and returns its index. It is called
	// again while an earlier call is unanswered.
	Ask func(ctx context.Context) (index uint64, err error)

	// WaitApplied returns once this node's own state machine has applied index.
	WaitApplied func(ctx context.Context, index uint64) error

	// Applied is the index that this node's own state machine has applied. It only serves to say how far behind
	// the node is; nil says that it is behind.
	Applied func() uint64

	// Member reports whether this node still is one that may speak; one that is removed, or barred from leases on
	// its way there, holds none. It is called every leaseWatch.
	Member func() bool

	// CheckClock reports whether this node's wall clock agrees with the time that the applied tick carries; the
	// question was asked so long ago. A node with a wrong clock holds no lease: it would mint tokens that outlive
	// their revocation. Nil checks nothing.
	CheckClock func(sinceAsked time.Duration) error

	// Duration is Δ, a replicated setting.
	Duration func() time.Duration

	// Now is time since boot, counted through suspend: BootTime, or a fake in tests.
	Now func() time.Duration

	// Glance is a clock that is never behind Now and cheaper, for Holds: NewGlance. Now itself where nil.
	Glance func() time.Duration

	// Renew is the time between the starts of two rounds; DefaultLeaseRenewal where zero, and never more than a
	// fifth of Δ.
	Renew time.Duration
}

const (
	// DefaultLeaseRenewal leaves ten tries within the default Δ of ten seconds.
	DefaultLeaseRenewal = time.Second

	// leaseTries is how many rounds begin within Δ at the least, however short it is set.
	leaseTries = 5

	// minLeaseInterval keeps a Δ of nothing from turning the rounds into a busy loop.
	minLeaseInterval = 10 * time.Millisecond

	// maxLeaseRounds bounds the rounds that are under way at once. A leader whose machine has died answers nothing
	// and refuses nothing; if the next round waited for the end of the last, the lease would be lost with it, while
	// another has long been elected. Rounds end after Δ, so those without an answer begin Δ/16 apart at least.
	maxLeaseRounds = 16

	// leaseWatch is how long a node may speak on after it has learnt that it may not, where nobody calls Recheck.
	leaseWatch = 50 * time.Millisecond
)

// Why a node holds no lease, in a word. LossBehind is followed by the number of entries where it is known.
const (
	LossStarting    = "starting"
	LossNoLeader    = "no leader"
	LossUnreachable = "leader unreachable"
	LossSilent      = "leader silent" // it commits nothing, or its answer is lost
	LossBehind      = "behind"
	LossRemoved     = "removed"
	LossClock       = "clock"
	LossExpired     = "expired" // nobody renewed it: this process stood still
	LossSurrendered = "surrendered"
)

// ErrNoLease is what Check's errors wrap.
var ErrNoLease = errors.New("no valid lease")

var errNoMember = errors.New("this node is not a member of the cluster, or is being removed from it")

// LeaseLosses lists every reason, for metrics that are there from the start.
func LeaseLosses() []string {
	return []string{
		LossStarting, LossNoLeader, LossUnreachable, LossSilent, LossBehind, LossRemoved, LossClock, LossExpired, LossSurrendered,
	}
}

// NewLease makes a lease that is not held yet.
func NewLease(o LeaseOptions) *Lease {
	if o.Renew == 0 {
		o.Renew = DefaultLeaseRenewal
	}
	if o.Glance == nil {
		o.Glance = o.Now
	}
	l := &Lease{o: o}
	l.grant.Store(&leaseGrant{})
	l.loss.Store(&leaseLoss{reason: LossStarting, detail: "starting"})
	return l
}

// Until is the boot time at which the lease ends as it stands now, zero where there is none. Who answers from
// state notes it before reading that state and hands it to Holds at the end: a lease that was renewed in
// between proves nothing of what was read before.
func (l *Lease) Until() time.Duration { return l.grant.Load().until }

// Holds returns nil while the lease that Until returned has not ended. It reads the clock, so it is called as
// the last thing before an answer goes out.
func (l *Lease) Holds(until time.Duration) error {
	// A lease that was ended before its time is gone for those who noted it while it ran, too.
	if l.o.Glance() < until && l.grant.Load().until != 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNoLease, l.loss.Load().detail)
}

// Check returns nil while the lease is held.
func (l *Lease) Check() error { return l.Holds(l.Until()) }

// Left is how long the lease that Until returned still lasts, zero where it has ended. Like Holds it reads the clock,
// and is called as the last thing.
func (l *Lease) Left(until time.Duration) time.Duration {
	left := until - l.o.Now()
	if left <= 0 || l.grant.Load().until == 0 {
		return 0
	}
	return left
}

// Remaining is how long the lease still lasts, zero where there is none.
func (l *Lease) Remaining() time.Duration { return max(0, l.Until()-l.o.Now()) }

// LeaseState is the lease in words and figures, for people.
type LeaseState struct {
	Held      bool
	Remaining time.Duration
	Age       time.Duration // of the state that was last proved to be complete; zero where none ever was
	Reason    string        // why it is not held, such as "behind by 12"; empty while it is
	Detail    string        // the same at length
}

// State describes the lease as it is now.
func (l *Lease) State() LeaseState {
	// The clock is read last: what is left may be understated, and the age overstated, but not the other way round.
	grant, loss := l.grant.Load(), l.loss.Load()
	now := l.o.Now()
	s := LeaseState{Remaining: max(0, grant.until-now)}
	s.Held = s.Remaining > 0
	if grant.proved {
		s.Age = now - grant.noted
	}
	if !s.Held {
		s.Reason, s.Detail = loss.reason, loss.detail
		if loss.reason == LossBehind && l.o.Applied != nil {
			s.Reason = fmt.Sprintf("%s by %d", LossBehind, loss.index-min(loss.index, l.o.Applied()))
		}
	}
	return s
}

// Surrender ends the lease at once and for good. A node that leaves calls it, so that nobody has to wait for Δ.
func (l *Lease) Surrender() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.surrendered.Store(true)
	l.end(&leaseLoss{reason: LossSurrendered, detail: "surrendered"})
}

// Recheck ends the lease now if this node is no longer a member that may speak. Run looks for itself every
// leaseWatch; who has just applied such a change need not wait for that.
func (l *Lease) Recheck() {
	if l.o.Member() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(&leaseLoss{reason: LossRemoved, detail: errNoMember.Error()})
}

// end ends the lease. The caller holds mu.
func (l *Lease) end(why *leaseLoss) {
	if l.surrendered.Load() && why.reason != LossSurrendered {
		return // nothing to end, and the first reason stays
	}
	l.loss.Store(why) // first: who sees the end looks for the reason
	if grant := l.grant.Load(); grant.until != 0 {
		l.grant.Store(&leaseGrant{noted: grant.noted, proved: true})
	}
}
