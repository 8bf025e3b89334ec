package cluster

import (
	"context"
	"sync"
	"time"
)

// Ticks is the leader's side of leases: it commits ticks, and lets requests that arrive while one is under way
// share the next.
type Ticks struct {
	propose func(ctx context.Context) (index uint64, err error)
	gather  time.Duration

	mu      sync.Mutex
	next    *tickRound // collects requests; nil when none waits
	running bool
}

type tickRound struct {
	done  chan struct{}
	index uint64
	err   error
}

const (
	// tickGather is how long a tick waits for company. It bounds the log's idle growth to a handful of entries
	// a second however many nodes there are.
	tickGather = 100 * time.Millisecond

	// tickTimeout bounds a proposal, so that a stuck one does not hold up the rounds behind it for ever.
	tickTimeout = 5 * time.Second
)

// NewTicks makes the leader's side; propose commits one tick and returns its index.
func NewTicks(propose func(ctx context.Context) (uint64, error)) *Ticks {
	return &Ticks{propose: propose, gather: tickGather}
}

// Commit returns the index of a tick that was proposed after Commit was called.
func (t *Ticks) Commit(ctx context.Context) (uint64, error) {
	t.mu.Lock()
	round := t.next
	if round == nil {
		round = &tickRound{done: make(chan struct{})}
		t.next = round
		if !t.running {
			t.running = true
			go t.run()
		}
	}
	t.mu.Unlock()
	select {
	case <-round.done:
		return round.index, round.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run commits rounds until none waits. A round is closed to newcomers before its tick is proposed.
func (t *Ticks) run() {
	for {
		time.Sleep(t.gather)
		t.mu.Lock()
		round := t.next
		t.next = nil
		if round == nil {
			t.running = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), tickTimeout)
		round.index, round.err = t.propose(ctx)
		cancel()
		close(round.done)
	}
}
