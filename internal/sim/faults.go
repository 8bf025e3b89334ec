package sim

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// faults does one thing after the other to the cluster, and several at once, until the time is over.
func (l *lab) faults() {
	l.load.Go(func() {
		for l.sleep(l.random.between(50*time.Millisecond, l.tuning.pace)) {
			fault := l.anyFault()
			l.load.Go(fault)
		}
	})
}

func (l *lab) anyFault() func() {
	faults := []func(){
		l.isolate, l.isolate, l.deafen, l.deafen, l.split, l.muddle, l.muddle,
		l.crash, l.crash, l.pause, l.pause, l.suspend, l.stallDisk, l.transfer, l.transfer, l.snapshot, l.misclock, l.ambush, l.ambush,
	}
	switch {
	case l.random.chance(0.02):
		return l.powerCut
	case l.random.chance(0.06):
		return l.join
	case l.random.chance(0.06):
		return l.remove
	}
	return pick(l.random, faults)
}

func routes(from, to []string) (all []route) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				all = append(all, route{a, b})
			}
		}
	}
	return all
}

// aside splits the machines into one and the others.
func (l *lab) aside() (one *machine, others []string) {
	machines := l.machines()
	one = pick(l.random, machines)
	for _, m := range machines {
		if m != one {
			others = append(others, m.id)
		}
	}
	return one, others
}

func (l *lab) isolate() {
	one, others := l.aside()
	l.cutFor(l.random.between(200*time.Millisecond, 4*time.Second), "isolated", []string{one.id},
		append(routes([]string{one.id}, others), routes(others, []string{one.id})...))
}

// deafen cuts one direction only: a node that hears and is not heard, or the other way round.
func (l *lab) deafen() {
	one, others := l.aside()
	if l.random.chance(0.5) {
		l.cutFor(l.random.between(200*time.Millisecond, 4*time.Second), "deaf", []string{one.id}, routes(others, []string{one.id}))
		return
	}
	l.cutFor(l.random.between(200*time.Millisecond, 4*time.Second), "mute", []string{one.id}, routes([]string{one.id}, others))
}

// split cuts the cluster in two; the smaller part counts as cut off where it has no majority for certain.
func (l *lab) split() {
	all := ids(l.machines())
	l.random.mu.Lock()
	l.random.die.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	l.random.mu.Unlock()
	at := 1 + l.random.intN(len(all)/2)
	few, many := all[:at], all[at:]
	l.cutFor(l.random.between(200*time.Millisecond, 4*time.Second), "split off", few,
		append(routes(few, many), routes(many, few)...))
}

// cutFor cuts some directions for a while. Those in few must then fall silent, unless they might be the majority.
func (l *lab) cutFor(d time.Duration, how string, few []string, cut []route) {
	l.mu.Lock()
	judged := l.membership == 0 && 2*len(few) < l.tuning.nodes-len(l.gone)
	if judged {
		l.membership++ // no change of the configuration begins while a majority is counted
	}
	bound := l.longest + l.longest/50 + time.Millisecond // drift
	l.mu.Unlock()
	l.history.add("%v %s for %s (judged %t)", few, how, d, judged)
	l.net.cut(cut...)
	if judged {
		for _, id := range few {
			l.ledger.cut(id, bound)
		}
	}
	l.sleep(d)
	if judged {
		for _, id := range few {
			l.ledger.mend(id)
		}
		l.mu.Lock()
		l.membership--
		l.mu.Unlock()
	}
	l.net.mend(cut...)
	l.history.add("%v no longer %s", few, how)
}

// muddle makes one node's messages slow, lost, repeated and out of order.
func (l *lab) muddle() {
	one, others := l.aside()
	w := weather{
		loss: pick(l.random, []float64{0, 0.1, 0.4}), duplicate: pick(l.random, []float64{0, 0.1}),
		least: pick(l.random, []time.Duration{0, 200 * time.Millisecond}),
		most:  l.random.between(5*time.Millisecond, 900*time.Millisecond),
	}
	both := routes(others, []string{one.id})
	if l.random.chance(0.5) {
		both = append(both, routes([]string{one.id}, others)...)
	}
	l.history.add("messages of %s fare like %+v (both ways %t)", one.id, w, len(both) > len(others))
	l.net.spoil(w, both...)
	l.sleep(l.random.between(300*time.Millisecond, 5*time.Second))
	l.net.clear(both...)
	l.history.add("messages of %s fare well", one.id)
}

