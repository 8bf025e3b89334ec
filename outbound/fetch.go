package outbound

import (
	"context"
	"errors"
	"net/url"
	"time"
)

// run asks for each document again before its time is over, until the context ends. It returns when no fetch is under
// way any more.
func (c *cache[V]) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(c.round())
		select {
		case <-timer.C:
		case <-c.wake:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.stop()
	c.group.Wait()
}

// round starts what is due, drops what nobody wants, and says when to look again.
func (c *cache[V]) round() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, nap := c.clock(), maxNap
	for key, e := range c.entries {
		switch {
		case e.flight != nil:
		case age(now, e.asked) > idleAfter:
			delete(c.entries, key)
		case passed(now, e.due):
			c.start(e, now)
		default:
			nap = min(nap, e.due.Sub(now))
		}
	}
	return max(nap, time.Millisecond)
}

// start has a document fetched, unless that goes on already. The lock is held.
func (c *cache[V]) start(e *entry[V], now time.Time) {
	if e.flight != nil || c.stopped {
		return
	}
	e.flight, e.began = make(chan struct{}), now
	c.group.Go(func() { c.fetch(e) })
}

func (c *cache[V]) fetch(e *entry[V]) {
	var (
		doc   Document[V]
		fresh time.Duration
		err   error
	)
	began := c.clock()
	select {
	case c.slots <- struct{}{}:
		began = c.clock() // from before the question was sent, so that the age is never understated
		doc, fresh, err = c.load(c.ctx, e.key)
		<-c.slots
	case <-c.ctx.Done():
		err = ErrStopped
	}
	if c.ctx.Err() != nil {
		err = ErrStopped
	}
	doc.FetchedAt = began
	c.settle(e, doc, fresh, err)
}

// settle notes what came of a fetch and lets those go on who wait for it.
func (c *cache[V]) settle(e *entry[V], doc Document[V], fresh time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.flight)
	e.flight, e.err = nil, err
	defer func() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}()
	if errors.Is(err, ErrStopped) {
		return
	}
	if err != nil {
		c.fetches.WithLabelValues(string(kindOf(err))).Inc()
		e.failures++
		wait := c.backoff(e.failures)
		if refused := new(Error); errors.As(err, &refused) {
			wait = max(wait, min(refused.RetryAfter, maxBackoff))
		}
		e.due = c.clock().Add(wait)
		if e.failures == 1 {
			c.logger.Warn("keys can't be fetched; trying again", "host", hostOf(e.key), "error", err, "kept", e.doc.serial > 0)
		}
		return
	}
	c.fetches.WithLabelValues(outcomeOK).Inc()
	if e.failures > 0 {
		c.logger.Info("keys can be fetched again", "host", hostOf(e.key), "failures", e.failures)
	}
	c.serial++
	doc.serial = c.serial
	e.doc, e.fresh, e.failures = doc, fresh, 0
	// At 70 to 80 % of its time, so that a few attempts fit in before it is over, and not in step with other nodes.
	e.due = doc.FetchedAt.Add(fresh*8/10 - c.jitter(fresh/10))
}

// backoff is the wait after so many failures: it doubles, and half of it is left to chance, so that nodes which lost a
// source together don't come back together.
func (c *cache[V]) backoff(failures int) time.Duration { return backoff(failures, c.jitter) }

func backoff(failures int, jitter func(time.Duration) time.Duration) time.Duration {
	wait := maxBackoff
	if shift := failures - 1; shift < 16 {
		wait = min(minBackoff<<shift, maxBackoff)
	}
	return wait/2 + jitter(wait/2)
}

// hostOf is what of a URL may be logged.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
