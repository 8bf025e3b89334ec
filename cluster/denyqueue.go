package cluster

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// denyQueue is what waits to be sent. It is full of the newest: whatever had to give way is repeated by its owner,
// and then stands at the end again.
type denyQueue struct {
	mu    sync.Mutex
	ring  [][]byte
	first int
	count int
	added chan struct{} // holds one token while there may be something to take
}

func newDenyQueue(most int) *denyQueue {
	return &denyQueue{ring: make([][]byte, most), added: make(chan struct{}, 1)}
}

// push never waits. It reports whether the oldest had to give way.
func (q *denyQueue) push(message []byte) (dropped bool) {
	q.mu.Lock()
	if q.count == len(q.ring) {
		q.ring[q.first] = message
		q.first = (q.first + 1) % len(q.ring)
		dropped = true
	} else {
		q.ring[(q.first+q.count)%len(q.ring)] = message
		q.count++
	}
	q.mu.Unlock()
	select {
	case q.added <- struct{}{}:
	default:
	}
	return dropped
}

func (q *denyQueue) pop() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count == 0 {
		return nil, false
	}
	message := q.ring[q.first]
	q.ring[q.first] = nil
	q.first = (q.first + 1) % len(q.ring)
	q.count--
	return message, true
}

// next waits for a message. It returns false once ctx has ended.
func (q *denyQueue) next(ctx context.Context) ([]byte, bool) {
	for ctx.Err() == nil {
		if message, ok := q.pop(); ok {
			return message, true
		}
		select {
		case <-q.added:
		case <-ctx.Done():
		}
	}
	return nil, false
}

func (q *denyQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}

// pace lets so many pass at once after a rest, and then one in every interval. It is for one goroutine.
type pace struct {
	every  time.Duration
	atOnce int
	due    time.Time
}

// wait returns false once ctx has ended.
func (p *pace) wait(ctx context.Context) bool {
	now := time.Now()
	if rested := now.Add(-time.Duration(p.atOnce-1) * p.every); p.due.Before(rested) {
		p.due = rested
	}
	early := p.due.Sub(now)
	p.due = p.due.Add(p.every)
	if early <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(early)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// denyHash tells messages apart.
type denyHash [sha256.Size]byte

// denyMemory remembers which messages were taken. An entry lives as long as its message is of an age to be taken
// again, or until as many others have come, and never more than twice as long or as many: two generations, of
// which the younger grows and the older is dropped whole.
type denyMemory struct {
	mu       sync.Mutex
	most     int           // entries of a generation
	keep     time.Duration // age of a generation
	younger  map[denyHash]struct{}
	older    map[denyHash]struct{}
	youngest time.Time // when younger began
}

func newDenyMemory(most int, keep time.Duration) *denyMemory {
	return &denyMemory{most: most, keep: keep, younger: make(map[denyHash]struct{})}
}

func (m *denyMemory) has(h denyHash) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.younger[h]; ok {
		return true
	}
	_, ok := m.older[h]
	return ok
}

func (m *denyMemory) add(h denyHash, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.younger) >= m.most || now.Sub(m.youngest) > m.keep {
		m.older, m.younger, m.youngest = m.younger, make(map[denyHash]struct{}), now
	}
	m.younger[h] = struct{}{}
}

func (m *denyMemory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.younger) + len(m.older)
}