// ambush is the worst that can be done to a lease. A node's last question is answered late, and the node has applied
// the tick that it was answered with; after that nothing reaches it, neither the log nor a fence. What was revoked
// in between it knows nothing of, and all that silences it is that it counts its lease from the question.
func (l *lab) ambush() {
	one, others := l.aside()
	late, well := l.random.between(300*time.Millisecond, 800*time.Millisecond), fair()
	to, from := routes(others, []string{one.id}), routes([]string{one.id}, others)
	l.history.add("what %s is told takes %s", one.id, late)
	l.net.spoil(weather{least: late, most: late, raft: &well}, to...)
	defer l.net.clear(to...)
	l.sleep(late + l.random.between(200*time.Millisecond, 500*time.Millisecond))
	l.history.add("%s is mute", one.id)
	l.net.cut(from...)
	defer l.net.mend(from...)
	const tick = 200 * time.Millisecond // that the leader gathers for, commits and replicates
	l.sleep(tick)
	l.history.add("%s gets nothing of the log", one.id)
	l.net.spoil(weather{least: late, most: late, raft: &weather{loss: 1}}, to...)
	l.load.Go(l.stop)
	l.sleep(late)
	l.cutFor(l.random.between(1500*time.Millisecond, 2500*time.Millisecond), "deaf as well", []string{one.id}, to)
	l.history.add("%s hears and is heard", one.id)
}

func (l *lab) crash() {
	m := pick(l.random, l.machines())
	n := m.running()
	if n == nil || !n.endOnce() {
		return
	}
	l.history.add("%s crashed", m.id)
	l.sleep(l.random.between(20*time.Millisecond, 3*time.Second))
	l.restart(m)
}

// powerCut crashes all nodes at once.
func (l *lab) powerCut() {
	var down []*machine
	for _, m := range l.machines() {
		if n := m.running(); n != nil && n.endOnce() {
			down = append(down, m)
		}
	}
	l.history.add("%v crashed, all at once", ids(down))
	l.sleep(l.random.between(20*time.Millisecond, time.Second))
	for _, m := range down {
		l.restart(m)
	}
}

func (l *lab) restart(m *machine) {
	if _, err := l.start(m); err != nil {
		l.ledger.broken("kept: %s does not start again: %v", m.id, err)
		return
	}
	l.history.add("%s started again", m.id)
}

// pause is SIGSTOP: what the node says and hears waits. Its clocks go on.
func (l *lab) pause() {
	m := pick(l.random, l.machines())
	l.history.add("%s is stopped", m.id)
	l.net.hold(m.id)
	l.sleep(l.random.between(100*time.Millisecond, 4*time.Second))
	l.net.release(m.id)
	l.history.add("%s goes on", m.id)
}

// suspend is a machine that sleeps: no code of it sees any time between.
func (l *lab) suspend() {
	m := pick(l.random, l.machines())
	l.history.add("%s is suspended", m.id)
	l.net.hold(m.id)
	m.clock.suspend()
	l.sleep(l.random.between(100*time.Millisecond, 4*time.Second))
	m.clock.resume()
	l.net.release(m.id)
	l.history.add("%s wakes", m.id)
}

func (l *lab) stallDisk() {
	m := pick(l.random, l.machines())
	l.history.add("the disk of %s is slow", m.id)
	l.setSlow(m.id, true)
	l.sleep(l.random.between(200*time.Millisecond, 3*time.Second))
	l.setSlow(m.id, false)
	l.history.add("the disk of %s is fast", m.id)
}

func (l *lab) setSlow(id string, slow bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slow {
		l.slow[id] = true
		return
	}
	delete(l.slow, id)
}

func (l *lab) transfer() {
	n := l.leader()
	if n == nil {
		return
	}
	l.history.add("%s is to hand over", n.id)
	if err := n.raft.LeadershipTransfer().Error(); err != nil {
		l.history.add("%s did not hand over: %v", n.id, err)
	}
}

