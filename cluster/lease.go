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

	until       atomic.Int64 // boot time, in nanoseconds, at which the lease ends; 0: none
	surrendered atomic.Bool
	denied      atomic.Pointer[leaseLoss]
}

// LeaseOptions are what a Lease needs of its node.
type LeaseOptions struct {
	// Ask has the leader commit a tick proposed after the question arrived, and returns its index.
	Ask func(ctx context.Context) (index uint64, err error)

	// WaitApplied returns once this node's own state machine has applied index.
	WaitApplied func(ctx context.Context, index uint64) error

	// Member reports whether this node still is one; a removed node holds no lease.
	Member func() bool

	// CheckClock reports whether this node's wall clock agrees with the time that the applied tick carries; the
	// question was asked so long ago. A node with a wrong clock holds no lease: it would mint tokens that outlive
	// their revocation. Nil checks nothing.
	CheckClock func(sinceAsked time.Duration) error

	// Duration is Δ, a replicated setting.
	Duration func() time.Duration

	// Now is time since boot, counted through suspend: BootTime, or a fake in tests.
	Now func() time.Duration

	// Renew is the time between the starts of two rounds; DefaultLeaseRenewal where zero.
	Renew time.Duration
}

// DefaultLeaseRenewal leaves ten tries within the default Δ of ten seconds.
const DefaultLeaseRenewal = time.Second

// ErrNoLease is what Check's errors wrap.
var ErrNoLease = errors.New("no valid lease")

type leaseLoss struct{ reason string }

// NewLease makes a lease that is not held yet.
func NewLease(o LeaseOptions) *Lease {
	if o.Renew == 0 {
		o.Renew = DefaultLeaseRenewal
	}
	l := &Lease{o: o}
	l.denied.Store(&leaseLoss{"starting"})
	return l
}

// Until is the boot time at which the lease ends as it stands now, zero where there is none. Who answers from
// state notes it before reading that state and hands it to Holds at the end: a lease that was renewed in
// between proves nothing of what was read before.
func (l *Lease) Until() time.Duration { return time.Duration(l.until.Load()) }

// Holds returns nil while the lease that Until returned has not ended. It reads the clock, so it is called as
// the last thing before an answer goes out.
func (l *Lease) Holds(until time.Duration) error {
	if l.o.Now() < until && !l.surrendered.Load() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNoLease, l.denied.Load().reason)
}

// Check returns nil while the lease is held.
func (l *Lease) Check() error { return l.Holds(l.Until()) }

// Remaining is how long the lease still lasts, zero where there is none.
func (l *Lease) Remaining() time.Duration {
	return max(0, time.Duration(l.until.Load())-l.o.Now())
}

// Surrender ends the lease at once and for good. A node that leaves calls it, so that nobody has to wait for Δ.
func (l *Lease) Surrender() {
	l.surrendered.Store(true)
	l.denied.Store(&leaseLoss{"surrendered"})
	l.until.Store(0)
}

// Run renews the lease until ctx ends, then surrenders it. It returns nil.
func (l *Lease) Run(ctx context.Context) error {
	defer l.Surrender()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		asked := l.o.Now()
		if err := l.renew(ctx, asked); err != nil {
			l.denied.Store(&leaseLoss{err.Error()})
			next.Reset(l.o.Renew / 4) // sooner, while the old lease still runs
			continue
		}
		next.Reset(max(0, l.o.Renew-(l.o.Now()-asked)))
	}
}

func (l *Lease) renew(ctx context.Context, asked time.Duration) error {
	if !l.o.Member() {
		l.until.Store(0)
		return errors.New("this node is not a member of the cluster")
	}
	duration := l.o.Duration()
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	index, err := l.o.Ask(ctx)
	if err != nil {
		return fmt.Errorf("no leader committed a tick: %w", err)
	}
	if err := l.o.WaitApplied(ctx, index); err != nil {
		return fmt.Errorf("this node is behind index %d: %w", index, err)
	}
	if l.o.CheckClock != nil {
		if err := l.o.CheckClock(l.o.Now() - asked); err != nil {
			l.until.Store(0)
			return err
		}
	}
	// What was just applied may have removed this node, or shortened Δ.
	if !l.o.Member() {
		l.until.Store(0)
		return errors.New("this node is not a member of the cluster")
	}
	l.until.Store(int64(asked + min(duration, l.o.Duration())))
	if l.surrendered.Load() { // between the check of Run and the line above
		l.until.Store(0)
	}
	return nil
}

// Ticks is the leader's side of leases: it commits ticks, and lets requests that arrive while one is under way
// share the next.
type Ticks struct {
	propose func(ctx context.Context) (index uint64, err error)
	gather  time.Duration

	mu      sync.Mutex
	next    *tickRound // collects requests; nil when none waits
	running bool
}

type tickRound struct {
	done  chan struct{}
	index uint64
	err   error
}

const (
	// tickGather is how long a tick waits for company. It bounds the log's idle growth to a handful of entries
	// a second however many nodes there are.
	tickGather = 100 * time.Millisecond

	// tickTimeout bounds a proposal, so that a stuck one does not hold up the rounds behind it for ever.
	tickTimeout = 5 * time.Second
)

// NewTicks makes the leader's side; propose commits one tick and returns its index.
func NewTicks(propose func(ctx context.Context) (uint64, error)) *Ticks {
	return &Ticks{propose: propose, gather: tickGather}
}

// Commit returns the index of a tick that was proposed after Commit was called.
func (t *Ticks) Commit(ctx context.Context) (uint64, error) {
	t.mu.Lock()
	round := t.next
	if round == nil {
		round = &tickRound{done: make(chan struct{})}
		t.next = round
		if !t.running {
			t.running = true
			go t.run()
		}
	}
	t.mu.Unlock()
	select {
	case <-round.done:
		return round.index, round.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run commits rounds until none waits. A round is closed to newcomers before its tick is proposed.
func (t *Ticks) run() {
	for {
		time.Sleep(t.gather)
		t.mu.Lock()
		round := t.next
		t.next = nil
		if round == nil {
			t.running = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), tickTimeout)
		round.index, round.err = t.propose(ctx)
		cancel()
		close(round.done)
	}
}
