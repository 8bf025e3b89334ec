package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxiedDenyNodes are five that lose datagrams, each by dice of its own with a fixed seed.
func proxiedDenyNodes(b *testing.B, percent int, change ...func(*Options)) []*denyNode {
	b.Helper()
	key := gossipKeyFor(b)
	var nodes []*denyNode
	for i := range 5 {
		nodes = append(nodes, newProxiedDenyNode(b, fmt.Sprintf("n%d", i+1), key, change...))
	}
	run(b, nodes...)
	for i, n := range nodes {
		n.proxy.lose(percent, uint64(i+1))
	}
	return nodes
}

// lastHeard is how long after said the payload was at the last of the nodes.
func lastHeard(nodes []*denyNode, payload string, said time.Time) (time.Duration, bool) {
	var last time.Duration
	for _, n := range nodes {
		at, ok := n.ear.when(payload)
		if !ok {
			return 0, false
		}
		last = max(last, at.Sub(said))
	}
	return last, true
}

// reach says 1,000 denies, one every interval, each again after repeats, and reports when the last node heard of
// each and how many never reached it.
func reach(b *testing.B, nodes []*denyNode, interval time.Duration, repeats ...time.Duration) {
	const messages = 1000
	for b.Loop() {
		said := make(map[string]time.Time, messages)
		type utterance struct {
			at      time.Time
			payload []byte
		}
		var plan []utterance
		start := time.Now()
		for i := range messages {
			payload := paddedDeny(fmt.Sprintf("%s %d at %d", b.Name(), i, start.UnixNano()))
			at := start.Add(time.Duration(i) * interval)
			said[string(payload)] = at
			plan = append(plan, utterance{at, payload})
			for _, after := range repeats {
				plan = append(plan, utterance{at.Add(after), payload})
			}
		}
		slices.SortStableFunc(plan, func(x, y utterance) int { return x.at.Compare(y.at) })
		for _, u := range plan {
			if wait := time.Until(u.at); wait > 0 {
				<-time.After(wait)
			} else if len(repeats) == 0 {
				said[string(u.payload)] = time.Now() // late by the machine's fault
			}
			require.NoError(b, nodes[0].Deny(u.payload))
		}
		var took []time.Duration
		complete := func() bool {
			took = took[:0]
			for payload, at := range said {
				if last, ok := lastHeard(nodes[1:], payload, at); ok {
					took = append(took, last)
				}
			}
			return len(took) == messages
		}
		deadline := time.Now().Add(10 * time.Second)
		for !complete() && time.Now().Before(deadline) {
			<-time.After(50 * time.Millisecond)
		}
		p50, p99, worst := percentile(took, 50), percentile(took, 99), percentile(took, 100)
		b.ReportMetric(float64(p50.Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
		b.ReportMetric(float64(messages-len(took)), "missed")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkDenyReach is the time from Deny to OnDeny at the last of five nodes in this process, 1,000 messages
// of the largest size. Run it with -benchtime 1x.
func BenchmarkDenyReach(b *testing.B) {
	b.Run("spaced", func(b *testing.B) {
		nodes := fiveDenyNodes(b, calmTuning)
		run(b, nodes...)
		reach(b, nodes, 20*time.Millisecond)
	})
	b.Run("burst", func(b *testing.B) {
		nodes := fiveDenyNodes(b, calmTuning)
		run(b, nodes...)
		reach(b, nodes, 0)
	})
	b.Run("lossy", func(b *testing.B) {
		reach(b, proxiedDenyNodes(b, 20, calmTuning), 20*time.Millisecond)
	})
	b.Run("lossy-repeated", func(b *testing.B) {
		reach(b, proxiedDenyNodes(b, 20, calmTuning), 20*time.Millisecond, 100*time.Millisecond, 400*time.Millisecond)
	})
}

// BenchmarkDenyFlood is a stop of 100,000 handles as one node says it: 3,600 messages at once.
func BenchmarkDenyFlood(b *testing.B) {
	const messages = 3600
	nodes := fiveDenyNodes(b, calmTuning)
	run(b, nodes...)
	round := 0
	for b.Loop() {
		round++
		before := make([]int, len(nodes))
		for i, n := range nodes {
			before[i] = n.ear.len()
		}
		start := time.Now()
		for i := range messages {
			require.NoError(b, nodes[0].Deny(paddedDeny(fmt.Sprintf("%d of round %d", i, round))))
		}
		queued := time.Since(start)
		progress, since := 0, time.Now()
		for { // until nothing more comes
			total := 0
			for i, n := range nodes[1:] {
				total += n.ear.len() - before[i+1]
			}
			if total > progress {
				progress, since = total, time.Now()
			}
			if progress == 4*messages || time.Since(since) > time.Second {
				break
			}
			<-time.After(time.Millisecond)
		}
		b.ReportMetric(float64(queued.Milliseconds()), "queued-ms")
		b.ReportMetric(float64(since.Sub(start).Milliseconds()), "all-heard-ms")
		b.ReportMetric(100*float64(4*messages-progress)/float64(4*messages), "%missed")
		b.ReportMetric(0, "ns/op")
	}
	<-time.After(time.Second) // the last copies
	lost, dropped := 0, 0
	for _, n := range nodes[1:] {
		lost += (1+3)*messages*round - n.events(b, denyReceived)
		dropped += n.overflowed(b, denyQueueIn) + n.overflowed(b, denyQueueRelay)
	}
	b.ReportMetric(100*float64(lost)/float64(16*messages*round), "%datagrams-lost")
	b.ReportMetric(float64(dropped), "overflowed")
}
