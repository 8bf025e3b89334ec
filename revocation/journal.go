package revocation

import (
	"slices"
	"sync"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of a Journal. Whoever follows it and is further behind than this begins again with the whole set.
const (
	// MaxJournalEntries bounds the handles in the changes that are kept: some 8 MB, and seconds of the largest flood.
	MaxJournalEntries = 1 << 16
	// maxJournalChanges bounds the changes themselves, of which many have one handle.
	maxJournalChanges = 1 << 15
	// provisionalNews is by how much the life of a provisional entry must grow for that to be told again. It is below
	// the time between two repetitions of a deny, and above that between the copies of one that arrive by several ways.
	provisionalNews = 5 * time.Second
)

// ChangeKind says what happened to a set.
type ChangeKind uint8

// The kinds of changes.
const (
	Denied    ChangeKind = iota // entries came, provisional or final, ahead of the log
	Committed                   // the log brought entries, at Index
	Purged                      // the log had what expired by Before forgotten, at Index
)

// Change is one entry of a Journal. Its Entries are shared and must not be modified.
type Change struct {
	Kind    ChangeKind
	Index   uint64
	Entries []Entry
	Before  identity.Instant
}

// Position is how far a set has come by the log.
type Position struct {
	Applied uint64 // everything that was committed up to here is in the set
	Last    uint64 // index of the latest Committed change up to there
	Purged  identity.Instant
}

// Journal keeps the latest changes of a set in the order in which they were made, for those who follow it without
// asking about every handle. An entry is in the set before it is in the journal: who takes a cursor first and then
// walks the set misses nothing.
//
// What it keeps is bounded, and nobody who writes to it ever waits for anybody who reads. All methods are safe for
// concurrent use. The log may be applied without anybody following: what it calls does nothing on a nil Journal.
type Journal struct {
	set *Set

	mu       sync.RWMutex // a writer that waits for it lets no more readers in, so that it waits for a microsecond
	changes  []Change
	first    uint64 // number of changes[0]
	entries  int    // in changes
	since    uint64 // every change by the log after this index is in changes
	position Position
	more     chan struct{} // closed with the next change; nil while nobody waits
}

// NewJournal begins the journal of a set that is empty.
func NewJournal(set *Set) *Journal { return &Journal{set: set} }

// Set is the set that the journal is about.
func (j *Journal) Set() *Set { return j.set }

// Deny adds entries to the set ahead of the log and writes down those that are news: not there before, final where
// they were not, or provisional for a good deal longer. It returns how many handles were not there before.
func (j *Journal) Deny(entries ...Entry) (added int) {
	var news []Entry
	for _, e := range entries {
		old, known := j.set.Lookup(e.Handle)
		if j.set.Add(e) {
			added++
			known = false // it may have been purged since
		}
		switch {
		case e.Handle == "" || len(e.Handle) > identity.MaxHandleLength: // the set does not take it either
		case !known, old.Provisional && !e.Provisional, old.Provisional && newsStep(e.Expires) > newsStep(old.Expires):
			news = append(news, e)
		}
	}
	if len(news) > 0 {
		j.write(Change{Kind: Denied, Entries: news})
	}
	return added
}

// newsStep counts the multiples of provisionalNews before an expiry: what grows in small steps crosses one in the end, too.
func newsStep(expires identity.Instant) int64 { return int64(expires) / provisionalNews.Milliseconds() }

// Commit writes down what the log has brought at an index. The entries must be in the set already, and are the
// journal's from here on.
func (j *Journal) Commit(index uint64, entries []Entry) {
	j.write(Change{Kind: Committed, Index: index, Entries: entries})
}

// Purge writes down that the log has had the set forget what expired by a time. The set must have done so.
func (j *Journal) Purge(index uint64, before identity.Instant) {
	j.write(Change{Kind: Purged, Index: index, Before: before})
}

// Reach says that the log has been applied up to an index, and that all it brought until there is written down.
func (j *Journal) Reach(index uint64) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.position.Applied = max(j.position.Applied, index)
}

// Reset says that the set was brought to an index at once, by a snapshot of the log: what led there is not known
// change by change. Who has followed until now has to begin again.
func (j *Journal) Reset(index uint64) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.first += uint64(len(j.changes)) + 1 // so that no cursor of before is a good one
	j.changes, j.entries = nil, 0
	j.since = max(j.since, index)
	j.position.Applied, j.position.Last = max(j.position.Applied, index), max(j.position.Last, index)
	j.wake()
}

func (j *Journal) write(c Change) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch c.Kind {
	case Committed:
		j.position.Last = max(j.position.Last, c.Index)
	case Purged:
		j.position.Purged = max(j.position.Purged, c.Before)
	}
	j.position.Applied = max(j.position.Applied, c.Index) // the log is applied in order
	j.changes = append(j.changes, c)
	j.entries += len(c.Entries)
	for len(j.changes) > maxJournalChanges || (j.entries > MaxJournalEntries && len(j.changes) > 1) {
		j.forget()
	}
	j.wake()
}

// forget drops the oldest change. The caller holds mu.
func (j *Journal) forget() {
	old := j.changes[0]
	j.changes[0] = Change{} // the array lives on until append moves to another
	j.changes = j.changes[1:]
	j.first++
	j.entries -= len(old.Entries)
	j.since = max(j.since, old.Index)
}

// wake has those go on who wait. There may be thousands, for whom whoever applies the log has no time. The caller
// holds mu.
func (j *Journal) wake() {
	if j.more != nil {
		go close(j.more)
		j.more = nil
	}
}

// Position is how far the set has come.
func (j *Journal) Position() Position {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.position
}

// Begin returns a cursor behind the latest change, and how far the set has come there. Whoever walks the set after
// this call, and then reads from the cursor, misses nothing.
func (j *Journal) Begin() (cursor uint64, at Position) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.end(), j.position
}

func (j *Journal) end() uint64 { return j.first + uint64(len(j.changes)) }

// Resume returns a cursor for somebody who has all that the log had brought up to an index; false where changes after
// it have been dropped. What was denied ahead of the log before the cursor is for the caller to look up: see
// Set.Unconfirmed.
func (j *Journal) Resume(index uint64) (cursor uint64, ok bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if index < j.since {
		return 0, false
	}
	for i := range j.changes {
		if j.changes[i].Index > index {
			return j.first + uint64(i), true
		}
	}
	return j.end(), true
}

// Read returns up to limit changes from a cursor on. False says that some of them have been dropped.
func (j *Journal) Read(cursor uint64, limit int) (r Reading, ok bool) {
	j.mu.RLock()
	r, ok, done := j.read(cursor, limit)
	j.mu.RUnlock()
	if done {
		return r, ok
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if r, ok, done = j.read(cursor, limit); done {
		return r, ok
	}
	if j.more == nil {
		j.more = make(chan struct{})
	}
	r.Wait = j.more
	return r, true
}

// Reading is what was read of a Journal.
type Reading struct {
	Changes []Change
	Next    uint64          // cursor
	Wait    <-chan struct{} // where there are no changes: closed once there are
	Caught  bool            // there were no more: who has them is At
	At      Position        // how far the set had come
}

func (j *Journal) read(cursor uint64, limit int) (r Reading, ok, done bool) {
	if cursor < j.first || cursor > j.end() {
		return Reading{}, false, true
	}
	from := int(cursor - j.first)
	to := min(len(j.changes), from+limit)
	r = Reading{Changes: slices.Clone(j.changes[from:to]), Next: j.first + uint64(to), Caught: to == len(j.changes), At: j.position}
	if from == to {
		r.Wait = j.more
	}
	return r, true, from < to || j.more != nil
}
