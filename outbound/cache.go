package outbound

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// MaxStale is how old a document may be that is served because its source can't be reached. Being unreachable
	// makes no key less true, and a node that forgot them would turn every outage of an issuer into one of its own.
	// The risk is a key that its owner withdraws during the outage, or a thief of a key who can cut this node off from
	// the owner: a day is what such a key gains at most.
	MaxStale = 24 * time.Hour
	// maxWait is how long a caller waits for a fetch: less than a request to this node may take, and long enough for
	// a healthy source on another continent. The fetch goes on without the caller.
	maxWait = 3 * time.Second
	// maxDocuments bounds what is kept; with answers of 64 KiB that is some 16 MiB and what is parsed from them.
	maxDocuments = 256
	// maxWaiting callers wait for one document, and maxWaitingAll for all. The rest is told to come again: each holds
	// a request of this node open, and one source that hangs must not hold them all.
	maxWaiting    = 64
	maxWaitingAll = 256
	// maxFetches go on at the same time.
	maxFetches = 16
	// askAgain is how often a document may be asked for because a key in it was unknown. Whoever may present a key id
	// can otherwise have this node send requests at will.
	askAgain = 30 * time.Second
	// minBackoff and maxBackoff bound the wait after a failure; it doubles from one to the other.
	minBackoff = 2 * time.Second
	maxBackoff = 5 * time.Minute
	// idleAfter is how long a document is kept that nobody asks for.
	idleAfter = 24 * time.Hour
	// maxNap bounds the sleep between two looks for what is due, so that a machine which was suspended finds out.
	maxNap = time.Minute
)

// Errors that say nothing about the source.
var (
	// ErrBusy means that too many callers wait already.
	ErrBusy = errors.New("too many requests wait for the answer of this source; try again in a few seconds")
	// ErrFull means that too many sources are in use, all of them just now.
	ErrFull = errors.New("too many sources of keys are in use at this node at the same time; try again in a minute")
	// ErrStopped means that this node is stopping.
	ErrStopped = errors.New("this node is stopping")
	// ErrUnchanged means that the source has been asked a moment ago and had nothing newer.
	ErrUnchanged = errors.New("the source was asked less than 30 seconds ago and had nothing newer")
)

// Document is what a source answered, raw and parsed. Both are shared: don't change them.
type Document[T any] struct {
	Value     T
	Raw       []byte
	URL       string
	FetchedAt time.Time // when it was asked for
	Stale     bool      // it is served past its time, as its source can't be reached

	serial uint64 // counts answers, so that a newer one is known also within one tick of the clock
}

// cache keeps documents by a key, which is a URL or leads to one.
type cache[V any] struct {
	load    func(ctx context.Context, key string) (Document[V], time.Duration, error)
	clock   func() time.Time
	jitter  func(time.Duration) time.Duration
	logger  *slog.Logger
	fetches *prometheus.CounterVec // by outcome

	ctx   context.Context // of fetches, which outlive the caller that began them
	stop  context.CancelFunc
	slots chan struct{}
	wake  chan struct{} // something new may be due
	group sync.WaitGroup

	mu      sync.Mutex
	entries map[string]*entry[V]
	waiting int
	serial  uint64
	stopped bool
}

// entry is what is known of one document. It is guarded by the cache's lock.
type entry[V any] struct {
	key      string
	doc      Document[V] // the last good one; serial 0: none yet
	fresh    time.Duration
	due      time.Time // when to ask next
	began    time.Time // when it was last asked for
	asked    time.Time // when a caller last wanted it
	failures int       // since the last good one
	err      error     // of the last fetch, if that failed
	flight   chan struct{}
	waiting  int
}

