package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// isolationMargin is what a node may need on top of the lease to fall silent.
const isolationMargin = 250 * time.Millisecond

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
		for _, question := range s.questions() {
			eventually(t, readyWait, victim.id+" to speak", func() error {
				if got := question(within(t, requestWait), a); got.verdict != accepted {
					return fmt.Errorf("%s", got)
				}
				return nil
			})
		}

		if round%4 == 3 {
			restarts++
			victim.kill(t)
			cut := time.Now()
			w.set(t, victim, cutOff)
			victim.launch(t)
			for time.Since(cut) < lease+isolationMargin+time.Second {
				for _, question := range s.questions() {
					stale.add(question(within(t, requestWait), a))
				}
				pass(askPause)
			}
			t.Logf("round %d: %s restarted while cut off; so far %s", round, victim.id, &stale)
		} else {
			last := w.lastWord(t, victim, s, lease)
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
	t.Logf("isolation: lease %s, %d cuts: last good answer after the cut p50 %s p99 %s longest %s, LATE %d; %d restarts while cut off: %s; speaks again after p50 %s longest %s",
		lease, len(silences.all), silences.at(0.5), silences.at(0.99), silences.at(1), late, restarts, &stale, recoveries.at(0.5), recoveries.at(1))
	require.Empty(t, stale.wrong)
}

// lastWord cuts a node off while it is asked without pause, and returns when the last good answer arrived, counted
// from before the cut was made.
func (w *network) lastWord(t *testing.T, victim *node, s *subject, lease time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var last time.Time
	var asking sync.WaitGroup
	for _, question := range s.questions() {
		a := victim.asker(t)
		asking.Go(func() {
			for ctx.Err() == nil {
				if got := question(ctx, a); got.verdict == accepted {
					mu.Lock()
					last = got.ended
					mu.Unlock()
				}
				pass(2 * time.Millisecond)
			}
		})
	}
	pass(50 * time.Millisecond)
	cut := time.Now()
	w.set(t, victim, cutOff)
	for time.Since(cut) < lease+2*isolationMargin {
		pass(askPause)
	}
	cancel()
	asking.Wait()
	require.False(t, last.Before(cut.Add(-time.Second)), "%s was not heard before the cut", victim.id)
	return last.Sub(cut)
}
