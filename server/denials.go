package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

const (
	// provisionalFor is how long a node believes a deny that nothing has made final, at least: it must outlast the
	// leases by which a node may speak that has not applied the commit yet.
	provisionalFor = 30 * time.Second
	// repeatEvery is how often the origin says it again until the outcome is known: twice may be lost.
	repeatEvery = 10 * time.Second
	// maxProvisional bounds what others may put into this node's set by gossip: some 45 MB. What is left out is
	// final a moment later, by the log.
	maxProvisional = 1 << 18
	// maxRepeats bounds the denies that are said again. Those beyond are said once, and told by RPC.
	maxRepeats = 1 << 17
	// denyRound is how often what is to be repeated is looked for.
	denyRound = 50 * time.Millisecond
	// sweepEvery is how often provisional entries that nobody repeats are dropped.
	sweepEvery = time.Second
)

// soonRepeats are the first repetitions, since a datagram may be lost: from the first time on, not from the last.
var soonRepeats = [...]time.Duration{100 * time.Millisecond, 400 * time.Millisecond}

// denyCarrier is what denials need of the cluster.
type denyCarrier interface {
	Members() []cluster.Member
	Deny(payload []byte) error
	Call(ctx context.Context, member, method string, body []byte) ([]byte, error)
}

// denials make a revocation felt at once and everywhere this node can reach, before it is committed. What they
// put into the sets is provisional: it runs out unless it is repeated, and the log or a fence makes it final.
//
// A deny goes two ways. A signed datagram to every member, relayed by each, is fast and finds its way around a
// broken link. A call over the cluster port is certain where it arrives, and tells who has heard.
type denials struct {
	self    string
	set     *revocation.Set
	journal *revocation.Journal // of set: what is denied goes into both
	carrier denyCarrier
	wall    func() time.Time
	boot    func() time.Duration
	lease   func() time.Duration // the longest that any node may hold
	logger  *slog.Logger
	metrics *denyMetrics
	tellers *tellers

	provisional atomic.Int64 // entries in the set, as of the last sweep, and those added since

	mu      sync.Mutex
	repeats map[*denied]struct{}
	outbox  []identity.Handle // to be gossiped
	wake    chan struct{}
}

type denyMetrics struct {
	local, gossip, told, malformed, overflow prometheus.Counter
}

func newDenials(self string, journal *revocation.Journal, carrier denyCarrier, wall func() time.Time, lease func() time.Duration, logger *slog.Logger, r prometheus.Registerer) *denials {
	d := &denials{
		self: self, set: journal.Set(), journal: journal, carrier: carrier, wall: wall, boot: cluster.BootTime, lease: lease,
		logger: logger.With("component", "denials"), repeats: make(map[*denied]struct{}), wake: make(chan struct{}, 1),
	}
	d.tellers = newTellers(carrier, d.boot)
	factory := promauto.With(r)
	heard := factory.NewCounterVec(prometheus.CounterOpts{
		Name: "deputy_denies_total",
		Help: "Handles denied before their revocation was committed, by the way they came here; dropped ones are final once the log brings them.",
	}, []string{"by"})
	d.metrics = &denyMetrics{
		local: heard.WithLabelValues("request"), gossip: heard.WithLabelValues("gossip"), told: heard.WithLabelValues("call"),
		malformed: heard.WithLabelValues("malformed"), overflow: heard.WithLabelValues("dropped"),
	}
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_denies_provisional", Help: "Denied handles that may not be committed yet, at most.",
	}, func() float64 { return float64(d.provisional.Load()) })
	return d
}

// Deny puts the handles into this node's set and tells every member. It does not wait for anybody.
func (d *denials) Deny(handles []identity.Handle) api.Denied { return d.deny(handles) }

func (d *denials) deny(handles []identity.Handle) *denied {
	said := &denied{handles: handles, began: d.boot()}
	d.metrics.local.Add(float64(len(handles)))
	d.add(handles)
	var others []string
	for _, m := range d.carrier.Members() {
		if m.ID != d.self {
			others = append(others, m.ID)
		}
	}
	said.expect(len(others))
	d.mu.Lock()
	d.outbox = append(d.outbox, handles...)
	if len(d.repeats) < maxRepeats {
		d.repeats[said] = struct{}{}
	}
	d.mu.Unlock()
	d.tellers.tell(others, said)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return said
}

