package revocation

import (
	"sync"
	"sync/atomic"
)

// Shards bound how much is built anew when a table grows or is purged: at ten million handles one shard
// holds 40,000 in about 1.5 MB.
const (
	shardBits  = 8
	shardCount = 1 << shardBits
)

// shard is the part of the set whose hashes share their top bits. The lock is the writers'; readers load
// the table.
type shard struct {
	table atomic.Pointer[table] // nil until the first entry
	mu    sync.Mutex
	_     [112]byte // two cache lines, so that a writer does not slow the neighbour's readers
}

func (sh *shard) add(k *key, m mark, s *Set) (added bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()

	t := sh.table.Load()
	if t != nil {
		if c := t.find(k); c != nil {
			t.raise(c, m)
			return false
		}
	}
	// Counted before it can be seen, so that the empty-set test never hides an entry.
	s.live.Add(1)
	switch {
	case t == nil:
		t = newTable(0, len(k.text))
		t.insert(k, m)
		sh.table.Store(t)
	case !t.hasRoom(k):
		t = t.rebuilt(s.seed, len(k.text))
		t.insert(k, m)
		sh.table.Store(t)
	default:
		t.insert(k, m)
	}
	return true
}
