package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxTargets = 64
	// maxQueued and maxQueuedBytes bound what one target may have waiting: with all targets down, 64 MiB.
	maxQueued      = 256
	maxQueuedBytes = 1 << 20
	// giveUpAfter is for deliveries that don't say how long they are of use, maxKept for those that say too much.
	giveUpAfter = time.Hour
	maxKept     = 24 * time.Hour
)

// Errors of Enqueue.
var (
	// ErrQueueFull means that the target has too much waiting. Nothing that waits is dropped to make room: what was
	// accepted first is what a receiver should hear of first.
	ErrQueueFull = errors.New("too many deliveries wait for this webhook")
	// ErrUnknownTarget means that no such target is configured.
	ErrUnknownTarget = errors.New("no webhook of this id is configured")
)

// Sender makes one attempt: a Client.
type Sender interface {
	Deliver(ctx context.Context, t Target, d Delivery) error
	CheckURL(url string) error
}

// WebhooksOptions are what Webhooks needs. Sender is required.
type WebhooksOptions struct {
	Sender     Sender
	Clock      func() time.Time                        // nil: time.Now
	Jitter     func(below time.Duration) time.Duration // a random duration in [0, below); nil: math/rand
	Logger     *slog.Logger                            // nil: slog.Default
	Registerer prometheus.Registerer                   // nil: no metrics
}

// Webhooks delivers events to configured targets, each from a queue of its own, so that a target which is down delays
// no other. A delivery is repeated until the target answers with a status of 2xx, at first after 2 seconds, then 4, up
// to 5 minutes, or later if the target asks for that with Retry-After (10 minutes at most); until its time is over; or
// until the target answers 410, which means that it wants no more of it.
//
// Queues are in memory and end with the process: deliveries are best effort, at least once, and in no order where one
// had to be repeated. Who needs more keeps a cursor of its own and calls Client.Deliver.
//
// Webhooks is safe for concurrent use.
type Webhooks struct {
	sender  Sender
	clock   func() time.Time
	jitter  func(time.Duration) time.Duration
	logger  *slog.Logger
	metrics *webhookMetrics

	mu      sync.Mutex
	hooks   map[string]*hook
	queued  int             // in all hooks
	ctx     context.Context // of the workers; nil while Run does not run
	stopped bool
	group   sync.WaitGroup
}

// hook is one target with its queue. It is guarded by the lock of Webhooks, and one goroutine sends for it.
type hook struct {
	target    Target
	queue     []*queued
	bytes     int
	notBefore time.Time // the target as a whole is left alone until then
	failures  int       // attempts since the last that was delivered
	err       error     // of the last attempt, if that failed
	delivered time.Time // the last time
	wake      chan struct{}
	stop      context.CancelFunc // nil while no goroutine sends
}

// queued is a delivery that waits, or is under way.
type queued struct {
	Delivery
	added    time.Time
	due      time.Time
	attempts int
}

// NewWebhooks makes Webhooks without targets. Nothing is sent before Run.
func NewWebhooks(o WebhooksOptions) (*Webhooks, error) {
	if o.Sender == nil {
		return nil, errors.New("webhooks need a sender")
	}
	w := &Webhooks{sender: o.Sender, clock: o.Clock, jitter: o.Jitter, logger: o.Logger, hooks: make(map[string]*hook)}
	if w.clock == nil {
		w.clock = time.Now
	}
	if w.jitter == nil {
		w.jitter = randomBelow
	}
	if w.logger == nil {
		w.logger = slog.Default()
	}
	w.logger = w.logger.With("component", "webhooks")
	w.metrics = newWebhookMetrics(func() float64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return float64(w.queued)
	})
	if err := w.metrics.register(o.Registerer); err != nil {
		return nil, err
	}
	return w, nil
}

