package outbound

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// receivers take deliveries in virtual time, where there are no sockets.
type receivers struct {
	mu      sync.Mutex
	answers map[string]func(ctx context.Context, d Delivery) error // by id of the target
	tried   map[string][]attempt
}

type attempt struct {
	id string
	at time.Time
}

func newReceivers() *receivers {
	return &receivers{answers: make(map[string]func(context.Context, Delivery) error), tried: make(map[string][]attempt)}
}

func (r *receivers) CheckURL(url string) error {
	if url == "" {
		return &Error{Kind: KindURL, Detail: "it must begin with https://"}
	}
	return nil
}

func (r *receivers) Deliver(ctx context.Context, t Target, d Delivery) error {
	r.mu.Lock()
	r.tried[t.ID] = append(r.tried[t.ID], attempt{d.ID, time.Now()})
	answer := r.answers[t.ID]
	r.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, d)
}

func (r *receivers) set(target string, answer func(context.Context, Delivery) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[target] = answer
}

func (r *receivers) fail(target string, err error) {
	r.set(target, func(context.Context, Delivery) error { return err })
}

func (r *receivers) attempts(target string) []attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]attempt(nil), r.tried[target]...)
}

func targetOf(id string) Target {
	return Target{ID: id, URL: "https://" + id + ".example/hook", Secrets: []Secret{secretOne}}
}

type hooked struct {
	*Webhooks
	registry *prometheus.Registry
	run      func()
	stop     func()
}

func (h *hooked) ended(t *testing.T, result string) float64 {
	t.Helper()
	return metric(t, h.registry, "deputy_webhook_deliveries_total", result)
}

func webhooksOf(t *testing.T, sender Sender, targets ...Target) *hooked {
	t.Helper()
	registry := prometheus.NewRegistry()
	w, err := NewWebhooks(WebhooksOptions{
		Sender: sender, Logger: slog.New(slog.DiscardHandler), Registerer: registry,
		Jitter: func(n time.Duration) time.Duration { return n },
	})
	require.NoError(t, err)
	require.NoError(t, w.Configure(targets))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h := &hooked{Webhooks: w, registry: registry, run: func() { go func() { done <- w.Run(ctx) }() }}
	h.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return h
}

func startWebhooks(t *testing.T, sender Sender, targets ...Target) *hooked {
	t.Helper()
	h := webhooksOf(t, sender, targets...)
	h.run()
	t.Cleanup(h.stop)
	return h
}

func event(i int) Delivery { return Delivery{ID: fmt.Sprintf("evt_%d", i), Body: []byte("{}")} }

func TestDeliveryIsRepeatedUntilItIsTaken(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := startWebhooks(t, r, targetOf("siem"))
		r.fail("siem", &Error{Kind: KindStatus, Status: 500})
		began := time.Now()
		require.NoError(t, w.Enqueue("siem", event(1)))
		require.Zero(t, time.Since(began))
		time.Sleep(20 * time.Second)
		r.fail("siem", nil)
		time.Sleep(time.Hour)
		var offsets []time.Duration
		for _, a := range r.attempts("siem") {
			require.Equal(t, "evt_1", a.id)
			offsets = append(offsets, a.at.Sub(began)/time.Second)
		}
		require.Equal(t, []time.Duration{0, 2, 2 + 4, 2 + 4 + 8, 2 + 4 + 8 + 16}, offsets)
		require.InDelta(t, 1, w.ended(t, resultDelivered), 0)
		require.InDelta(t, 0, metric(t, w.registry, "deputy_webhook_queued"), 0)
		require.InDelta(t, 4, metric(t, w.registry, "deputy_webhook_attempts_total", string(KindStatus)), 0)
		require.Equal(t, []TargetStatus{{ID: "siem", DeliveredAt: began.Add(30 * time.Second)}}, w.Status())
		require.InDelta(t, 1, metric(t, w.registry, "deputy_webhook_attempts_total", outcomeOK), 0)

		r.fail("siem", &Error{Kind: KindConnect})
		require.NoError(t, w.Enqueue("siem", event(2)))
		time.Sleep(time.Second)
		require.Len(t, r.attempts("siem"), 6)
		time.Sleep(time.Second)
		virtualtime.Wait()
		require.Len(t, r.attempts("siem"), 7, "once it was there, it is asked often again")
	})
}

