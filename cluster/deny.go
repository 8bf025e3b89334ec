package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	denyInbox  = 4096 // messages between memberlist and their check: 4 MB, a quarter of a second's work
	denyOutbox = 8192 // own messages that wait to be sent: 8 MB, a burst of 100,000 handles twice over
	denyRelays = 4096 // messages of others that wait to be passed on: 4 MB

	denyFanout = 3 // members that a message is passed on to; more adds copies and hardly any reach

	// A receiver gets some four copies of each message, and the kernel keeps about 180 datagrams of this size for
	// a socket whose buffer the system's limit holds at 208 KiB. So few may leave at once, and then at a pace
	// that a receiver keeps up with beside its other work; DESIGN.md has the measurements.
	denyAtOnce = 32
	denyEvery  = 500 * time.Microsecond

	// A message outside this window is a replay or of a member whose clock is wrong. The owner repeats what
	// still counts every few seconds, under a new time.
	denyTooOld   = 45 * time.Second
	denyTooEarly = 10 * time.Second

	// denyRemembered messages are known again. It must be well above what can be under way in the cluster's
	// queues at one time, or messages would go round; at the worst it takes 11 MB for both generations.
	denyRemembered = 65_536
)

// Values of the label "event" of deny messages.
const (
	denySent      = "sent"      // datagrams of own messages
	denyRelayed   = "relayed"   // datagrams of messages passed on
	denyUnsent    = "unsent"    // datagrams of either that could not be sent
	denyReceived  = "received"  // messages that arrived; each is one of those below, or overflowed
	denyAccepted  = "accepted"  // handed to the owner
	denyDuplicate = "duplicate" // known already
	denyMalformed = "malformed"
	denyStale     = "stale"    // too old, or from the future
	denyStranger  = "stranger" // of nobody who is a member
	denyForged    = "forged"   // not signed by the member that it names
)

// denials carries the owner's denies from member to member, by datagrams of memberlist's. They hurry ahead of
// the log: nothing that must be right rests on their arrival, so there is no acknowledgement and no retry, and
// every queue drops and counts. They can only forbid, and say so under their origin's signature, because the key
// that memberlist encrypts with is shared by all.
//
// memberlist's own broadcasts don't do: they reach three nodes per interval and are not passed on.
type denials struct {
	self   string
	key    NodeKey
	roster *roster
	onDeny func(origin string, payload []byte)
	clock  func() time.Time
	send   func(addr string, message []byte) error
	logger *slog.Logger

	events, overflow *prometheus.CounterVec
	seen             *denyMemory
	inbox            chan []byte // messages as they came
	outbox           *denyQueue  // payloads: they are sealed when they leave, under the time of that
	relays           *denyQueue  // messages as they came
	pace             pace        // of outbox and of relays, each
}

func newDenials(o *Options, r *roster, m *metrics, logger *slog.Logger, send func(string, []byte) error) *denials {
	d := &denials{
		self: o.NodeID, key: o.Key, roster: r, onDeny: o.OnDeny, clock: o.Clock, send: send,
		logger: logger.With("component", "gossip"),
		events: m.denies, overflow: m.denyOverflow,
		seen:   newDenyMemory(denyRemembered, denyTooOld+denyTooEarly),
		inbox:  make(chan []byte, denyInbox),
		outbox: newDenyQueue(denyOutbox),
		relays: newDenyQueue(denyRelays),
		pace:   pace{every: denyEvery, atOnce: denyAtOnce},
	}
	if d.onDeny == nil {
		d.onDeny = func(string, []byte) {} // it is still passed on
	}
	return d
}

func (d *denials) count(event string) { d.events.WithLabelValues(event).Inc() }

// Deny tells every member that payload, of at most MaxDenyPayload bytes, is denied: their Options.OnDeny is
// called. It neither waits nor promises arrival. Under a flood the oldest of what waits gives way, so the owner
// repeats what has not been made final by other means.
func (n *Node) Deny(payload []byte) error {
	if _, err := n.active(); err != nil {
		return err
	}
	return n.gossip.denials.deny(payload)
}

func (d *denials) deny(payload []byte) error {
	if len(payload) == 0 {
		return errors.New("a deny without a payload")
	}
	if len(payload) > MaxDenyPayload {
		return fmt.Errorf("%w: a deny of %d bytes; at most %d are allowed", ErrTooLarge, len(payload), MaxDenyPayload)
	}
	if d.outbox.push(slices.Clone(payload)) {
		d.overflow.WithLabelValues(denyQueueOut).Inc()
	}
	return nil
}