// add puts handles into the set until the bound is reached. A request's own handles are taken in any case: it
// comes from somebody who may say stop.
func (d *denials) add(handles []identity.Handle) {
	expires := identity.InstantOf(d.wall().Add(max(provisionalFor, 2*d.lease())))
	entries := make([]revocation.Entry, len(handles))
	for i, h := range handles {
		entries[i] = revocation.Entry{Handle: h, Expires: expires, Provisional: true}
	}
	d.provisional.Add(int64(d.journal.Deny(entries...)))
}

// heard takes what another node denies. The error says that it was not taken.
func (d *denials) heard(payload []byte, by prometheus.Counter) error {
	handles, err := decodeHandles(payload)
	if err != nil {
		d.metrics.malformed.Inc()
		return fmt.Errorf("reading what a member denies: %w", err)
	}
	if d.provisional.Load()+int64(len(handles)) > maxProvisional {
		d.metrics.overflow.Add(float64(len(handles)))
		return errTooManyProvisional
	}
	by.Add(float64(len(handles)))
	d.add(handles)
	return nil
}

var errTooManyProvisional = errors.New("too many handles are denied and not committed")

// onDeny is cluster.Options.OnDeny. What is not taken is counted, and comes again by the log.
func (d *denials) onDeny(origin string, payload []byte) {
	if err := d.heard(payload, d.metrics.gossip); err != nil {
		d.logger.Debug("a gossiped deny was not taken", "from", origin, "error", err)
	}
}

// serveDeny is the receiving end of a told deny. The answer says that the handles are in this node's set.
func (d *denials) serveDeny(_ context.Context, _ cluster.Member, payload []byte) ([]byte, error) {
	return nil, d.heard(payload, d.metrics.told)
}

// run gossips, repeats and forgets until ctx ends.
func (d *denials) run(ctx context.Context) error {
	defer d.tellers.stop()
	round, sweep := time.NewTicker(denyRound), time.NewTicker(sweepEvery)
	defer round.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-round.C:
			d.repeat()
		case <-sweep.C:
			d.sweep()
		}
		d.gossip()
	}
}

func (d *denials) gossip() {
	d.mu.Lock()
	handles := d.outbox
	d.outbox = nil
	d.mu.Unlock()
	for len(handles) > 0 {
		payload, taken := encodeHandles(handles, cluster.MaxDenyPayload)
		handles = handles[taken:]
		if err := d.carrier.Deny(payload); err != nil {
			d.logger.Debug("gossiping a deny", "error", err) // it is repeated, told by call, and committed
		}
	}
}

// repeat puts what is due into the outbox again and lets go of what is done.
func (d *denials) repeat() {
	now := d.boot()
	d.mu.Lock()
	defer d.mu.Unlock()
	for said := range d.repeats {
		switch due := said.due(); {
		case due < 0:
			delete(d.repeats, said)
		case now >= due:
			said.times++
			said.last = now
			d.add(said.handles) // here it lasts as long as at the others
			d.outbox = append(d.outbox, said.handles...)
		}
	}
}

func (d *denials) sweep() {
	d.set.PurgeProvisional(identity.InstantOf(d.wall()))
	d.provisional.Store(int64(d.set.Provisional())) // those that were committed since are none any more
}

// denied is one deny under way.
type denied struct {
	handles []identity.Handle
	began   time.Duration
	last    time.Duration // when it was repeated last
	times   int           // how often

	released atomic.Bool
	mu       sync.Mutex
	open     int // members that have not answered
	nodes    int // that have it in their set, this one among them
	of       int
	latest   time.Duration
	answered chan struct{}
}

// due is the boot time of the next repetition, less than zero where there is none.
func (s *denied) due() time.Duration {
	if s.times < len(soonRepeats) {
		return s.began + soonRepeats[s.times]
	}
	if s.released.Load() {
		return -1
	}
	return s.last + repeatEvery
}

func (s *denied) expect(others int) {
	s.open, s.nodes, s.of = others, 1, others+1
	s.answered = make(chan struct{})
	if others == 0 {
		close(s.answered)
	}
}

func (s *denied) answer(heard bool, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if heard {
		s.nodes++
		s.latest = now - s.began
	}
	if s.open--; s.open == 0 {
		close(s.answered)
	}
}

// Wait returns how many of how many members have the handles in their sets, and since when, counted from the
// deny, once all have answered or ctx ends.
func (s *denied) Wait(ctx context.Context) (nodes, of int, after time.Duration) {
	select {
	case <-s.answered:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes, s.of, s.latest
}

// Release says that what becomes of the revocation is known: from then on the log speaks for it.
func (s *denied) Release() { s.released.Store(true) }

// stops is what the api needs to stop something: at once, and also where no majority can be had.
type stops struct {
	*denials
	*pendingStops
}