func (l *lab) snapshot() {
	if n := pick(l.random, l.machines()).running(); n != nil {
		l.history.add("%s takes a snapshot", n.id)
		_ = n.raft.Snapshot().Error() // there may be nothing new, or the node may have ended
	}
}

// misclock puts a wall clock wrong for a while, by little or by much; one at a time, since a majority that is wrong
// in the same way is right.
func (l *lab) misclock() {
	if !l.misclocking.CompareAndSwap(false, true) {
		return
	}
	defer l.misclocking.Store(false)
	m := pick(l.random, l.machines())
	skew := pick(l.random, []time.Duration{
		-time.Hour, -10 * time.Second, -2500 * time.Millisecond, -1500 * time.Millisecond,
		1500 * time.Millisecond, 2500 * time.Millisecond, 10 * time.Second, time.Hour,
	})
	l.history.add("the clock of %s is wrong by %s", m.id, skew)
	before := m.clock.setSkew(skew)
	l.sleep(l.random.between(500*time.Millisecond, 4*time.Second))
	m.clock.setSkew(before)
	l.history.add("the clock of %s is right", m.id)
}

// changing reports whether a change of the configuration may begin, which then lasts until the returned function
// is called.
func (l *lab) changing() (end func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.membership > 0 {
		return nil, false
	}
	l.membership++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.membership--
	}, true
}

// maxMachines bounds the machines of a schedule.
const maxMachines = 7

// join adds a node without a vote.
func (l *lab) join() {
	end, ok := l.changing()
	if !ok {
		return
	}
	defer end()
	all := l.machines()
	if len(all) >= maxMachines {
		return
	}
	m, err := l.newMachine("n" + string(rune('1'+len(all))))
	if err != nil {
		l.ledger.broken("making %s: %v", m.id, err)
		return
	}
	l.history.add("%s wants to join", m.id)
	for _, body := range l.admission(m.id, false) {
		if _, ok := l.try(body, false); !ok {
			return
		}
	}
	// The node is up before it is in the configuration, as with a real join.
	l.add(m)
	l.restart(m)
	l.load.Go(func() { l.probe(m) })
	for began := time.Now(); time.Since(began) < joinWait; time.Sleep(100 * time.Millisecond) { // also when the faults are over
		if n := l.leader(); n != nil {
			if n.raft.AddNonvoter(raft.ServerID(m.id), raft.ServerAddress(m.id), 0, time.Second).Error() == nil {
				l.history.add("%s is in the configuration", m.id)
				return
			}
		}
	}
}

// joinWait bounds the wait for a place in the configuration; it takes a leader, and so outlasts the faults.
const joinWait = 40 * time.Second

// remove takes a node out as server.clusterAdmin.RemoveMember does.
func (l *lab) remove() {
	end, ok := l.changing()
	if !ok {
		return
	}
	defer end()
	m := pick(l.random, l.members())
	voters := 0
	for _, other := range l.members() {
		if l.votes(other.id) {
			voters++
		}
	}
	if l.votes(m.id) && voters <= 3 { // what is left must bear a fault
		return
	}
	l.mu.Lock()
	l.gone[m.id] = true
	l.mu.Unlock()
	l.history.add("%s is to be removed", m.id)
	for l.over.Err() == nil && !l.removeBy(l.leader(), m.id) {
		l.sleep(100 * time.Millisecond)
	}
	l.sleep(l.random.between(0, 3*time.Second)) // it runs on and is asked, before somebody takes it away
	if n := m.running(); n != nil && l.removed(m.id) && n.endOnce() {
		l.history.add("%s is taken away", m.id)
	}
}

// votes reports whether a machine was one of the first voters; nobody else gets a vote in here.
func (l *lab) votes(id string) bool {
	for i, m := range l.machines() {
		if m.id == id {
			return i < l.tuning.nodes
		}
	}
	return false
}

func (l *lab) removed(id string) bool {
	return slices.ContainsFunc(l.machines(), func(m *machine) bool {
		n := m.running()
		if n == nil {
			return false
		}
		member, ok := n.fsm.View().Member(id)
		return ok && !member.Removed.IsZero()
	})
}