func TestQueuedDeliveryIsTheCallersNoMore(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := webhooksOf(t, r, targetOf("siem"))
		r.set("siem", func(_ context.Context, d Delivery) error {
			assert.Equal(t, "{}", string(d.Body))
			return nil
		})
		d := event(1)
		require.NoError(t, w.Enqueue("siem", d))
		copy(d.Body, "[]") // as when the buffer comes from a pool
		w.run()
		virtualtime.Wait()
		require.Len(t, r.attempts("siem"), 1)
		w.stop()
	})
}

func TestTargetThatIsDownDelaysNoOtherAndIsNotFlooded(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := startWebhooks(t, r, targetOf("down"), targetOf("up"))
		r.set("down", func(ctx context.Context, _ Delivery) error {
			time.Sleep(DefaultTimeout)
			return &Error{Kind: KindTimeout}
		})
		for i := range 100 {
			require.NoError(t, w.Enqueue("down", event(i)))
			require.NoError(t, w.Enqueue("up", event(i)))
		}
		virtualtime.Wait()
		require.Len(t, r.attempts("up"), 100)
		for i, a := range r.attempts("up") {
			require.Equal(t, event(i).ID, a.id, "in order, as nothing had to be repeated")
		}
		time.Sleep(30 * time.Minute)
		require.Less(t, len(r.attempts("down")), 15, "the target as a whole is left alone, whatever waits for it")
		for _, s := range w.Status() {
			if s.ID == "down" {
				require.Equal(t, 100, s.Queued)
				require.Error(t, s.Err)
				require.Zero(t, s.DeliveredAt)
			} else {
				require.Zero(t, s.Queued)
				require.NoError(t, s.Err)
			}
		}
		r.fail("down", nil)
		time.Sleep(maxBackoff + DefaultTimeout)
		require.InDelta(t, 200, w.ended(t, resultDelivered), 0)
	})
}

func TestRefusedDeliveryDelaysNoOther(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := startWebhooks(t, r, targetOf("siem"))
		r.set("siem", func(_ context.Context, d Delivery) error {
			switch d.ID {
			case "evt_0":
				return &Error{Kind: KindStatus, Status: 422}
			case "evt_1":
				return &Error{Kind: KindStatus, Status: http.StatusGone}
			}
			return nil
		})
		for i := range 10 {
			require.NoError(t, w.Enqueue("siem", event(i)))
		}
		virtualtime.Wait()
		require.Len(t, r.attempts("siem"), 10)
		require.InDelta(t, 8, w.ended(t, resultDelivered), 0)
		require.InDelta(t, 1, w.ended(t, resultGone), 0)
		time.Sleep(giveUpAfter + time.Minute)
		require.InDelta(t, 1, w.ended(t, resultExpired), 0)
		require.Less(t, len(r.attempts("siem")), 10+25)
	})
}

func TestTargetIsAskedNoSoonerThanItWants(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := startWebhooks(t, r, targetOf("siem"))
		r.fail("siem", &Error{Kind: KindStatus, Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Minute})
		began := time.Now()
		require.NoError(t, w.Enqueue("siem", event(0)))
		require.NoError(t, w.Enqueue("siem", event(1)))
		time.Sleep(7*time.Minute - time.Second)
		require.Len(t, r.attempts("siem"), 1)
		r.fail("siem", nil)
		time.Sleep(2 * time.Second)
		require.Len(t, r.attempts("siem"), 3)
		require.Equal(t, 7*time.Minute, r.attempts("siem")[1].at.Sub(began))
	})
}

func TestDeliveryIsGivenUpWhenItsTimeIsOver(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := startWebhooks(t, r, targetOf("siem"))
		r.fail("siem", &Error{Kind: KindConnect})
		short, long := event(1), event(2)
		short.NotAfter = time.Now().Add(time.Minute)
		long.NotAfter = time.Now().Add(365 * 24 * time.Hour)
		require.NoError(t, w.Enqueue("siem", event(0)))
		require.NoError(t, w.Enqueue("siem", short))
		require.NoError(t, w.Enqueue("siem", long))
		for _, at := range []struct{ wait, expired time.Duration }{{time.Minute, 1}, {giveUpAfter, 2}, {maxKept, 3}} {
			time.Sleep(at.wait + maxBackoff)
			require.InDelta(t, at.expired, w.ended(t, resultExpired), 0)
		}
		require.InDelta(t, 0, metric(t, w.registry, "deputy_webhook_queued"), 0)
	})
}

