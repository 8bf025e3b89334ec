package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Fences find out when nobody can act any more on what was before a committed index.
//
// The promise: once Raise reports Done for index I, every member either has acknowledged a message that was sent
// after I was committed, or can hold no lease that was granted by a tick before I. A member may only speak while
// it holds a lease, so either it has heard, or it is silent, or it has a lease by a later tick. That one does no
// harm: to hold it, the member has applied that tick, and with it I.
//
// Why an expired lease is proved by the leader's clock alone:
//
//   - A lease by a tick before I runs Δ from when its member noted the time, which it did before it sent the
//     request; the request was noted here before its tick was proposed (Grants.Asked). Ticks before I were
//     proposed before I was committed, hence before Raise, so Latest, read at Raise, covers all of them.
//   - Ticks of earlier leaders are covered by the time at which this leader began to lead (Grants.Lead).
//   - Δ may have been changed. A member that has not applied I judges by settings from before I, and Bound, read
//     from a state that has I, is the longest Δ that any such settings said and that may still be running.
//   - Two machines' clocks run at different speeds: LeaseDrift.
//
// Whether this node still leads when the fence ends makes no difference: what later leaders grant is granted by
// ticks after I.
//
// All members count, those without a vote too: they mint and check tokens like the rest. Who has been removed
// doesn't, because a removal comes only after that member's lease has ended; and who joined after I asks for its
// first tick after I.
//
// The acknowledgement of anything that was sent before the commit proves nothing: the receiver may have put it
// aside again. That is why Raise sends for itself.
type Fences struct {
	o       FenceOptions
	metrics *fenceMetrics
}

// FenceOptions are what fences need of their node.
type FenceOptions struct {
	// Members is every node that may hold a lease at or after the index: the table of members, voters and
	// non-voters, this node included, as of the index or later.
	Members func() []string

	// Self is this node, which has applied the index.
	Self string

	// Send hands the payload to a member and returns nil once that member has acknowledged it. It must return soon
	// after ctx ends.
	Send func(ctx context.Context, member string, index uint64, payload []byte) error

	// Latest is Grants.LatestIn for the term in which this node leads; ok is false where it doesn't.
	Latest func(member string) (asked time.Duration, ok bool)

	// Bound is the longest lease that anybody may hold, by this node's state as of the index or later.
	Bound func() time.Duration

	// Now is time since boot, counted through suspend: the clock that Latest is read from.
	Now func() time.Duration
}

// FenceState is what a fence knows of one member.
type FenceState string

// The states of a member. The first two are final.
const (
	FenceAcknowledged FenceState = "fenced"        // it has acknowledged
	FenceExpired      FenceState = "lease-expired" // it can hold no lease from before
	FenceWaiting      FenceState = "waiting"       // neither is known
)

// FenceNode is a member in a FenceReport.
type FenceNode struct {
	ID    string
	State FenceState
	After time.Duration // since the fence was raised: when the state was known, or how long it has been waited for
}

// FenceReport is what came of a fence.
type FenceReport struct {
	Done  bool        // no member is waited for any more
	Nodes []FenceNode // every member that was asked, by id
	Took  time.Duration
}

const (
	fenceRetry       = 50 * time.Millisecond // between two sends to one member, and between two looks at the clock
	fenceSendTimeout = time.Second           // of one send: a connection that hangs is given up for a new one
	maxFenceSends    = 64                    // of one fence, in flight: enough for a round trip to a large fleet
)

// LeaseDrift is how much longer than d a lease of d may last by another machine's clock. NTP daemons correct a wrong
// clock by letting it run faster or slower, CLOCK_BOOTTIME with it: chrony by up to a twelfth (maxslewrate 83,333 ppm).
// A leader's that gains while a member's loses makes 1.18 of 1. The floor is for short leases.
func LeaseDrift(d time.Duration) time.Duration { return max(100*time.Millisecond, d/5) }

// NewFences makes the leader's side of fences. They are a prometheus.Collector.
func NewFences(o FenceOptions) *Fences { return &Fences{o: o, metrics: newFenceMetrics()} }

// Raise sends payload to every member until each has acknowledged it or can't hold a lease from before index any
// more, and reports how far that came. Call it on the leader AFTER index was committed and applied here.
//
// The end of ctx is no error: the report then says who is missing. ErrNotLeader where this node doesn't lead; it
// can't know how long others may speak.
func (f *Fences) Raise(ctx context.Context, index uint64, payload []byte) (FenceReport, error) {
	return f.RaiseFor(ctx, f.o.Members(), index, payload)
}

