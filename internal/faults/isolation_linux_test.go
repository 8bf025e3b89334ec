package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A node that is cut off from all others stops minting and validating when its lease has run out; one that is
// restarted while it is cut off does not even begin.
func TestIsolatedNodeFallsSilent(t *testing.T) {
	const lease = time.Second
	w := newNetwork(t)
	f := newFleetOn(t, w, 3)
	f.setLease(t, lease)
	r, application := dice(t), f.cast(t).application
	s := newSubject(t, f.client(t), application, stopAgent, "isolated", f.client(t))

	var silences, recoveries sample
	var stale tally
	late, restarts := 0, 0
	count := promised(t, 10, 100)
	for round := range count {
		victim := f.nodes[r.IntN(len(f.nodes))]
		leads := victim == f.leader(t)
		a := victim.asker(t)
		requireAccepted(t, a, s)

		if round%4 == 3 {
			restarts++
			victim.kill(t)
			cut := time.Now()
			w.set(t, victim, cutOff)
			victim.launch(t)
			for time.Since(cut) < lease+isolationMargin+time.Second {
				for _, question := range s.questions() {
					stale.add(question(within(t, 2*time.Second), a))
				}
				pass(askPause)
			}
			t.Logf("round %d: %s restarted while cut off; so far %s; slowest: %s", round, victim.id, &stale, stale.slow)
		} else {
			_, last := lastWord(t, a, s, lease, func() { w.set(t, victim, cutOff) })
			silences.add(last)
			if last > lease+isolationMargin {
				late++
				t.Errorf("round %d: %s (leader: %t) still spoke %s after it was cut off", round, victim.id, leads, last)
			}
			t.Logf("round %d: %s (leader: %t) gave its last good answer %s after the cut", round, victim.id, leads, last.Round(time.Millisecond))
		}

		began := time.Now()
		w.heal(t, victim)
		victim.waitReady(t)
		recoveries.add(time.Since(began))
	}
	t.Logf("== isolation: lease %s, %d cuts: last good answer after the cut p50 %s p99 %s longest %s, LATE %d; %d restarts while cut off: %s; speaks again after p50 %s longest %s",
		lease, len(silences.all), silences.at(0.5), silences.at(0.99), silences.at(1), late, restarts, &stale, recoveries.at(0.5), recoveries.at(1))
	require.Empty(t, stale.wrong)
}
