package sessions

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
)

// fleet is a kind of traffic: sessions, one after the other, thirty a millisecond.
type fleet struct {
	name string
	make func(n uint64) *started
}

func fleets() []fleet {
	at := func(n uint64) identity.Instant { return t0 + identity.Instant(n/30) }
	agent := func(n uint64) string { return fmt.Sprintf("agent-%05d", n*7919%10_000) }
	return []fleet{
		{"one agent", func(n uint64) *started { return run(n, at(n), 3600, "support-triage-agent") }},
		{"10,000 agents", func(n uint64) *started { return run(n, at(n), int64(60+n*7919%3600), agent(n)) }},
		{"a principal each", func(n uint64) *started {
			s := run(n, at(n), int64(60+n*7919%3600), agent(n)).behalf(fmt.Sprintf("user-%07d@company.example.com", n))
			s.TriggerReason = fmt.Sprintf("user clicked 'summarize inbox' at %d", n)
			return s
		}},
	}
}

func TestAddAllocatesNothingOnceWarm(t *testing.T) {
	f := fleets()[0]
	x := NewIndex(MinBytes)
	const warm, runs = 20_000, 2000
	for n := range uint64(warm) {
		x.add(f.make(n))
	}
	var made []*started
	for n := range uint64(runs + 1) {
		made = append(made, f.make(warm+n))
	}
	n := 0
	require.Zero(t, testing.AllocsPerRun(runs, func() {
		x.add(made[n])
		n++
	}))
	require.NotZero(t, x.Stats(t0).DroppedEver, "with each that comes another one leaves")
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The bound is one of memory, so what the index counts must not be less than what it takes.
func TestBytesAreNoLessThanMemory(t *testing.T) {
	for _, f := range fleets() {
		t.Run(f.name, func(t *testing.T) {
			n := 60_000
			if racedetector.Enabled { // what is counted is the same
				n = 20_000
			}
			before := heap()
			x := NewIndex(1 << 30)
			for i := range uint64(n) {
				x.add(f.make(i))
			}
			took, stats := heap()-before, x.Stats(t0)
			runtime.KeepAlive(x)
			require.Equal(t, n, stats.Sessions)
			t.Logf("%d bytes a session, counted as %d", took/n, stats.Bytes/n)
			require.LessOrEqual(t, took, stats.Bytes*21/20)
			require.Less(t, stats.Bytes, took*2, "nor much more")
		})
	}
}

// BenchmarkAdd is what a mint pays, with as many sessions in the index as it holds by default: each that comes has
// another one leave.
func BenchmarkAdd(b *testing.B) {
	for _, f := range fleets() {
		b.Run(f.name, func(b *testing.B) {
			x := NewIndex(DefaultBytes)
			n := uint64(0)
			for ; x.Stats(t0).DroppedEver == 0; n++ {
				for range 1000 {
					x.add(f.make(n))
					n++
				}
			}
			b.ReportMetric(float64(x.Stats(t0).Sessions), "sessions")
			made := make([]*started, 1<<16)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i%len(made) == 0 {
					b.StopTimer()
					for j := range made {
						made[j] = f.make(n)
						n++
					}
					b.StartTimer()
				}
				x.add(made[i%len(made)])
			}
		})
	}
}

func BenchmarkAddParallel(b *testing.B) {
	f := fleets()[0]
	x := NewIndex(64 << 20)
	var next atomic.Uint64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		const batch = 1 << 12
		made := make([]*started, 0, batch)
		for pb.Next() {
			if len(made) == 0 {
				for n := range uint64(batch) {
					made = append(made, f.make(next.Load()+n))
				}
				next.Add(batch)
			}
			x.add(made[len(made)-1])
			made = made[:len(made)-1]
		}
	})
}

// BenchmarkList is what a look costs.
func BenchmarkList(b *testing.B) {
	x := NewIndex(1 << 30)
	f := fleets()[2]
	for n := range uint64(500_000) {
		x.add(f.make(n))
		if n%2 == 0 {
			x.add(fleets()[0].make(1<<40 + n))
		}
	}
	middle := x.List(Query{Limit: 1, Now: t0, After: newID(identity.PrefixSession, t0+8000, 0)}).Sessions[0].ID
	for name, q := range map[string]Query{
		"all": {Limit: 100}, "all, 1000 a page": {Limit: 1000}, "from the middle": {Limit: 100, After: middle},
		"one agent of many": {Limit: 100, Agent: "agent-00007"}, "a busy agent from the middle": {Limit: 100, Agent: "support-triage-agent", After: middle},
		"a principal": {Limit: 100, Principal: "user-0000007@company.example.com"},
	} {
		q.Now = t0
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if len(x.List(q).Sessions) == 0 {
					b.Fatal("nothing found")
				}
			}
		})
	}
}
