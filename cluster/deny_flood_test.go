package cluster

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/racedetector"
)

// timedDelegate notes how long memberlist was kept waiting.
type timedDelegate struct {
	memberlist.Delegate
	times *waits
}

type waits struct {
	mu    sync.Mutex
	times []time.Duration
}

func (d timedDelegate) NotifyMsg(message []byte) {
	start := time.Now()
	d.Delegate.NotifyMsg(message)
	took := time.Since(start)
	d.times.mu.Lock()
	defer d.times.mu.Unlock()
	d.times.times = append(d.times.times, took)
}

func (w *waits) all() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.times)
}

// timed is called before the nodes start.
func timed(nodes ...*denyNode) *waits {
	w := new(waits)
	for _, n := range nodes {
		n.gossip.delegate = timedDelegate{n.gossip.delegate, w}
	}
	return w
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// dead says which node holds which other for dead, "" where none does.
func dead(nodes []*denyNode) string {
	for _, n := range nodes {
		alive := n.gossip.alive()
		for _, m := range nodes {
			if !alive[m.o.NodeID] {
				return m.o.NodeID + " at " + n.o.NodeID
			}
		}
	}
	return ""
}

// These tests are not parallel to others: they measure time and memory.

// One node stops very many things at once, as it would after a compromise.
func TestDenyFlood(t *testing.T) {
	nodes := fiveDenyNodes(t, calmTuning)
	each := flooding(1000)
	heard, died := flood(t, nodes, nodes[:1], each)
	require.Empty(t, died, "taken for dead")
	// Here five nodes share one machine, with the race detector perhaps, and the kernel drops what they don't
	// fetch in time. BenchmarkDenyFlood says what arrives without.
	require.Greater(t, heard, 4*each/2)
}

// Five nodes at once say five times as much as each of them is paced to take, on one machine. It may cost messages,
// and for a while a node that gets no time on the core; it passes.
func TestDenyFloodFromAllSides(t *testing.T) {
	nodes := fiveDenyNodes(t)
	heard, _ := flood(t, nodes, nodes, flooding(200))
	require.NotZero(t, heard)
	eventually(t, func() bool { return dead(nodes) == "" })
}

// flooding is how many denies a flood has of so many: fewer under the race detector, where each costs as much as five.
func flooding(most int) int {
	if racedetector.Enabled {
		return most * 2 / 5
	}
	return most
}

// flood has the origins say so many denies each. It returns how many arrived, and who was taken for dead meanwhile.
func flood(t *testing.T, nodes, origins []*denyNode, each int) (heard int, died string) {
	t.Helper()
	waited := timed(nodes...)
	run(t, nodes...)
	before := liveHeap()
	for i := range each {
		for _, n := range origins {
			require.NoError(t, n.Deny(paddedDeny(fmt.Sprintf("%d of %s", i, n.o.NodeID))))
		}
	}
	received, quiet := 0, time.Now()
	require.Eventually(t, func() bool { // until nothing more comes, of the copies either
		if now := dead(nodes); now != "" {
			died = now
		}
		total, waiting := 0, 0
		for _, n := range nodes {
			total += n.events(t, denyReceived)
			waiting += n.gossip.denials.outbox.len()
		}
		if total > received {
			received, quiet = total, time.Now()
		}
		return waiting == 0 && time.Since(quiet) > time.Second
	}, 2*time.Minute, 10*time.Millisecond)

	for _, n := range origins {
		require.Equal(t, (len(nodes)-1)*each, n.events(t, denySent), "all that was said was sent")
		require.Zero(t, n.overflowed(t, denyQueueOut))
	}
	for _, n := range nodes {
		heard += n.ear.len()
	}
	times := waited.all()
	grown := int64(liveHeap()) - int64(before)
	t.Logf("%d of %d denies arrived; memberlist waited %v at the median, %v at p99, %v at most; the live heap grew by %d KiB",
		heard, (len(nodes)-1)*len(origins)*each, percentile(times, 50), percentile(times, 99), percentile(times, 100), grown/1024)
	// The longest are other goroutines' time on the core; a delegate that waits for its owner would wait for seconds.
	require.Less(t, percentile(times, 99), 20*time.Millisecond)
	// 4,000 payloads in the test's own hands twice, the memories of five nodes, no queue.
	require.Less(t, grown, int64(24<<20))
	return heard, died
}

// An owner that hangs costs messages, not membership.
func TestDenyFloodAtAnOwnerThatHangs(t *testing.T) {
	release := make(chan struct{})
	key := gossipKeyFor(t)
	n1 := newDenyNode(t, "n1", key, calmTuning)
	n2 := newDenyNode(t, "n2", key, calmTuning, func(o *Options) { o.OnDeny = func(string, []byte) { <-release } })
	waited := timed(n2)
	nodes := []*denyNode{n1, n2}
	run(t, nodes...)
	t.Cleanup(func() { close(release) }) // before Stop, which waits for OnDeny

	for i := range denyInbox + 500 {
		require.NoError(t, n1.Deny(paddedDeny(fmt.Sprint(i))))
	}
	require.Eventually(t, func() bool {
		return dead(nodes) != "" || n2.overflowed(t, denyQueueIn) > 100
	}, 2*time.Minute, 10*time.Millisecond)
	require.Len(t, n2.gossip.denials.inbox, denyInbox)
	require.Zero(t, n2.events(t, denyAccepted))
	require.Less(t, percentile(waited.all(), 99), 20*time.Millisecond)
	require.Empty(t, dead(nodes))
}
