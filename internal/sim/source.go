package sim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// source is a seeded die that goroutines may share.
type source struct {
	mu  sync.Mutex
	die *rand.Rand
}

func newSource(seed, stream uint64) *source {
	return &source{die: rand.New(rand.NewPCG(seed, stream))}
}

// intN returns a number from 0 to n-1.
func (s *source) intN(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.die.IntN(n)
}

// chance is true once in 1/p.
func (s *source) chance(p float64) bool {
	if p <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.die.Float64() < p
}

// between returns a duration from least up to most.
func (s *source) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return least + time.Duration(s.die.Int64N(int64(most-least)))
}

// around returns a number from -most to most.
func (s *source) around(most float64) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (2*s.die.Float64() - 1) * most
}

func (s *source) bytes(to []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range to {
		to[i] = byte(s.die.Uint32())
	}
}

// pick returns one of the items, which must not be empty.
func pick[T any](s *source, items []T) T { return items[s.intN(len(items))] }
