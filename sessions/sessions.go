// Package sessions remembers which sessions this node has started, so that somebody can ask for them.
//
// A session lives in its token, and nothing is written when one is minted: no token is good or bad because of what is
// in here. An Index is a memory for people who look: those who want to see what an agent is doing right now, or what
// a suspended user had running. It is bounded, and forgets a session when its token has ended. What is lost with the
// process, or for want of room, it does not pretend to know: Stats says how much that is.
//
// It is filled at every mint, a few hundred thousand times a second on a large machine, and read by people. So to add
// costs one short lock of one of four shards and no allocation once the index is warm, and what many sessions
// have in common is kept once. Reading may cost more, but never holds a lock for longer than some hundred records
// take, as somebody is minting meanwhile.
//
// There is no clock in here. The time is that of the session which is added, or the caller's.
package sessions

import "github.com/deputy-id/deputy/identity"

// shardCount spreads the mints of many cores over as many locks. To add takes a twentieth of the time that it takes to
// sign, so that 64 cores which do nothing but mint find one of four locks taken one time in three, for less than a
// microsecond; and what sessions have in common is kept once in each shard, so that more of them cost memory.
const shardCount = 4

// MinBytes is the least that an Index can be bounded to: a shard must hold a session of the largest kind, and then some.
const MinBytes = 1 << 20

// DefaultBytes holds some 1.5 million sessions of agents that run on their own, and half a million that each act for
// another person with a reason of its own.
const DefaultBytes = 256 << 20

// Index holds the sessions that one node has started and that have not ended. All methods are safe for concurrent use.
// An Index must be made by NewIndex and not copied.
type Index struct{ shards [shardCount]shard }

// NewIndex returns an empty index that takes about that many bytes at most; fewer than MinBytes count as MinBytes.
// Memory is taken as sessions come.
func NewIndex(bytes int) *Index {
	x := new(Index)
	for i := range x.shards {
		x.shards[i].init(max(bytes, MinBytes) / shardCount)
	}
	return x
}

// Add remembers a session. The handles are all that its token rests on; key is the handle of the key that signed it,
// which is in no token. Nothing that is passed is kept, but for copies of its texts. A session that is there already
// stays as it is.
//
// Where there is no room, those that end soonest in the same shard make some, and are counted as dropped.
func (x *Index) Add(s *identity.Session, handles []identity.Handle, key identity.Handle) {
	var space [1 << 10]byte // usual shapes have half of it; a longer one is moved to the heap
	var d draft
	if shape, ok := d.prepare(s, handles, key, space[:0]); ok {
		d.shape = shape
		x.shard(d.id).add(&d)
	}
}

// shard is that of an id: by its last bits, which are random.
func (x *Index) shard(i id) *shard { return &x.shards[i.lo%shardCount] }

// Get returns a session that has not ended at now.
func (x *Index) Get(sessionID string, now identity.Instant) (Entry, bool) {
	i, ok := parseID(identity.PrefixSession, sessionID)
	if !ok {
		return Entry{}, false
	}
	return x.shard(i).entry(i, now)
}

// Purge forgets the sessions that have ended at now. Adding does the same a little at a time; this is for a node that
// mints no more.
func (x *Index) Purge(now identity.Instant) {
	for i := range x.shards {
		for x.shards[i].purge(now) {
		}
	}
}

// Stats are the state of an Index.
type Stats struct {
	Sessions int
	Bytes    int // at most
	// Dropped is how many sessions had to make room, of which some may not have ended: until DroppedUntil the index
	// lacks them. Both are zero where none of those that made room can be alive.
	Dropped      int
	DroppedUntil identity.Instant
	// DroppedEver counts all that ever made room.
	DroppedEver uint64
}

// Stats returns the state at now.
func (x *Index) Stats(now identity.Instant) Stats {
	var all Stats
	for i := range x.shards {
		s := x.shards[i].stats(now)
		all.Sessions += s.Sessions
		all.Bytes += s.Bytes
		all.Dropped += s.Dropped
		all.DroppedUntil = max(all.DroppedUntil, s.DroppedUntil)
		all.DroppedEver += s.DroppedEver
	}
	return all
}

// Entry is one session as it is told to others.
type Entry struct {
	ID            string            `json:"id"`
	Node          string            `json:"node,omitempty"` // that started it; for whoever gathers from many
	Chain         []string          `json:"chain"`          // agents, oldest first; the last one acts
	Principal     string            `json:"principal"`      // "" for an autonomous run
	Scopes        identity.Scopes   `json:"scopes"`         //
	Audience      []string          `json:"audience"`       //
	Delegation    string            `json:"delegation"`     // "" for an autonomous run
	Parent        string            `json:"parent"`         // the session that it is a hop of, or ""
	TriggerReason string            `json:"trigger_reason"` //
	Started       identity.Instant  `json:"started"`        // as its id says
	Expires       identity.Instant  `json:"expires"`        // as its token says
	Handles       []identity.Handle `json:"handles"`        // all that it rests on, its own first, the signing key's as well
}

// Agent is the one that acts.
func (e *Entry) Agent() string {
	if len(e.Chain) == 0 {
		return "" // of no session in an Index, but an Entry may come from elsewhere
	}
	return e.Chain[len(e.Chain)-1]
}