func newCache[V any](o cacheOptions, load func(context.Context, string) (Document[V], time.Duration, error)) *cache[V] {
	c := &cache[V]{
		load: load, clock: o.clock, jitter: o.jitter, logger: o.logger, fetches: o.fetches,
		slots: make(chan struct{}, maxFetches), wake: make(chan struct{}, 1), entries: make(map[string]*entry[V]),
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

type cacheOptions struct {
	clock   func() time.Time
	jitter  func(time.Duration) time.Duration
	logger  *slog.Logger
	fetches *prometheus.CounterVec
}

// get returns the document, if need be after waiting for it until the deadline.
func (c *cache[V]) get(ctx context.Context, key string, deadline time.Time) (Document[V], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	e, err := c.entry(key, now)
	if err != nil {
		return Document[V]{}, err
	}
	due := passed(now, e.due)
	switch {
	case e.usable(now) && (e.failures > 0 || age(now, e.doc.FetchedAt) < e.fresh):
		if due {
			c.start(e, now) // for the next caller
		}
		return e.answer(now), nil
	case e.failures > 0 && !due && e.flight == nil:
		return Document[V]{}, e.err
	}
	c.start(e, now)
	if err := c.await(ctx, e, deadline); err != nil && !e.usable(c.clock()) {
		return Document[V]{}, err
	}
	return e.answer(c.clock()), nil
}

// newer returns a document that came after the one of that serial, if the source has one.
func (c *cache[V]) newer(ctx context.Context, key string, serial uint64, deadline time.Time) (Document[V], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	e, err := c.entry(key, now)
	if err != nil {
		return Document[V]{}, err
	}
	if e.usable(now) && e.doc.serial > serial {
		return e.answer(now), nil
	}
	if e.flight == nil {
		if e.failures > 0 && !passed(now, e.due) {
			return Document[V]{}, e.err
		}
		if e.failures == 0 && !e.began.IsZero() && now.Sub(e.began) < askAgain {
			return Document[V]{}, ErrUnchanged
		}
	}
	c.start(e, now)
	if err := c.await(ctx, e, deadline); err != nil {
		return Document[V]{}, err
	}
	if e.doc.serial <= serial {
		return Document[V]{}, ErrUnchanged // the serial is not one of this cache
	}
	return e.answer(c.clock()), nil
}

// hasten asks for a document again, as far as newer would, without waiting for it.
func (c *cache[V]) hasten(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if e := c.entries[key]; e != nil && e.failures == 0 && now.Sub(e.began) >= askAgain {
		c.start(e, now)
	}
}

// entry finds the place of a document or makes one, and notes that it is wanted.
func (c *cache[V]) entry(key string, now time.Time) (*entry[V], error) {
	e := c.entries[key]
	if e == nil {
		if c.stopped {
			return nil, ErrStopped
		}
		if len(c.entries) >= maxDocuments && !c.evict(now) {
			return nil, ErrFull
		}
		e = &entry[V]{key: key}
		c.entries[key] = e
	}
	e.asked = now
	return e, nil
}

// evict makes room by dropping what has not been wanted for longest. What was asked for a moment ago stays: were it
// to go, its source could be asked again at once, and the order in which callers come would set the rate.
func (c *cache[V]) evict(now time.Time) bool {
	var oldest *entry[V]
	for _, e := range c.entries {
		if e.flight != nil || e.waiting > 0 || now.Sub(e.began) < askAgain {
			continue
		}
		if oldest == nil || e.asked.Before(oldest.asked) {
			oldest = e
		}
	}
	if oldest == nil {
		return false
	}
	delete(c.entries, oldest.key)
	return true
}

// retain drops all documents but those that keep wants.
func (c *cache[V]) retain(keep func(key string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.entries {
		if !keep(key) {
			delete(c.entries, key)
		}
	}
}

// each shows every document there is.
func (c *cache[V]) each(show func(e *entry[V], now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	for _, e := range c.entries {
		show(e, now)
	}
}

// await waits until the fetch that is under way has ended. The lock is held before and after, not meanwhile. Nil means
// that it ended well.
func (c *cache[V]) await(ctx context.Context, e *entry[V], deadline time.Time) error {
	flight := e.flight
	if flight == nil {
		return ErrStopped // nothing was started
	}
	if e.waiting >= maxWaiting || c.waiting >= maxWaitingAll {
		return ErrBusy
	}
	e.waiting++
	c.waiting++
	c.mu.Unlock()
	timer := time.NewTimer(deadline.Sub(c.clock()))
	var err error
	select {
	case <-flight:
	case <-timer.C:
		err = &Error{Kind: KindTimeout, Host: hostOf(e.key), Detail: "it is still being asked; try again in a few seconds"}
	case <-ctx.Done():
		err = ctx.Err()
	}
	timer.Stop()
	c.mu.Lock()
	e.waiting--
	c.waiting--
	if err != nil {
		return err
	}
	return e.err
}

// usable tells whether there is a document that may still be served.
func (e *entry[V]) usable(now time.Time) bool {
	return e.doc.serial > 0 && age(now, e.doc.FetchedAt) <= MaxStale
}

func (e *entry[V]) answer(now time.Time) Document[V] {
	doc := e.doc
	doc.Stale = age(now, doc.FetchedAt) >= e.fresh
	return doc
}

// age is how long ago something was, by the longer of two counts: Go's monotonic clock stands still while a machine is
// suspended, and the wall clock may be set back.
func age(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)), 0)
}

// passed tells whether a time has come, by either count.
func passed(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}
