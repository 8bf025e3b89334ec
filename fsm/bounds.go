package fsm

import (
	"time"

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

// replaced notes that a setting changes from one length to another, at a time.
func (l longer) replaced(was, becomes int64, unit time.Duration, now identity.Instant) longer {
	if now < l.Until {
		was = max(was, l.Value)
	}
	if was <= becomes {
		return longer{}
	}
	return longer{Value: was, Until: after(now, time.Duration(was)*unit+settle)}
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

// maxReach bounds the delegations that are looked at: counting must not cost more than stopping.
const maxReach = 100_000

// AgentReach counts what rests on an agent.
func (v *View) AgentReach(name string) Reach {
	return v.reach(DelegationFilter{Agent: name, ActiveAt: v.time}, func(r *Reach, n int) { r.Principals = n }, func(d *record) string { return d.principal })
}

// PrincipalReach counts what rests on a principal.
func (v *View) PrincipalReach(id string) Reach {
	return v.reach(DelegationFilter{Principal: id, ActiveAt: v.time}, func(r *Reach, n int) { r.Agents = n }, func(d *record) string { return d.agent.Value() })
}

func (v *View) reach(f DelegationFilter, distinct func(*Reach, int), other func(*record) string) Reach {
	var r Reach
	seen := make(map[string]struct{})
	v.walk(f, "", func(d *record, _ *principalRow) bool {
		if r.Delegations == maxReach {
			r.Truncated = true
			return false
		}
		r.Delegations++
		seen[other(d)] = struct{}{}
		return true
	})
	distinct(&r, len(seen))
	return r
}