// speak sends this node's own denies to every member. It and passOn don't share a queue or a pace, so that
// neither can starve the other.
func (d *denials) speak(ctx context.Context) {
	pace := d.pace
	for {
		payload, ok := d.outbox.next(ctx)
		if !ok || !pace.wait(ctx) {
			return
		}
		now := d.clock()
		message, err := sealDeny(d.key, d.self, now.UnixMilli(), payload)
		if err != nil {
			d.logger.Error("sealing a deny", "error", err)
			continue
		}
		d.seen.add(sha256.Sum256(message), now) // it will come back
		for _, m := range d.roster.members() {
			if m.ID != d.self {
				d.sendTo(m, message, denySent)
			}
		}
	}
}

// passOn sends what others said first to a few members.
func (d *denials) passOn(ctx context.Context) {
	pace := d.pace
	for {
		message, ok := d.relays.next(ctx)
		if !ok || !pace.wait(ctx) {
			return
		}
		origin := string(message[2 : 2+int(message[1])]) // it was parsed when it came
		for _, m := range d.listeners(origin) {
			d.sendTo(m, message, denyRelayed)
		}
	}
}

// listeners are a few members, at random, that may not have heard what origin says.
func (d *denials) listeners(origin string) []Member {
	others := slices.DeleteFunc(slices.Clone(d.roster.members()), func(m Member) bool {
		return m.ID == d.self || m.ID == origin
	})
	most := min(denyFanout, len(others))
	for i := range most {
		j := i + mathrand.IntN(len(others)-i)
		others[i], others[j] = others[j], others[i]
	}
	return others[:most]
}

// sendTo doesn't ask memberlist whether the member is alive: that may be wrong, and a datagram costs nothing.
func (d *denials) sendTo(m Member, message []byte, event string) {
	_, err := netip.ParseAddrPort(m.GossipAddr) // a name would have memberlist wait for DNS
	if err == nil {
		err = d.send(m.GossipAddr, message)
	}
	if err != nil {
		d.count(denyUnsent)
		d.logger.Debug("sending a deny", "member", m.ID, "addr", m.GossipAddr, "error", err)
		return
	}
	d.count(event)
}

// hear checks what has arrived, off memberlist's goroutines, and is the one that calls OnDeny.
func (d *denials) hear(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-d.inbox:
			if ctx.Err() != nil {
				return
			}
			d.count(d.take(message))
		}
	}
}

// take returns what became of a message. What costs most comes last: a duplicate never costs a check of its
// signature, and only what was checked is remembered, so that nobody can have a message forgotten or refused by
// sending others.
func (d *denials) take(message []byte) (event string) {
	e, err := parseDeny(message)
	if err != nil {
		return denyMalformed
	}
	hash := denyHash(sha256.Sum256(message))
	if d.seen.has(hash) {
		return denyDuplicate
	}
	now := d.clock()
	if age := now.UnixMilli() - e.at; age > denyTooOld.Milliseconds() || age < -denyTooEarly.Milliseconds() {
		return denyStale
	}
	origin, ok := d.roster.member(e.origin)
	if !ok {
		return denyStranger
	}
	if !e.signedBy(origin.Key) {
		return denyForged
	}
	d.seen.add(hash, now)
	if e.origin == d.self {
		return denyDuplicate // said before a restart
	}
	d.onDeny(e.origin, e.payload)
	if d.relays.push(message) {
		d.overflow.WithLabelValues(denyQueueRelay).Inc()
	}
	return denyAccepted
}

// denyDelegate takes datagrams from memberlist. Nothing but NotifyMsg does anything: memberlist's broadcasts are
// not passed on, and its exchange of states grows with the state.
type denyDelegate struct{ d *denials }

var _ memberlist.Delegate = denyDelegate{}

// NotifyMsg is called from memberlist's receive loop and, for messages over TCP, from others beside it. The bytes
// are memberlist's.
func (g denyDelegate) NotifyMsg(message []byte) {
	g.d.count(denyReceived)
	if len(message) < minDenyMessage || len(message) > maxDenyMessage { // over TCP anything may come
		g.d.count(denyMalformed)
		return
	}
	select {
	case g.d.inbox <- slices.Clone(message):
	default:
		g.d.overflow.WithLabelValues(denyQueueIn).Inc()
	}
}

func (denyDelegate) NodeMeta(int) []byte             { return nil }
func (denyDelegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (denyDelegate) LocalState(bool) []byte          { return nil }
func (denyDelegate) MergeRemoteState([]byte, bool)   {}