// Configure says which targets there are, at most 64. Those that stay keep their queues, also with another URL or
// secret; what waits for those that go is dropped. An error says what is wrong with one, and then nothing has changed.
func (w *Webhooks) Configure(targets []Target) error {
	if len(targets) > maxTargets {
		return fmt.Errorf("%d webhooks: at most %d may be configured", len(targets), maxTargets)
	}
	wanted := make(map[string]Target, len(targets))
	for _, t := range targets {
		if err := checkTarget(t, w.sender.CheckURL); err != nil {
			return err
		}
		if _, twice := wanted[t.ID]; twice {
			return fmt.Errorf("webhook %s is configured twice", t.ID)
		}
		t.Secrets = append([]Secret(nil), t.Secrets...)
		wanted[t.ID] = t
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, h := range w.hooks {
		if _, stays := wanted[id]; !stays {
			w.drop(h)
		}
	}
	for id, t := range wanted {
		h := w.hooks[id]
		if h == nil {
			h = &hook{wake: make(chan struct{}, 1)}
			w.hooks[id] = h
		}
		if h.target.URL != t.URL { // what was wrong with the old one says nothing of the new one
			h.notBefore, h.failures, h.err = time.Time{}, 0, nil
			for _, q := range h.queue {
				q.due = q.added
			}
		}
		h.target = t
		h.nudge()
		w.begin(h)
	}
	return nil
}

// drop takes a target away. The lock is held.
func (w *Webhooks) drop(h *hook) {
	delete(w.hooks, h.target.ID)
	w.queued -= len(h.queue)
	w.metrics.results(resultDropped, len(h.queue))
	h.queue, h.bytes = nil, 0
	if h.stop != nil {
		h.stop()
	}
}

// Enqueue has a delivery sent to a target. It does not wait. Errors: ErrUnknownTarget, ErrQueueFull, ErrStopped, or what
// is wrong with the delivery.
func (w *Webhooks) Enqueue(target string, d Delivery) error {
	if err := checkDeliveryID(d.ID); err != nil {
		return err
	}
	if len(d.Body) > maxQueuedBytes {
		return &Error{Kind: KindTooLarge, Detail: fmt.Sprintf("a queued delivery has at most %d bytes", maxQueuedBytes)}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return ErrStopped
	}
	h := w.hooks[target]
	if h == nil {
		return ErrUnknownTarget
	}
	now := w.clock()
	h.queue = w.withoutExpired(h, now)
	if len(h.queue) >= maxQueued || h.bytes+len(d.Body) > maxQueuedBytes {
		w.metrics.results(resultRefused, 1)
		return ErrQueueFull
	}
	if d.NotAfter.IsZero() {
		d.NotAfter = now.Add(giveUpAfter)
	} else if latest := now.Add(maxKept); d.NotAfter.After(latest) {
		d.NotAfter = latest
	}
	d.Body = bytes.Clone(d.Body)
	h.queue = append(h.queue, &queued{Delivery: d, added: now, due: now})
	h.bytes += len(d.Body)
	w.queued++
	h.nudge()
	return nil
}

// Run sends until the context ends, and returns nil when nothing is under way any more. What waits then is lost. It is
// called once.
func (w *Webhooks) Run(ctx context.Context) error {
	w.mu.Lock()
	w.ctx = ctx
	for _, h := range w.hooks {
		w.begin(h)
	}
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	w.stopped = true
	lost := w.queued
	w.mu.Unlock()
	w.group.Wait()
	if lost > 0 {
		w.logger.Warn("stopped with deliveries of webhooks unsent", "lost", lost)
	}
	w.metrics.unregister()
	return nil
}

// begin starts the goroutine that sends for a target, once Run runs. The lock is held.
func (w *Webhooks) begin(h *hook) {
	if w.ctx == nil || w.stopped || h.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.ctx)
	h.stop = cancel
	w.group.Go(func() {
		defer cancel()
		w.send(ctx, h)
	})
}

func (h *hook) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// TargetStatus is what an operator may want to know of one target.
type TargetStatus struct {
	ID          string
	Queued      int
	Oldest      time.Time // when the oldest that waits was queued; zero: none waits
	Failures    int       // attempts since the last that was delivered
	Err         error     // of the last attempt, if that failed
	DeliveredAt time.Time // the last time; zero: never
}

// Status describes every target, in no order.
func (w *Webhooks) Status() []TargetStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]TargetStatus, 0, len(w.hooks))
	for id, h := range w.hooks {
		s := TargetStatus{ID: id, Queued: len(h.queue), Failures: h.failures, Err: h.err, DeliveredAt: h.delivered}
		for _, q := range h.queue {
			if s.Oldest.IsZero() || q.added.Before(s.Oldest) {
				s.Oldest = q.added
			}
		}
		all = append(all, s)
	}
	return all
}