func TestFullQueueSaysSoAndKeepsWhatItHas(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := startWebhooks(t, r, targetOf("few"), targetOf("large"))
		r.fail("few", &Error{Kind: KindConnect})
		r.fail("large", &Error{Kind: KindConnect})
		for i := range maxQueued {
			require.NoError(t, w.Enqueue("few", event(i)))
		}
		require.ErrorIs(t, w.Enqueue("few", event(maxQueued)), ErrQueueFull)
		for i := range 4 {
			require.NoError(t, w.Enqueue("large", Delivery{ID: event(i).ID, Body: make([]byte, maxQueuedBytes/4)}))
		}
		require.ErrorIs(t, w.Enqueue("large", event(4)), ErrQueueFull)
		require.InDelta(t, 2, w.ended(t, resultRefused), 0)
		r.set("few", nil)
		r.set("large", nil)
		time.Sleep(maxBackoff)
		require.InDelta(t, maxQueued+4, w.ended(t, resultDelivered), 0)
		require.NoError(t, w.Enqueue("few", event(maxQueued)))
		require.NoError(t, w.Enqueue("large", event(4)), "room is there again")
		virtualtime.Wait()
	})
}

func TestWhatCannotBeQueuedIsRefused(t *testing.T) {
	w := webhooksOf(t, newReceivers(), targetOf("siem"))
	require.ErrorIs(t, w.Enqueue("other", event(0)), ErrUnknownTarget)
	require.ErrorContains(t, w.Enqueue("siem", Delivery{}), "id of a delivery")
	require.ErrorContains(t, w.Enqueue("siem", Delivery{ID: "evt.0"}), "letters, digits")
	requireKind(t, w.Enqueue("siem", Delivery{ID: "evt_0", Body: make([]byte, maxQueuedBytes+1)}), KindTooLarge)
}

func TestTargetsAreCheckedAndChangedAsAWhole(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := startWebhooks(t, r, targetOf("stays"), targetOf("goes"))
		brokenOff := make(chan struct{})
		r.set("goes", func(ctx context.Context, _ Delivery) error {
			<-ctx.Done()
			close(brokenOff)
			return &Error{Kind: KindCanceled, Err: ctx.Err()}
		})
		r.fail("stays", &Error{Kind: KindConnect})
		for i := range 3 {
			require.NoError(t, w.Enqueue("stays", event(i)))
			require.NoError(t, w.Enqueue("goes", event(i)))
		}
		for says, wrong := range map[string]Target{
			"needs an id":           {URL: "https://a.example", Secrets: []Secret{secretOne}},
			"has one secret":        {ID: "a", URL: "https://a.example"},
			"one secret, or two":    {ID: "a", URL: "https://a.example", Secrets: []Secret{secretOne, secretTwo, secretOne}},
			"at least 32":           {ID: "a", URL: "https://a.example", Secrets: []Secret{"short"}},
			"must begin with https": {ID: "a", Secrets: []Secret{secretOne}},
			"configured twice":      targetOf("stays"),
		} {
			require.ErrorContains(t, w.Configure([]Target{targetOf("stays"), wrong}), says)
		}
		require.ErrorContains(t, w.Configure(make([]Target, maxTargets+1)), "at most 64")
		require.Len(t, w.Status(), 2, "nothing has changed")
		time.Sleep(10 * time.Minute)

		moved := targetOf("stays")
		moved.URL = "https://elsewhere.example/"
		r.set("stays", nil)
		began := time.Now()
		require.NoError(t, w.Configure([]Target{moved, targetOf("new")}))
		virtualtime.Wait()
		require.Zero(t, time.Since(began))
		require.InDelta(t, 3, w.ended(t, resultDelivered), 0, "another URL is tried at once")
		require.InDelta(t, 3, w.ended(t, resultDropped), 0)
		<-brokenOff
		virtualtime.Wait()
		require.InDelta(t, 0, metric(t, w.registry, "deputy_webhook_attempts_total", string(KindCanceled)), 0, "that is nobody's failure")
		require.ErrorIs(t, w.Enqueue("goes", event(9)), ErrUnknownTarget)
		require.NoError(t, w.Enqueue("new", event(9)))
		virtualtime.Wait()
		require.InDelta(t, 4, w.ended(t, resultDelivered), 0)
		require.InDelta(t, 0, metric(t, w.registry, "deputy_webhook_queued"), 0)
	})
}

