package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
)

// With all nodes healthy a fence is a round trip.
func TestFenceLatency(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", size), func(t *testing.T) {
			w := newNetwork(t)
			f := newFleetOn(t, w, size)
			application, r := f.cast(t).application, dice(t)
			askers := f.askers(t)
			var whole sample
			count := promised(t, 50, 500)
			for i := range count {
				s := newSubject(t, f.client(t), application, stopKinds[i%len(stopKinds)], fmt.Sprintf("fence-%d", i), f.client(t))
				at := askers[r.IntN(size)]
				began := time.Now()
				said, err := s.stop(within(t, requestWait), at, f.token, fencePatience)
				took := time.Since(began)
				require.NoError(t, err)
				require.True(t, said.Fenced, "%+v", said)
				whole.add(took)
			}
			t.Logf("== fence latency: %d nodes, all healthy, %d fences, from request to answer: p50 %s p99 %s longest %s",
				size, count, whole.at(0.5), whole.at(0.99), whole.at(1))
		})
	}
}

// A deny is seen at every node that is connected, soon after the node that was asked has denied; also where packets
// get lost.
func TestDenyLatency(t *testing.T) {
	const size = 5
	w := newNetwork(t)
	f := newFleetOn(t, w, size)
	application, r := f.cast(t).application, dice(t)
	askers := f.askers(t)
	for _, loss := range []int{0, lossPercent} {
		t.Run(fmt.Sprintf("%d percent lost", loss), func(t *testing.T) {
			for _, n := range f.nodes {
				w.set(t, n, weather{loss: loss})
			}
			defer func() {
				for _, n := range f.nodes {
					w.set(t, n, weather{})
				}
			}()
			var fromRequest, fromOrigin sample
			count := promised(t, 50, 300)
			for i := range count {
				s := newSubject(t, f.client(t), application, stopSession, fmt.Sprintf("deny-%d-%d", loss, i), f.client(t))
				origin := r.IntN(size)
				asked, seen := watchDeny(t, f, askers, s, origin)
				for k, at := range seen {
					if k != origin {
						fromRequest.add(at.Sub(asked))
						fromOrigin.add(max(at.Sub(seen[origin]), 0))
					}
				}
			}
			t.Logf("== deny latency: %d nodes, %d %% loss, %d denies at 4 other nodes each: from the local deny p50 %s p99 %s longest %s; from the sending of the request p50 %s p99 %s",
				size, loss, count, fromOrigin.at(0.5), fromOrigin.at(0.99), fromOrigin.at(1), fromRequest.at(0.5), fromRequest.at(0.99))
		})
	}
}

// watchDeny asks every node about a session without pause, ends it at one of them, and returns when it was ended and
// when each node first said that it is dead: the time at which the answer arrived.
func watchDeny(t *testing.T, f *fleet, askers []*asker, s *subject, origin int) (asked time.Time, seen []time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestWait)
	defer cancel()
	seen = make([]time.Time, len(askers))
	var good, watching sync.WaitGroup
	good.Add(len(askers))
	for i, a := range askers {
		watching.Go(func() {
			begun := sync.OnceFunc(good.Done)
			defer begun()
			for ctx.Err() == nil {
				switch got := s.introspect(ctx, a); got.verdict {
				case accepted:
					begun()
				case refused:
					seen[i] = got.ended
					return
				}
				pass(500 * time.Microsecond)
			}
		})
	}
	good.Wait()
	asked = time.Now()
	c, err := client.New(client.Options{Addresses: []string{askers[origin].url}, Token: f.token})
	require.NoError(t, err)
	_, err = c.EndSession(ctx, s.session, "it is a test")
	require.NoError(t, err)
	watching.Wait()
	for i := range seen {
		require.False(t, seen[i].IsZero(), "%s still accepts the token", askers[i].node)
	}
	return asked, seen
}
