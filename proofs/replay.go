package proofs

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"sync"

	"github.com/deputy-id/deputy/identity"
)

const (
	replayShards = 64
	// replayFirst is how many slots a shard begins with.
	replayFirst = 64
	// replaySweep is how long a full shard waits before it looks for expired entries again, in milliseconds: a flood
	// must not make each of its requests walk the whole shard.
	replaySweep = 1000
	// MaxReplayEntries bounds what NewReplay may be asked for: 2^24 entries are about 800 MB.
	MaxReplayEntries = 1 << 24
)

// Replay remembers what may be used once only, until it expires: the `jti` of client assertions and DPoP proofs.
//
// Its limits: it is the memory of one process. What one node has seen, another has not; and after a restart nothing is
// remembered, which NotBefore of the rules makes up for. DPoP proofs that carry a nonce of Nonces can't be used at
// another node at all; an assertion can, once at each, until its exp.
//
// Memory is bounded by the number of entries, of 24 bytes each in tables that are at most three quarters full and
// grow as needed: 32 to 64 bytes an entry. Where a shard of 64 is full of entries that have not expired, nothing new
// is accepted there until some have: better to turn a caller away than to take a replay. All methods are safe for
// concurrent use. A Replay must be made by NewReplay and not copied.
type Replay struct {
	seed   maphash.Seed
	shards [replayShards]replayShard
}

type replayShard struct {
	mu    sync.Mutex
	most  int          // entries
	used  int          // slots that are not empty, expired entries included
	swept int64        // when expired entries were last looked for
	slots []replaySlot // open addressing, a power of two
	_     [8]byte      // one cache line for each lock
}

// replaySlot is empty where until is zero.
type replaySlot struct {
	hi, lo uint64 // half of a SHA-256: nobody finds two of the same, and who did would only turn a caller away
	until  identity.Instant
}

// NewReplay makes a memory for at least that many entries: the number is rounded up to a multiple of 64, and held to
// MaxReplayEntries. It must hold what comes within an assertion's lifetime and skew (5.5 minutes) or a proof's
// window (2 minutes); 10,000 proofs a second are 1,200,000 entries.
func NewReplay(entries int) *Replay {
	r := &Replay{seed: maphash.MakeSeed()}
	entries = min(max(entries, replayShards), MaxReplayEntries)
	for i := range r.shards {
		r.shards[i].most = (entries + replayShards - 1) / replayShards
	}
	return r
}

// ReplayKey makes the key for Seen of a use, of whoever chose the jti, and of the jti.
func ReplayKey(kind, holder, jti string) [sha256.Size]byte {
	var room [512]byte
	b := room[:0]
	for _, part := range [...]string{kind, holder, jti} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}

// Seen remembers the key until that time and reports whether it is fresh: never seen before, and not over yet. Where
// it is not, full tells that it could not be remembered, rather than that it has been seen. A key that is there already
// keeps its time.
func (r *Replay) Seen(key [sha256.Size]byte, until, now identity.Instant) (fresh, full bool) {
	if until <= now || until <= 0 {
		return false, false
	}
	e := replaySlot{binary.BigEndian.Uint64(key[:]), binary.BigEndian.Uint64(key[8:]), until}
	// The hash is seeded so that nobody can choose keys that fall together.
	hash := maphash.Bytes(r.seed, key[:16])
	s := &r.shards[hash%replayShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(e, hash/replayShards, r.seed, now)
}

// Len is the number of entries, some of which may have expired.
func (r *Replay) Len() (n int) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}

// Cap is the number of entries that fit.
func (r *Replay) Cap() int { return replayShards * r.shards[0].most }

func (s *replayShard) add(e replaySlot, hash uint64, seed maphash.Seed, now identity.Instant) (fresh, full bool) {
	place, found := s.find(&e, hash, now)
	if found {
		return false, false
	}
	if place < 0 {
		if !s.makeRoom(seed, now) {
			return false, true
		}
		place, _ = s.find(&e, hash, now)
	}
	if s.slots[place].until == 0 {
		s.used++
	}
	s.slots[place] = e
	return true, false
}

// find looks for an entry that has not expired, and else for the slot to put it: that of an expired entry on the way,
// or the empty one at its end. It returns -1 where there is no room without growing.
func (s *replayShard) find(e *replaySlot, hash uint64, now identity.Instant) (place int, found bool) {
	place = -1
	for i, n := hash, 0; n < len(s.slots); i, n = i+1, n+1 {
		at := int(i & uint64(len(s.slots)-1))
		slot := &s.slots[at]
		switch {
		case slot.until == 0:
			if place < 0 && s.used < s.most && s.used < len(s.slots)/4*3 {
				place = at
			}
			return place, false
		case slot.until <= now:
			if place < 0 {
				place = at
			}
		case slot.hi == e.hi && slot.lo == e.lo:
			return at, true
		}
	}
	return place, false
}

// makeRoom drops expired entries and sizes the table for those that are left and half as many again. It reports
// whether there is room for one more.
func (s *replayShard) makeRoom(seed maphash.Seed, now identity.Instant) bool {
	full := s.used >= s.most
	if full && int64(now) < s.swept+replaySweep && int64(now) >= s.swept {
		return false
	}
	live := 0
	for i := range s.slots {
		if s.slots[i].until > now {
			live++
		}
	}
	if full {
		s.swept = int64(now)
	}
	if live >= s.most {
		return false
	}
	size := replayFirst
	for size/4*3 < min(live+live/2+1, s.most) {
		size *= 2
	}
	old := s.slots
	s.slots, s.used = make([]replaySlot, size), 0
	for i := range old {
		if old[i].until > now {
			s.insert(&old[i], seed)
		}
	}
	return true
}

// insert puts an entry that is not there into a table that has room.
func (s *replayShard) insert(e *replaySlot, seed maphash.Seed) {
	var key [16]byte
	binary.BigEndian.PutUint64(key[:], e.hi)
	binary.BigEndian.PutUint64(key[8:], e.lo)
	i := maphash.Bytes(seed, key[:]) / replayShards
	for s.slots[i&uint64(len(s.slots)-1)].until != 0 {
		i++
	}
	s.slots[i&uint64(len(s.slots)-1)] = *e
	s.used++
}

// once is Seen as an error.
func (r *Replay) once(key [sha256.Size]byte, until, now identity.Instant) error {
	switch fresh, full := r.Seen(key, until, now); {
	case fresh:
		return nil
	case full:
		return refuse(ReasonReplayFull, "this server can't remember more of what it has seen at the moment; try again, or at another node")
	}
	return refuse(ReasonReplayed, `its "jti" has been used; make a new one for each request`)
}