func TestNothingIsSentBeforeRunOrAfterIt(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		r := newReceivers()
		w := webhooksOf(t, r, targetOf("siem"))
		require.NoError(t, w.Enqueue("siem", event(0)))
		time.Sleep(time.Minute)
		require.Empty(t, r.attempts("siem"))
		w.run()
		virtualtime.Wait()
		require.Len(t, r.attempts("siem"), 1)
		r.set("siem", func(ctx context.Context, _ Delivery) error {
			<-ctx.Done()
			return ctx.Err()
		})
		require.NoError(t, w.Enqueue("siem", event(1)))
		virtualtime.Wait()
		began := time.Now()
		w.stop()
		require.Zero(t, time.Since(began), "an attempt that is under way is broken off")
		require.ErrorIs(t, w.Enqueue("siem", event(2)), ErrStopped)
		require.Len(t, r.attempts("siem"), 2)
	})
}

func TestRealReceiverGetsEachEventOnceThoughAnswersAreLost(t *testing.T) {
	var (
		mu    sync.Mutex
		seen  = map[string]int{}
		lost  atomic.Int64
		wrong atomic.Value
	)
	s := startSite(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		signed, err := Verify(r.Header.Get(SignatureHeader), body, time.Now(), secretOne)
		if err != nil || r.Header.Get("Content-Type") != "application/json" || string(body) != `{"id":"`+signed.ID+`"}` {
			wrong.Store(fmt.Errorf("%s: %w", body, err))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		seen[signed.ID]++
		first := seen[signed.ID] == 1
		mu.Unlock()
		if first && signed.ID == "evt_2" {
			lost.Add(1)
			panic(http.ErrAbortHandler) // taken, but the answer is lost
		}
	})
	c := clientOf(t, s)
	w := startWebhooks(t, c, Target{ID: "siem", URL: s.URL + "/hooks/b2b2", Secrets: []Secret{secretTwo, secretOne}})
	for i := range 5 {
		require.NoError(t, w.Enqueue("siem", Delivery{ID: event(i).ID, Body: fmt.Appendf(nil, `{"id":"evt_%d"}`, i)}))
	}
	require.Eventually(t, func() bool { return w.ended(t, resultDelivered) == 5 }, 20*time.Second, 10*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]int{"evt_0": 1, "evt_1": 1, "evt_2": 2, "evt_3": 1, "evt_4": 1}, seen)
	require.EqualValues(t, 1, lost.Load())
	require.Nil(t, wrong.Load())
}

func TestOneAttemptSaysHowItWent(t *testing.T) {
	status := atomic.Int64{}
	s := startSite(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NotContains(t, r.Header, "Idempotency-Key")
		w.WriteHeader(int(status.Load()))
	})
	c := clientOf(t, s)
	target := Target{ID: "siem", URL: s.URL + "/hooks/b2b2", Secrets: []Secret{secretOne}}
	for _, code := range []int{200, 202, 204} {
		status.Store(int64(code))
		require.NoError(t, c.Deliver(t.Context(), target, event(0)))
	}
	for _, code := range []int{400, 404, 500, 503} {
		status.Store(int64(code))
		err := c.Deliver(t.Context(), target, event(0))
		require.Equal(t, code, requireKind(t, err, KindStatus).Status)
		require.NotContains(t, err.Error(), "b2b2", "the path of a webhook often is its secret")
	}
	s.Close()
	err := c.Deliver(t.Context(), target, event(0))
	requireKind(t, err, KindConnect)
	require.NotContains(t, err.Error(), "b2b2")

	require.ErrorContains(t, c.Deliver(t.Context(), target, Delivery{}), "id of a delivery")
	require.ErrorContains(t, c.Deliver(t.Context(), Target{URL: s.URL}, event(0)), "one secret")
	unallowed, err := New(Options{})
	require.NoError(t, err)
	defer unallowed.Close()
	requireKind(t, unallowed.Deliver(t.Context(), target, event(0)), KindAddress)
}
