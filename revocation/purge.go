package revocation

import (
	"math"

	"github.com/deputy-id/deputy/identity"
)

// purgeBudget bounds the entries that one Purge looks at. It runs inside the replicated state machine, where
// every millisecond delays every write: half a million entries take about four. A set below 50,000 entries is
// always swept whole by one call, and one below 500,000 where few have expired.
const purgeBudget = 1 << 19

// A shard is built anew once one entry in eight is dead, to give their memory back. That costs about as
// much as looking at ten times its entries, and is charged to the budget as such.
const (
	deadDivisor  = 8
	rebuildPrice = 10
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
	for range partCount * shardCount {
		if budget <= 0 {
			break
		}
		next := s.cursor.Add(1) % (partCount * shardCount)
		p := s.parts[next/shardCount].Load()
		if p == nil {
			continue
		}
		n, cost := p.purge(s, int(next%shardCount), now, false)
		removed += n
		budget -= cost
	}
	return removed
}

// PurgeProvisional drops provisional entries whose Expires is not after now, by the caller's own clock, and
// returns how many. It looks only at shards that hold any.
func (s *Set) PurgeProvisional(now identity.Instant) (removed int) {
	for i := range s.parts {
		p := s.parts[i].Load()
		if p == nil {
			continue
		}
		for j := range p.shards {
			n, _ := p.purge(s, j, now, true)
			removed += n
		}
	}
	return removed
}

// purge drops what has expired from one shard and returns how much, and what that cost of the budget.
func (p *part) purge(s *Set, i int, now identity.Instant, provisionalOnly bool) (removed, cost int) {
	if p.tables[i].Load() == nil {
		return 0, 0
	}
	sh := &p.shards[i]
	sh.mu.Lock()
	defer sh.mu.Unlock()

	t := p.tables[i].Load()
	if t == nil || now < sh.oldest || (provisionalOnly && sh.provisional == 0) {
		return 0, 0
	}
	sh.oldest = math.MaxInt64
	for number := range sh.written {
		c := t.at(number)
		switch m := c.load(); {
		case !m.taken():
		case m.expires() > now || (provisionalOnly && m.final()):
			sh.oldest = min(sh.oldest, m.expires())
		default:
			sh.remove(c, m)
			removed++
		}
	}
	cost = sh.written
	switch {
	case sh.dead == sh.written:
		sh.begin(0)
		p.publish(uint64(i), nil)
	case sh.dead*deadDivisor > sh.written:
		p.publish(uint64(i), sh.rebuilt(t, s.seed))
		cost *= rebuildPrice
	}
	// Counted down after nobody can find them any more; see add.
	s.live.Add(-int64(removed))
	return removed, cost
}
