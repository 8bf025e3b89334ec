package revocation_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

func filled(n int) *revocation.Set {
	s := revocation.NewSet()
	for i := range n {
		s.Add(revocation.Entry{Handle: id(identity.PrefixSession, -1-i), Expires: now})
	}
	return s
}

// sizes of the sets that are measured; DEPUTY_BENCH_REVOCATIONS adds one, such as 10000000.
func sizes() []int {
	n := []int{0, 1_000, 1_000_000}
	if more, err := strconv.Atoi(os.Getenv("DEPUTY_BENCH_REVOCATIONS")); err == nil {
		n = append(n, more)
	}
	return n
}

// BenchmarkRevoked asks for the six handles of a good token: the answer is no, so all six are looked up.
func BenchmarkRevoked(b *testing.B) {
	for _, n := range sizes() {
		s := filled(n)
		tokens := make([][]identity.Handle, 1<<10)
		for i := range tokens {
			tokens[i] = tokenHandles(i)
		}
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.Revoked(tokens[i%len(tokens)]...) {
					b.Fatal("revoked")
				}
			}
		})
		b.Run(fmt.Sprintf("entries=%d/parallel", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if s.Revoked(tokens[i%len(tokens)]...) {
						b.Error("revoked")
					}
				}
			})
		})
	}
}

// filledOfAll has as many handles of each kind, but for keys.
func filledOfAll(n int) *revocation.Set {
	s := revocation.NewSet()
	for i := range n / 5 {
		for _, h := range tokenHandles(-1 - i)[:5] {
			s.Add(revocation.Entry{Handle: h, Expires: now})
		}
	}
	return s
}

// BenchmarkRevokedCold asks for the six handles of tokens that nobody asked for lately, so that all that a question reads
// of a large set comes from memory. The texts of the handles are read beforehand, 32 tokens at a time, while the clock
// stands still: who asks has just taken them out of a token.
func BenchmarkRevokedCold(b *testing.B) {
	const batch = 32
	tokens := make([][]identity.Handle, 1<<17)
	for i := range tokens {
		tokens[i] = tokenHandles(i)
	}
	run := func(name string, s *revocation.Set) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var spent time.Duration
			read, asked := 0, 0
			for i := 0; b.Loop(); i += batch {
				for j := range batch {
					for _, h := range tokens[(i+j)%len(tokens)] {
						for k := range len(h) {
							read += int(h[k])
						}
					}
				}
				start := time.Now()
				for j := range batch {
					if s.Revoked(tokens[(i+j)%len(tokens)]...) {
						b.Fatal("revoked")
					}
				}
				spent += time.Since(start)
				asked += batch
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(asked), "ns/token")
			if read == 0 {
				b.Fatal("nothing was read")
			}
		})
	}
	for _, n := range sizes()[1:] {
		run(fmt.Sprintf("entries=%d", n), filled(n))
	}
	for _, n := range sizes()[2:] {
		run(fmt.Sprintf("entries=%d/all-kinds", n), filledOfAll(n))
	}
}

// BenchmarkRevokedDuringWrites has one core asking while another adds without pause.
func BenchmarkRevokedDuringWrites(b *testing.B) {
	s := filled(100_000)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				s.Add(revocation.Entry{Handle: id(identity.PrefixDelegation, -1-i%1_000_000), Expires: now})
			}
		}
	}()
	handles := tokenHandles(1)
	b.ReportAllocs()
	for b.Loop() {
		if s.Revoked(handles...) {
			b.Fatal("revoked")
		}
	}
	close(stop)
	<-done
}

func BenchmarkAdd(b *testing.B) {
	s := revocation.NewSet()
	handles := make([]identity.Handle, 1<<20)
	for i := range handles {
		handles[i] = id(identity.PrefixSession, i)
	}
	for i := 0; b.Loop(); i++ {
		s.Add(revocation.Entry{Handle: handles[i%len(handles)], Expires: now})
	}
}

// BenchmarkAddPause reports the longest that an addition took while a set was filled, the collector switched off: what
// one of them may have to build anew before it is done.
func BenchmarkAddPause(b *testing.B) {
	for _, n := range sizes()[2:] {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			var longest, all []time.Duration
			for b.Loop() {
				s := revocation.NewSet()
				var most time.Duration
				all = all[:0]
				for i := range n {
					e := revocation.Entry{Handle: id(identity.PrefixSession, i), Expires: now}
					start := time.Now()
					s.Add(e)
					took := time.Since(start)
					most = max(most, took)
					all = append(all, took)
				}
				longest = append(longest, most)
			}
			slices.Sort(longest)
			slices.Sort(all)
			b.ReportMetric(float64(longest[len(longest)/2].Microseconds()), "µs-longest")
			b.ReportMetric(float64(all[len(all)*9999/10000].Nanoseconds()), "ns-p99.99")
			b.ReportMetric(float64(all[len(all)/2].Nanoseconds()), "ns-median")
		})
	}
}

// BenchmarkMemory reports what an entry costs on the heap, by the shape of its handle.
func BenchmarkMemory(b *testing.B) {
	for name, handle := range map[string]func(i int) identity.Handle{
		"session": func(i int) identity.Handle { return id(identity.PrefixSession, i) },
		"agent":   func(i int) identity.Handle { return tokenHandles(i)[2] },
		"user":    func(i int) identity.Handle { return tokenHandles(i)[3] },
	} {
		for _, n := range append([]int{700_000, 1_200_000}, sizes()[2:]...) {
			b.Run(fmt.Sprintf("%s/entries=%d", name, n), func(b *testing.B) {
				var perEntry float64
				for b.Loop() {
					var before, after runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&before)
					s := revocation.NewSet()
					for i := range n {
						s.Add(revocation.Entry{Handle: handle(i), Expires: now})
					}
					runtime.GC()
					runtime.ReadMemStats(&after)
					perEntry = float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
					runtime.KeepAlive(s)
				}
				b.ReportMetric(perEntry, "bytes/entry")
			})
		}
	}
}

// BenchmarkPurge makes one bounded step through up to a million entries. In each sweep of four steps a
// thousandth of them has expired, as a purge each minute or so finds them.
func BenchmarkPurge(b *testing.B) {
	const sweeps, stepsPerSweep = 1000, 4
	var s *revocation.Set
	for i := 0; b.Loop(); i++ {
		step := i % (sweeps * stepsPerSweep / 2) // the set never gets smaller than by half
		if step == 0 {
			b.StopTimer()
			s = revocation.NewSet()
			for j := range 1_000_000 {
				s.Add(revocation.Entry{Handle: id(identity.PrefixSession, j), Expires: now + identity.Instant(j%sweeps)})
			}
			b.StartTimer()
		}
		s.Purge(now + identity.Instant(step/stepsPerSweep))
	}
}
