package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
)

// The promises that every schedule is held to:
//
//	fenced    a request that begins after a fence was reported is answered by no node as if the fenced handles were
//	          good, nor from a state before the fence's index
//	kept      a write that was acknowledged is at every node in the end
//	silent    a node that is cut off from the majority answers nothing once its lease has run out; a node whose
//	          removal was said to be safe answers nothing at all
//	fresh     a cluster that is whole again is fresh within one renewal, and stays so while nothing happens
//	equal     replicas that have applied the same log have the same state, byte for byte
//	final     a committed revocation is in the set of every node that has applied it, while a token could carry it
//	forward   the state of a running node never goes back
//	alive     nobody who is active has a generation that was denied: to stop once is not to stop for ever
type ledger struct {
	history *history

	mu         sync.Mutex
	sequence   uint64 // counts what was promised
	handles    map[identity.Handle]uint64
	state      uint64            // the highest index that was reported to be fenced
	silenced   map[string]uint64 // members whose silence was reported
	cuts       map[string]cutOff
	writes     []write
	committed  []committedHandle
	terms      map[uint64]string
	violations []string

	fences, expired, probes, good int
}

// cutOff is a node that can't reach a majority, or can't be reached by one.
type cutOff struct {
	since time.Time
	bound time.Duration // the longest that it may go on
}

// write is one that was acknowledged.
type write struct {
	index uint64
	what  string
	holds func(n *node) bool // whether it is in a node's state
}

type committedHandle struct {
	handle identity.Handle
	index  uint64
	dead   time.Time // when the last token that carries it has ended
}

func newLedger(h *history) *ledger {
	return &ledger{
		history: h, handles: make(map[identity.Handle]uint64), silenced: make(map[string]uint64),
		cuts: make(map[string]cutOff), terms: make(map[uint64]string),
	}
}

// maxViolations bounds what is told of one schedule: the first says it all.
const maxViolations = 20

// broken notes a broken promise.
func (l *ledger) broken(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.brokenLocked(format, args...)
}

func (l *ledger) brokenLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(l.violations) < maxViolations {
		l.violations = append(l.violations, text)
		l.history.add("BROKEN PROMISE: %s", text)
	}
}

// ticket is what was promised when a request began.
type ticket struct {
	began    time.Time
	sequence uint64
	state    uint64
}

func (l *ledger) begin() ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probes++
	return ticket{began: time.Now(), sequence: l.sequence, state: l.state}
}

// fenced notes that a leader reports a fence.
func (l *ledger) fenced(leader string, index uint64, handles []identity.Handle, report *cluster.FenceReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence++
	l.fences++
	for _, h := range handles {
		l.handles[h] = l.sequence
	}
	l.state = max(l.state, index)
	for _, n := range report.Nodes {
		if n.State == cluster.FenceExpired {
			l.expired++
		}
	}
	l.history.add("%s reports index %d with %v fenced: %s", leader, index, handles, describe(report))
}

func describe(report *cluster.FenceReport) string {
	text := fmt.Sprintf("done %t in %s", report.Done, report.Took.Round(100*time.Microsecond))
	for _, n := range report.Nodes {
		text += fmt.Sprintf(", %s %s after %s", n.ID, n.State, n.After.Round(100*time.Microsecond))
	}
	return text
}

// silence notes that a leader says that a member speaks no more.
func (l *ledger) silence(leader, member string, report *cluster.FenceReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence++
	l.silenced[member] = l.sequence
	l.history.add("%s reports that %s is silent: %s", leader, member, describe(report))
}

// accepted notes an answer as if all were good: a token that was minted, or found active.
func (l *ledger) accepted(what string, n *node, t ticket, index uint64, handles []identity.Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good++
	for _, h := range handles {
		if at, ok := l.handles[h]; ok && at <= t.sequence {
			l.brokenLocked("fenced: %s at %s, begun %s ago, rests on %s, which had been fenced by then", what, n.id, time.Since(t.began), h)
		}
	}
	if index < t.state {
		l.brokenLocked("fenced: %s at %s from the state of index %d, when that of %d had been fenced", what, n.id, index, t.state)
	}
	if at, ok := l.silenced[n.id]; ok && at <= t.sequence {
		l.brokenLocked("silent: %s at %s after it was said to be silent", what, n.id)
	}
	if c, ok := l.cuts[n.id]; ok && t.began.Sub(c.since) > c.bound {
		l.brokenLocked("silent: %s at %s, begun %s after it was cut off; %s are allowed", what, n.id, t.began.Sub(c.since), c.bound)
	}
}

func (l *ledger) cut(id string, bound time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.cuts[id]; !ok {
		l.cuts[id] = cutOff{time.Now(), bound}
	}
}

func (l *ledger) mend(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cuts, id)
}

// acknowledged notes a write of which a client was told that it is committed.
func (l *ledger) acknowledged(w write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, w)
}

// revoked notes handles that are committed.
func (l *ledger) revoked(index uint64, handles []identity.Handle, dead time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range handles {
		l.committed = append(l.committed, committedHandle{h, index, dead})
	}
}

// ledBy counts terms, and holds them to one leader each.
func (l *ledger) ledBy(id string, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, ok := l.terms[term]; ok && other != id {
		l.brokenLocked("equal: %s and %s both led in term %d", other, id, term)
	}
	if _, ok := l.terms[term]; !ok {
		l.history.add("%s leads in term %d", id, term)
	}
	l.terms[term] = id
}

// checkFinal holds a node's set to what is committed.
func (l *ledger) checkFinal(n *node) {
	applied := n.fsm.Applied() // first: the set is ahead of it, never behind
	l.mu.Lock()
	defer l.mu.Unlock()
	if seen := n.seen.Load(); applied < seen {
		l.brokenLocked("forward: the state of %s went back from index %d to %d", n.id, seen, applied)
	}
	n.seen.Store(applied)
	for _, c := range l.committed {
		if c.index <= applied && time.Now().Before(c.dead) && !n.revoked.Revoked(c.handle) {
			l.brokenLocked("final: %s at index %d lacks %s of index %d", n.id, applied, c.handle, c.index)
		}
	}
}

// checkKept holds a node to every acknowledged write.
func (l *ledger) checkKept(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.writes {
		if !w.holds(n) {
			l.brokenLocked("kept: %s lacks %s, which was acknowledged at index %d", n.id, w.what, w.index)
		}
	}
}

// checkAlive holds a node to generations that move on: what was denied never comes back.
func (l *ledger) checkAlive(n *node) {
	view := n.fsm.View()
	for _, name := range agentNames {
		if a, ok := view.Agent(name); ok && a.Status == identity.StatusActive {
			if _, denied := view.Revocation(a.Handle()); denied {
				l.broken("alive: agent %s is active at %s, and its generation is denied", name, n.id)
			}
		}
	}
	for _, id := range principalNames {
		if p, ok := view.Principal(id); ok && p.Status == identity.StatusActive {
			if _, denied := view.Revocation(p.Handle()); denied {
				l.broken("alive: principal %s is active at %s, and their generation is denied", id, n.id)
			}
		}
	}
}
