package outbound

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// send is the one goroutine that makes attempts for a target.
func (w *Webhooks) send(ctx context.Context, h *hook) {
	timer := time.NewTimer(maxNap)
	defer timer.Stop()
	for ctx.Err() == nil {
		target, next, wait := w.next(h)
		if next != nil {
			w.settle(ctx, h, next, w.sender.Deliver(ctx, target, next.Delivery))
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-h.wake:
		case <-ctx.Done():
		}
	}
}

// next picks what is due first. It stays in the queue while it is under way, so that it counts.
func (w *Webhooks) next(h *hook) (Target, *queued, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock()
	h.queue = w.withoutExpired(h, now)
	if len(h.queue) == 0 {
		return Target{}, nil, maxNap
	}
	first := slices.MinFunc(h.queue, func(a, b *queued) int { return a.due.Compare(b.due) })
	at := first.due
	if h.notBefore.After(at) {
		at = h.notBefore
	}
	if !passed(now, at) {
		return Target{}, nil, min(max(at.Sub(now), time.Millisecond), maxNap)
	}
	return h.target, first, 0
}

// withoutExpired returns the queue without what nobody cares about any more. The lock is held.
func (w *Webhooks) withoutExpired(h *hook, now time.Time) []*queued {
	return slices.DeleteFunc(h.queue, func(q *queued) bool {
		if now.Before(q.NotAfter) {
			return false
		}
		w.forget(h, q, resultExpired)
		w.logger.Warn("a webhook's delivery was given up", "webhook", h.target.ID, "delivery", q.ID, "attempts", q.attempts, "error", h.err)
		return true
	})
}

// forget counts a delivery as done with. The caller takes it out of the queue.
func (w *Webhooks) forget(h *hook, q *queued, result string) {
	h.bytes -= len(q.Body)
	w.queued--
	w.metrics.results(result, 1)
}

// settle notes what came of an attempt.
func (w *Webhooks) settle(ctx context.Context, h *hook, q *queued, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && ctx.Err() != nil {
		return // interrupted: this node stops, or the target is gone
	}
	w.metrics.attempt(err)
	now := w.clock()
	q.attempts++
	at := slices.Index(h.queue, q) // an expired one is gone already
	if err == nil {
		if h.failures > 0 {
			w.logger.Info("a webhook can be delivered to again", "webhook", h.target.ID, "failures", h.failures)
		}
		h.failures, h.err, h.notBefore, h.delivered = 0, nil, time.Time{}, now
		if at >= 0 {
			h.queue = slices.Delete(h.queue, at, at+1)
			w.forget(h, q, resultDelivered)
		}
		return
	}
	h.failures++
	h.err = err
	if h.failures == 1 {
		w.logger.Warn("a webhook can't be delivered to; trying again", "webhook", h.target.ID, "delivery", q.ID, "error", err)
	}
	var e *Error
	if errors.As(err, &e) && e.Status == http.StatusGone {
		if at >= 0 {
			h.queue = slices.Delete(h.queue, at, at+1)
			w.forget(h, q, resultGone)
		}
		return
	}
	asked := time.Duration(0)
	if e != nil {
		asked = e.RetryAfter
	}
	if e != nil && aboutDelivery(e) {
		// The target is there and does not like this one. Others need not wait for it.
		q.due = now.Add(max(backoff(q.attempts, w.jitter), asked))
		return
	}
	h.notBefore = now.Add(max(backoff(h.failures, w.jitter), asked))
	q.due = h.notBefore
}

// aboutDelivery tells a refusal of one delivery from a target that takes none.
func aboutDelivery(e *Error) bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.Kind == KindStatus && e.Status/100 == 4
}
