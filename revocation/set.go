// Package revocation holds the set of revoked handles that every mint and every introspection asks.
//
// A token lists the handles that it rests on and is dead if and only if one of them is in the set, so the
// set must be exact: it never says yes for a handle that nobody added, and never no for one that somebody
// did. Sets merge by union. Adding is commutative, associative and idempotent, so that the log, a snapshot
// and gossip may bring the same handle in any order and any number of times.
//
// Reads take no lock and write no shared memory: a handful of atomic loads however many cores ask at once.
// Writes are rare and lock one shard of 1,024. DESIGN.md tells how, and what was turned down.
package revocation

import (
	"hash/maphash"
	"iter"
	"sync/atomic"

	"github.com/deputy-id/deputy/identity"
)

// Entry is one revoked handle.
type Entry struct {
	Handle identity.Handle
	// Expires is when no token can carry the handle any more. It is kept to the millisecond between the
	// epoch and the year 10889; times outside are moved to the nearer end.
	Expires identity.Instant
	// Provisional marks a handle that was heard of but is not known to be committed. It counts as revoked
	// like any other, but never enters a snapshot and may be dropped by PurgeProvisional.
	Provisional bool
}

// Set is a sharded, expiring, mergeable set of handles. All methods are safe for concurrent use. A Set must
// be made by NewSet and not copied.
type Set struct {
	seed maphash.Seed
	// live is never less than the number of entries that a reader may rely on, so zero means empty.
	live   atomic.Int64
	_      [56]byte // live is read on every call: keep the purge cursor off its cache line
	cursor atomic.Uint32
	// parts are by the beginnings of handles. Most of what is revoked is sessions, by the ten million; what else a token
	// lists is then looked for among far fewer, which a core's caches hold.
	parts [partCount]atomic.Pointer[part] // nil until the first entry
}

// part is all entries of one beginning.
type part struct {
	// heads are what readers look at first, and nearly always last. They lie beside each other and apart from what writers
	// write: all of them fit into a core's nearest cache.
	heads  [shardCount]head
	tables [shardCount]atomic.Pointer[table] // nil until a shard's first entry
	shards [shardCount]shard
}

// table returns what readers see of the shard that a key belongs to, or nil.
func (s *Set) table(k *key) *table {
	p := s.parts[partOf(k.text)].Load()
	if p == nil {
		return nil
	}
	return p.tables[k.shard()].Load()
}

// part returns the one that a key belongs to, and makes it where there is none.
func (s *Set) part(k *key) *part {
	at := &s.parts[partOf(k.text)]
	if p := at.Load(); p != nil {
		return p
	}
	at.CompareAndSwap(nil, new(part))
	return at.Load()
}

// NewSet returns an empty set. It holds nothing until handles are added, and then some 200 KiB for each beginning that they have.
func NewSet() *Set { return &Set{seed: maphash.MakeSeed()} }

// Revoked reports whether any of the handles is in the set. It allocates nothing for handles of the shapes
// that identity makes; hand it an existing slice where the call goes through an interface.
//
// An entry counts until it is purged, not until its expiry: the caller's clock has no say.
func (s *Set) Revoked(handles ...identity.Handle) bool {
	if s.live.Load() == 0 {
		return false
	}
	// What leaves this loop early is an answer; what goes on has been predicted. So while the processor waits for the line
	// of one handle, it is already at the next, or at what the caller does next.
	for _, h := range handles {
		p := s.parts[partOf(string(h))].Load()
		if p == nil {
			continue
		}
		hash := maphash.String(s.seed, string(h))
		l := p.heads[hash>>(64-shardBits)].line(hash)
		if l != nil && l.may(tagOf(hash)) != 0 && p.holds(hash, h) {
			return true
		}
	}
	return false
}

// holds finds out what a line leaves open.
func (p *part) holds(hash uint64, h identity.Handle) bool {
	k := key{hash: hash, text: string(h)}
	if !p.heads[k.shard()].has(hash) {
		return false
	}
	t := p.tables[k.shard()].Load()
	return t != nil && t.find(&k) != nil
}

// Add puts an entry into the set and reports whether its handle was not there before. Of two entries for one
// handle a final one wins over a provisional one, and else the later expiry.
//
// A handle that is empty or longer than identity.MaxHandleLength is left out: no token can carry it.
func (s *Set) Add(e Entry) (added bool) {
	if e.Handle == "" || len(e.Handle) > identity.MaxHandleLength {
		return false
	}
	k := keyOf(s.seed, e.Handle)
	k.read()
	return s.part(&k).add(&k, newMark(k.kind, e), s)
}

// Expect makes room for some more handles that begin as one does, which spares those who add them to have each index
// built again and again. It is a hint: fewer may come, or more.
func (s *Set) Expect(like identity.Handle, more int) {
	// So many of them that none of the shards is left without.
	if each := more / shardCount; each >= linePlaces {
		k := keyOf(s.seed, like)
		s.part(&k).expect(each+each/16, s.seed)
	}
}

// Merge adds every entry and returns how many handles were not there before.
func (s *Set) Merge(entries iter.Seq[Entry]) (added int) {
	for e := range entries {
		if s.Add(e) {
			added++
		}
	}
	return added
}

// Len returns the number of handles in the set, provisional ones included.
func (s *Set) Len() int { return int(s.live.Load()) }

// Provisional returns the number of entries that are not known to be committed. It visits every shard, so it is
// for a look now and then.
func (s *Set) Provisional() (n int) {
	for sh := range s.shards() {
		sh.mu.Lock()
		n += sh.provisional
		sh.mu.Unlock()
	}
	return n
}

// Lookup returns the entry of a handle.
func (s *Set) Lookup(h identity.Handle) (Entry, bool) {
	k := keyOf(s.seed, h)
	if t := s.table(&k); t != nil {
		if c := t.find(&k); c != nil {
			// Between the two loads the entry may have been purged.
			if m := c.load(); m.taken() {
				return Entry{Handle: h, Expires: m.expires(), Provisional: !m.final()}, true
			}
		}
	}
	return Entry{}, false
}

// Final yields every entry that is not provisional, for snapshots, in no particular order. Everything added
// before the call is yielded unless it is purged meanwhile; what is added during the walk may or may not be.
// The walk holds no lock.
func (s *Set) Final() iter.Seq[Entry] { return s.walk(mark.final) }

// All yields every entry, provisional ones included, as Final does.
func (s *Set) All() iter.Seq[Entry] { return s.walk(func(mark) bool { return true }) }

// Unconfirmed yields the provisional entries, as Final does the others. It looks only at shards that hold any.
func (s *Set) Unconfirmed() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for sh, at := range s.shards() {
			sh.mu.Lock()
			t := at.Load()
			some := t != nil && sh.provisional > 0
			sh.mu.Unlock()
			if some && !t.walk(func(m mark) bool { return !m.final() }, yield) {
				return
			}
		}
	}
}

func (s *Set) walk(wanted func(mark) bool) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, at := range s.shards() {
			if t := at.Load(); t != nil && !t.walk(wanted, yield) {
				return
			}
		}
	}
}

// shards yields every shard, and where readers find its table.
func (s *Set) shards() iter.Seq2[*shard, *atomic.Pointer[table]] {
	return func(yield func(*shard, *atomic.Pointer[table]) bool) {
		for i := range s.parts {
			p := s.parts[i].Load()
			if p == nil {
				continue
			}
			for j := range p.shards {
				if !yield(&p.shards[j], &p.tables[j]) {
					return
				}
			}
		}
	}
}
