package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
)

const (
	// fencePatience is what one request for a fence is given, and fenceDeadline all of them together: an election,
	// and the longest lease that may be out, a few times over.
	fencePatience = 15 * time.Second
	fenceDeadline = time.Minute
	// staleWatch is how long a node is asked that was woken and is still cut off.
	staleWatch = 1500 * time.Millisecond
	askPause   = 20 * time.Millisecond
)

// After an answer said "fenced", no node gives an answer to a request begun later as if the token were good: not
// one that was cut off, nor one that was paused, nor one that was restarted and knows nothing yet.
func TestNobodyAcceptsWhatWasFenced(t *testing.T) {
	w := newNetwork(t)
	f := newFleetOn(t, w, 5)
	f.setLease(t, time.Second)
	trial := &fenceTrial{network: w, fleet: f, dice: dice(t), askers: f.askers(t), application: f.cast(t).application}

	count := promised(t, 10, 200)
	for round := range count {
		trial.round(t, round)
	}
	t.Logf("== fence: %d rounds on 5 nodes, %d strikes, fenced after p50 %s p99 %s longest %s (%d members acknowledged, %d leases ran out); then %s; %d ended by themselves; VIOLATIONS %d",
		count, trial.strikes, trial.took.at(0.5), trial.took.at(0.99), trial.took.at(1), trial.acknowledged, trial.expired, &trial.tally, trial.ended, len(trial.tally.wrong))
	require.Empty(t, trial.tally.wrong)
}

type fenceTrial struct {
	network     *network
	fleet       *fleet
	dice        *rand.Rand
	askers      []*asker
	application client.Credentials

	tally        tally
	took         sample
	strikes      int
	acknowledged int
	expired      int
	ended        int
}

func (x *fenceTrial) round(t *testing.T, round int) {
	t.Helper()
	f := x.fleet
	admin := f.client(t)
	kind := stopKinds[round%len(stopKinds)]
	s := newSubject(t, admin, x.application, kind, fmt.Sprintf("fenced-%d", round), f.nodes[x.dice.IntN(len(f.nodes))].client(t, f.token))
	for _, a := range x.askers {
		requireAccepted(t, a, s) // and remembered: a verified token is cached
	}

	hit := x.hit(t)
	if x.dice.IntN(2) == 0 {
		pass(time.Duration(x.dice.IntN(1500)) * time.Millisecond)
	}
	said, took := x.fence(t, s, hit)
	for _, n := range said.Nodes {
		switch n.State {
		case "fenced":
			x.acknowledged++
		case "lease-expired":
			x.expired++
		}
	}
	x.took.add(took)

	before := len(x.tally.wrong)
	x.askAround(t, s, hit)
	x.recover(t, s, hit)
	x.tally.mu.Lock()
	defer x.tally.mu.Unlock()
	for _, a := range x.tally.wrong[before:] {
		t.Errorf("round %d, %s fenced at index %d after %s: %s", round, kind, said.Index, took, a)
	}
	t.Logf("round %d: %s, %s; fenced after %s", round, kind, describe(f, hit), took.Round(time.Millisecond))
}

// hit strikes one or two of the five nodes: the others are still a quorum.
func (x *fenceTrial) hit(t *testing.T) map[*node]strike {
	t.Helper()
	hit := map[*node]strike{}
	for _, i := range x.dice.Perm(len(x.fleet.nodes))[:1+x.dice.IntN(2)] {
		n, how := x.fleet.nodes[i], strikes[x.dice.IntN(len(strikes))]
		x.network.strike(t, n, how)
		hit[n] = how
		x.strikes++
	}
	return hit
}

// fence says stop at one reachable node after the other until one says that it is fenced.
func (x *fenceTrial) fence(t *testing.T, s *subject, hit map[*node]strike) (stopped, time.Duration) {
	t.Helper()
	var reachable []*asker
	for i, n := range x.fleet.nodes {
		if hit[n].reachable() {
			reachable = append(reachable, x.askers[i])
		}
	}
	began := time.Now()
	for try := x.dice.IntN(len(reachable)); ; try++ {
		ctx, cancel := context.WithTimeout(t.Context(), fencePatience+5*time.Second)
		said, err := s.stop(ctx, reachable[try%len(reachable)], x.fleet.token, fencePatience)
		cancel()
		if err == nil && said.Fenced {
			return said, time.Since(began)
		}
		require.Less(t, time.Since(began), fenceDeadline, "not fenced with %s: %+v %v", describe(x.fleet, hit), said, err)
		pass(askPause)
	}
}

// askAround asks every node that runs, at once. Those that are paused get their questions while they are, and go on
// then; those that are down are started, still cut off, and asked until they must know better.
func (x *fenceTrial) askAround(t *testing.T, s *subject, hit map[*node]strike) {
	t.Helper()
	var asking sync.WaitGroup
	var down, stopped []*node
	for i, n := range x.fleet.nodes {
		switch hit[n] {
		case strikeKill:
			down = append(down, n)
			continue
		case strikePause:
			stopped = append(stopped, n)
		}
		asking.Go(func() { x.tally.ask(t.Context(), s, x.askers[i]) })
	}
	for _, n := range append(down, stopped...) {
		pass(time.Duration(x.dice.IntN(200)) * time.Millisecond)
		x.network.wake(t, n, hit[n])
	}
	for i, n := range x.fleet.nodes {
		if hit[n].reachable() {
			continue
		}
		asking.Go(func() {
			for began := time.Now(); time.Since(began) < staleWatch; pass(askPause) {
				x.tally.ask(t.Context(), s, x.askers[i])
			}
		})
	}
	asking.Wait()
}

// recover ends the faults and goes on asking until every node says a clear no.
func (x *fenceTrial) recover(t *testing.T, s *subject, hit map[*node]strike) {
	t.Helper()
	for n := range hit {
		if x.network.heal(t, n) {
			x.ended++
		}
	}
	for i, n := range x.fleet.nodes {
		eventually(t, readyWait, n.id+" to say a clear no", func() error {
			if !x.tally.ask(t.Context(), s, x.askers[i]) {
				return fmt.Errorf("%s: %v", n.id, n.ready())
			}
			return nil
		})
	}
}

func describe(f *fleet, hit map[*node]strike) string {
	var words []string
	for _, n := range f.nodes {
		if how, ok := hit[n]; ok {
			words = append(words, n.id+" "+string(how))
		}
	}
	return strings.Join(words, ", ")
}
