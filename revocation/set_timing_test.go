package revocation_test

import (
	"fmt"
	"runtime"
	"testing"

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

// BenchmarkRevoked asks for the six handles of a good token: the answer is no, so all six are looked up.
func BenchmarkRevoked(b *testing.B) {
	for _, n := range []int{0, 1_000, 1_000_000} {
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

// BenchmarkMemory reports what an entry costs on the heap, by the shape of its handle.
func BenchmarkMemory(b *testing.B) {
	for name, handle := range map[string]func(i int) identity.Handle{
		"session": func(i int) identity.Handle { return id(identity.PrefixSession, i) },
		"agent":   func(i int) identity.Handle { return tokenHandles(i)[2] },
		"user":    func(i int) identity.Handle { return tokenHandles(i)[3] },
	} {
		for _, n := range []int{700_000, 1_000_000, 1_200_000} {
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