// RaiseFor is Raise for some members only. A removal waits with it until the one that goes has fallen silent.
func (f *Fences) RaiseFor(ctx context.Context, members []string, index uint64, payload []byte) (FenceReport, error) {
	report, err := f.raise(ctx, members, index, payload)
	f.metrics.raised(report, err)
	return report, err
}

func (f *Fences) raise(ctx context.Context, members []string, index uint64, payload []byte) (FenceReport, error) {
	began := f.o.Now()
	fence := &fence{Fences: f, index: index, payload: payload, began: began}
	if err := fence.list(members); err != nil {
		return FenceReport{}, fmt.Errorf("raising a fence for index %d: %w", index, err)
	}
	fence.run(ctx)
	return fence.report(), nil
}

// fence is one that has been raised.
type fence struct {
	*Fences
	index   uint64
	payload []byte
	began   time.Duration
	members []fencedMember
	waiting int // members that are waited for
}

type fencedMember struct {
	FenceNode
	expires time.Duration      // when its last lease from before index has ended, on this node's boot clock
	cancel  context.CancelFunc // ends its sends; nil before they began
}

// list notes until when each member may hold a lease.
func (f *fence) list(ids []string) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	if len(ids) == 0 {
		// Nobody to ask is no proof that nobody may speak: it is a table that has not been read yet.
		return errors.New("no members are known")
	}
	bound := f.o.Bound()
	longest := bound + LeaseDrift(bound)
	f.members = make([]fencedMember, len(ids))
	for i, id := range ids {
		asked, ok := f.o.Latest(id)
		if !ok {
			return ErrNotLeader
		}
		f.members[i] = fencedMember{FenceNode: FenceNode{ID: id, State: FenceWaiting}, expires: asked + longest}
	}
	f.waiting = len(ids)
	return nil
}

// run returns once no member is waited for, or when ctx ends. It alone changes members.
func (f *fence) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the sends under way end with it
	acknowledged := make(chan int, len(f.members))
	slots := make(chan struct{}, maxFenceSends)
	for i := range f.members {
		m := &f.members[i]
		if m.ID == f.o.Self {
			f.settle(m, FenceAcknowledged)
		}
	}
	f.expire()
	for i := range f.members {
		m := &f.members[i]
		if m.State != FenceWaiting {
			continue
		}
		var own context.Context
		own, m.cancel = context.WithCancel(ctx)
		go func(id string) {
			if f.deliver(own, id, slots) {
				acknowledged <- i
			}
		}(m.ID)
	}
	clock := time.NewTicker(fenceRetry) // timers stand still while the machine is suspended; Now doesn't
	defer clock.Stop()
	for f.waiting > 0 {
		select {
		case i := <-acknowledged:
			f.settle(&f.members[i], FenceAcknowledged)
		case <-clock.C:
			f.expire()
		case <-ctx.Done():
			f.expire()
			for len(acknowledged) > 0 { // what arrived at the same moment is not thrown away
				f.settle(&f.members[<-acknowledged], FenceAcknowledged)
			}
			return
		}
	}
}

// deliver sends to one member until it acknowledges, and returns whether it has before ctx ended.
func (f *fence) deliver(ctx context.Context, id string, slots chan struct{}) bool {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		attempt, cancel := context.WithTimeout(ctx, fenceSendTimeout)
		err := f.o.Send(attempt, id, f.index, f.payload)
		cancel()
		<-slots
		if err == nil {
			return true
		}
		pause.Reset(fenceRetry)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return false
		}
	}
}

// expire settles the members whose last lease has ended.
func (f *fence) expire() {
	now := f.o.Now()
	for i := range f.members {
		if m := &f.members[i]; m.State == FenceWaiting && now >= m.expires {
			f.settle(m, FenceExpired)
		}
	}
}

func (f *fence) settle(m *fencedMember, state FenceState) {
	if m.State != FenceWaiting {
		return // acknowledged just after its lease had ended
	}
	m.State, m.After = state, f.o.Now()-f.began
	f.waiting--
	if m.cancel != nil {
		m.cancel()
	}
}

func (f *fence) report() FenceReport {
	r := FenceReport{Done: f.waiting == 0, Took: f.o.Now() - f.began, Nodes: make([]FenceNode, len(f.members))}
	for i, m := range f.members {
		if m.State == FenceWaiting {
			m.After = r.Took
		}
		r.Nodes[i] = m.FenceNode
	}
	return r
}
