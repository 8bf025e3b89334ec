package sim

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/deputy-id/deputy/fsm"
)

// Outcome is what one schedule showed.
type Outcome struct {
	Seed       uint64
	Violations []string
	history    *history

	Fences  int // reported
	Expired int // of their members, those that were not heard of in time
	Probes  int // requests to mint or to find a token active
	Good    int // of those, the ones answered as if all were well
	Leaders int
	Virtual time.Duration
}

// Run plays the schedule of one seed. It must run in a bubble of internal/virtualtime, and returns when nothing of the
// cluster runs any more but what is about to end.
func Run(seed uint64) *Outcome {
	l := newLab(seed)
	l.play()
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	return &Outcome{
		Seed: seed, Violations: l.ledger.violations, history: l.history,
		Fences: l.ledger.fences, Expired: l.ledger.expired, Probes: l.ledger.probes, Good: l.ledger.good,
		Leaders: len(l.ledger.terms), Virtual: l.history.elapsed(),
	}
}

func (l *lab) play() {
	defer l.tearDown()
	if err := l.setUp(); err != nil {
		l.ledger.broken("fresh: a cluster without faults: %v", err)
		return
	}
	for _, m := range l.machines() {
		l.load.Go(func() { l.probe(m) })
	}
	l.load.Go(l.stopper)
	l.load.Go(l.stopper)
	l.load.Go(l.clerk)
	l.load.Go(l.watch)
	l.faults()
	time.Sleep(l.tuning.duration)
	l.finish() // faults undo what they did
	l.load.Wait()
	l.history.add("the faults are over")
	if !l.checkFresh() {
		return // who does not follow lacks the rest as well
	}
	if l.tuning.patient {
		l.wait()
	}
	l.checkEqual()
	for _, m := range l.members() {
		if n := m.running(); n != nil {
			l.ledger.checkKept(n)
			l.ledger.checkFinal(n)
			l.ledger.checkAlive(n)
			l.probeAll(n)
		}
	}
}

const (
	// leaderWait bounds the election after the last fault: some rounds of it, and requests that were sent into the
	// void before.
	leaderWait = 15 * time.Second
	// idleFor is how long a cluster in which nothing happens is watched.
	idleFor = 2 * time.Second
	// renewalSlack is what a round takes beside the interval: the leader gathers requests, and messages travel.
	renewalSlack = 500 * time.Millisecond
)

// checkFresh: once there is a leader that all follow, every member is fresh within one renewal, and stays so.
func (l *lab) checkFresh() bool {
	deadline := time.Now().Add(leaderWait)
	for !l.settled() {
		if time.Now().After(deadline) {
			l.ledger.broken("fresh: no leader that all follow %s after the last fault: %s", leaderWait, l.standing())
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.history.add("all follow one leader")
	l.mu.Lock()
	renewal := min(time.Second, l.longest/5)
	l.mu.Unlock()
	time.Sleep(mostRaftWait) // what was sent into the void is given up
	time.Sleep(renewal + renewalSlack)
	for began := time.Now(); time.Since(began) < idleFor; time.Sleep(20 * time.Millisecond) {
		for _, m := range l.members() {
			n := m.running()
			if err := n.lease.Check(); err != nil {
				l.ledger.broken("fresh: %s %s after all is well: %v (%+v)", n.id, time.Since(began)+renewal+renewalSlack, err, n.lease.State())
				return false
			}
		}
	}
	return true
}

// standing tells how far each node is.
func (l *lab) standing() string {
	var text []string
	for _, m := range l.machines() {
		n := m.running()
		if n == nil {
			text = append(text, m.id+" is down")
			continue
		}
		_, followed := n.raft.LeaderWithID()
		text = append(text, fmt.Sprintf("%s is %s of %q in term %d, has applied %d of %d committed and %d in its log, member %t",
			m.id, n.raft.State(), followed, n.raft.CurrentTerm(), n.fsm.Applied(), n.raft.CommitIndex(), n.raft.LastIndex(), n.isMember(m.id)))
	}
	return strings.Join(text, "; ")
}

// settled reports whether every member follows one leader that has applied all that came before it, and is in the
// configuration.
func (l *lab) settled() bool {
	leader := l.leader()
	if leader == nil {
		return false
	}
	for _, m := range l.members() {
		n := m.running()
		if n == nil {
			return false
		}
		if _, followed := n.raft.LeaderWithID(); string(followed) != leader.id {
			return false
		}
		if !n.isMember(n.id) || n.fsm.Applied() < leader.fsm.Applied() {
			return false
		}
	}
	return true
}

// wait lets minutes pass, in which the entries of the revocations expire and are purged.
func (l *lab) wait() {
	for range 20 {
		time.Sleep(10 * time.Second)
		if n := l.leader(); n != nil {
			_, _ = n.commit(n.port.ctx, fsm.Purge{})
		}
		for _, m := range l.members() {
			if n := m.running(); n != nil {
				l.ledger.checkFinal(n)
				l.probeAll(n)
			}
		}
	}
}

// checkEqual: replicas that have applied the same are the same. Leases are renewed all the time, so the check waits
// for a moment in which all have come equally far.
func (l *lab) checkEqual() {
	const tries = 2000
	for range tries {
		time.Sleep(3 * time.Millisecond)
		if l.sameIndex() {
			l.compare()
			return
		}
	}
	l.ledger.broken("equal: the members do not come to the same index")
}

func (l *lab) sameIndex() bool {
	var index uint64
	for _, m := range l.members() {
		n := m.running()
		if n == nil {
			return false
		}
		if index == 0 {
			index = n.fsm.Applied()
		}
		if n.fsm.Applied() != index {
			return false
		}
	}
	return true
}

func (l *lab) compare() {
	var first []byte
	var whose string
	for _, m := range l.members() {
		content, err := m.running().content()
		if err != nil {
			l.ledger.broken("equal: the state of %s: %v", m.id, err)
			return
		}
		if first == nil {
			first, whose = content, m.id
		}
		if !bytes.Equal(first, content) {
			l.ledger.broken("equal: %s and %s have applied the same and differ (%d and %d bytes)", whose, m.id, len(first), len(content))
			return
		}
	}
}

// probeAll asks once more about every token.
func (l *lab) probeAll(n *node) {
	l.pool.mu.Lock()
	all := l.pool.tokens
	l.pool.mu.Unlock()
	for _, t := range all {
		n.introspect(t)
	}
}

// tearDown ends every process.
func (l *lab) tearDown() {
	l.finish()
	for _, m := range l.machines() {
		if n := m.running(); n != nil {
			n.endOnce()
		}
	}
	l.net.close()
	l.load.Wait()
	time.Sleep(drain) // the time of a bubble stands still once this goroutine has ended
}

// drain is longer than anything that a process which has ended still waits for.
const drain = 10 * time.Second

// Summary is one line about an outcome.
func (o *Outcome) Summary() string {
	return fmt.Sprintf("seed %d: %d leaders, %d fences (%d members by their lease's end), %d of %d probes good, %s",
		o.Seed, o.Leaders, o.Fences, o.Expired, o.Good, o.Probes, o.Virtual.Round(time.Millisecond))
}
