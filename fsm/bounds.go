package fsm

import (
	"time"
	"unique"

	"github.com/tidwall/btree"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// longer is a setting that was shortened: what began under the longer one may still be running.
type longer struct {
	Value int64            `codec:"v"` // as long as the earlier setting said, in the setting's own unit
	Until identity.Instant `codec:"u"` // by FSM time
}

// settle is how far beyond the end of the longer value it still counts, since FSM time may be ahead of some
// node's clock by the allowed skew, and of others by as much the other way.
const settle = 5 * time.Second

// clockSlew is the part of a time by which two machines' clocks may measure it differently while time daemons
// correct them: a fifth. See cluster.LeaseDrift.
const clockSlew = 5

// maxLonger bounds a setting in whatever unit, so that no sum of times overflows; what is in force is far less.
const maxLonger = 1 << 30

// replaced notes that a setting changes from one length to another, at a time. Of several changes the longest that
// still counts is kept, until nothing of it or of those between can be running.
func (l longer) replaced(was, becomes int64, unit time.Duration, now identity.Instant) longer {
	next := longer{Value: min(was, maxLonger)}
	running := time.Duration(max(next.Value, 0)) * unit
	next.Until = after(now, running+running/clockSlew+settle)
	if now < l.Until {
		next.Value, next.Until = max(next.Value, l.Value), max(next.Until, l.Until)
	}
	if next.Value <= becomes {
		return longer{}
	}
	return next
}

// wire is how a snapshot has it: not at all where nothing counts.
func (l longer) wire() *longer {
	if l == (longer{}) {
		return nil
	}
	return &l
}

func (l *longer) read() longer {
	if l == nil {
		return longer{}
	}
	return *l
}

// bound is the longest that still counts.
func (l longer) bound(current int64, now identity.Instant) int64 {
	if now < l.Until {
		return max(current, l.Value)
	}
	return current
}

// Closed says why no node may mint, or "" where they may: after a recovery or a restore an operator first
// brings back what was stopped meanwhile.
func (v *View) Closed() string { return v.closed }

// LeaseBound is the longest lease that any node may hold: the setting, or a longer one that it had so lately that
// leases of that time may still be running.
func (v *View) LeaseBound() time.Duration {
	return time.Duration(v.longerLease.bound(v.settings.LeaseMillis, v.time)) * time.Millisecond
}

// OfflineBound is the longest life of a token that an application verifies without asking, likewise.
func (v *View) OfflineBound() time.Duration {
	return time.Duration(v.longerOffline.bound(v.settings.OfflineTTLSeconds, v.time)) * time.Second
}

// EntriesOf returns those of the handles that are revoked, as they stand in the set.
func (v *View) EntriesOf(handles []identity.Handle) []revocation.Entry {
	var entries []revocation.Entry
	for _, h := range handles {
		if r, ok := v.Revocation(h); ok {
			entries = append(entries, revocation.Entry{Handle: h, Expires: r.Expires})
		}
	}
	return entries
}

// Reach is what a stop would touch.
type Reach struct {
	Delegations int
	Agents      int // that act for the principal
	Principals  int // that the agent acts for
	Truncated   bool
}

// maxReach bounds the delegations that are looked at, active or not: counting must not cost more than stopping.
const maxReach = 100_000

// AgentReach counts what rests on an agent now.
func (v *View) AgentReach(name string) Reach {
	if _, ok := v.agentsByName.find(name); !ok {
		return Reach{}
	}
	agent := unique.Make(name)
	principals := make(map[string]struct{})
	r := v.reach(v.delegationsByAgent, v.recentByAgent, v.firstOf(name), func(d *record) bool { return d.agent == agent },
		func(d *record) { principals[d.principal] = struct{}{} })
	r.Principals = len(principals)
	return r
}

// PrincipalReach counts what rests on a principal now.
func (v *View) PrincipalReach(id string) Reach {
	agents := make(map[unique.Handle[string]]struct{})
	r := v.reach(v.delegationsByPrincipal, v.recentByPrincipal, v.firstOf(id), func(d *record) bool { return d.principal == id },
		func(d *record) { agents[d.agent] = struct{}{} })
	r.Agents = len(agents)
	return r
}

// reach walks the records of one agent or principal, and shows those that are active.
func (v *View) reach(t *btree.BTreeG[placed], recent []*record, from placed, of func(*record) bool, show func(*record)) (r Reach) {
	looked := 0
	ascend(t, recent, from, of, func(d *record) bool {
		if looked == maxReach {
			r.Truncated = true
			return false
		}
		looked++
		if p, ok := v.alive(d); ok && d.activeAt(v.time, p) {
			r.Delegations++
			show(d)
		}
		return true
	})
	return r
}
