package revocation

import (
	"math"

	"github.com/deputy-id/deputy/identity"
)

// purgeBudget bounds the slots that one Purge looks at. It runs inside the replicated state machine, where
// every millisecond delays every write: half a million slots take about four. A set below 50,000 entries is
// always swept whole by one call, and one below 300,000 where few have expired.
const purgeBudget = 1 << 19

// A shard is built anew once one entry in eight is dead, to give their memory back. That costs about as
// much as looking at six times its slots, and is charged to the budget as such.
const (
	deadDivisor  = 8
	rebuildPrice = 6
)

// Purge drops entries whose Expires is not after now and returns how many. It is meant for the replicated
// purge alone, with the time that the log agreed on, as dropping a handle by a local clock that runs ahead
// would bring a token back to life.
//
// One call does a bounded amount of work and the next goes on where it stopped, so in a large set an entry
// may outlive its expiry by some calls. No reader ever waits; a writer waits for one shard at most.
func (s *Set) Purge(now identity.Instant) (removed int) {
	return s.sweep(now, purgeBudget)
}

func (s *Set) sweep(now identity.Instant, budget int) (removed int) {
	for range shardCount {
		if budget <= 0 {
			break
		}
		sh := &s.shards[s.cursor.Add(1)%shardCount]
		n, cost := sh.purge(s, now, false)
		removed += n
		budget -= cost
	}
	return removed
}

// PurgeProvisional drops provisional entries whose Expires is not after now, by the caller's own clock, and
// returns how many. It looks only at shards that hold any.
func (s *Set) PurgeProvisional(now identity.Instant) (removed int) {
	for i := range s.shards {
		n, _ := s.shards[i].purge(s, now, true)
		removed += n
	}
	return removed
}

// purge drops what has expired from one shard and returns how much, and what that cost of the budget.
func (sh *shard) purge(s *Set, now identity.Instant, provisionalOnly bool) (removed, cost int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()

	t := sh.table.Load()
	if t == nil || now < t.oldest || (provisionalOnly && t.provisional == 0) {
		return 0, 0
	}
	t.oldest = math.MaxInt64
	for i := range t.slots {
		c := &t.slots[i]
		switch m := c.load(); {
		case !m.taken():
		case m.expires() > now || (provisionalOnly && m.final()):
			t.oldest = min(t.oldest, m.expires())
		default:
			t.remove(c, m)
			removed++
		}
	}
	cost = len(t.slots)
	switch {
	case t.dead == t.used:
		sh.table.Store(nil)
	case t.dead*deadDivisor > t.used:
		sh.table.Store(t.rebuilt(s.seed, 0))
		cost *= rebuildPrice
	}
	// Counted down after nobody can find them any more; see add.
	s.live.Add(-int64(removed))
	return removed, cost
}
