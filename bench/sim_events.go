package bench

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// agenda is what is to happen, in virtual time.
type agenda struct {
	now    time.Duration
	until  time.Duration
	events eventHeap
	order  uint64
}

type event struct {
	at    time.Duration
	order uint64 // what was put down first happens first
	do    func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].order < h[j].order
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// after has something happen; not past the end.
func (a *agenda) after(d time.Duration, do func()) {
	if at := a.now + d; at <= a.until {
		a.order++
		heap.Push(&a.events, event{at, a.order, do})
	}
}

// eventsBetweenLooks is how many happen before the context is looked at.
const eventsBetweenLooks = 1 << 16

func (a *agenda) run(ctx context.Context) error {
	for n := 0; a.events.Len() > 0; n++ {
		if n%eventsBetweenLooks == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		next := heap.Pop(&a.events).(event)
		a.now = next.at
		next.do()
	}
	return nil
}

// link draws how long messages take: half of the average at least, and an exponential rest, as where switches queue.
type link struct {
	random  *rand.Rand
	average time.Duration
	loss    float64
}

func (w *link) delay() time.Duration {
	half := float64(w.average) / 2
	return time.Duration(half + w.random.ExpFloat64()*half)
}

func (w *link) lost() bool { return w.loss > 0 && w.random.Float64() < w.loss }

func newLink(o *SimOptions, stream uint64) link {
	return link{random: rand.New(rand.NewPCG(o.Seed, stream)), average: o.Latency, loss: o.Loss}
}

func (w *link) between(least time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(least)))
}

func quantiles(times []time.Duration) Quantiles {
	if len(times) == 0 {
		return Quantiles{}
	}
	slices.Sort(times)
	at := func(share float64) float64 { return milliseconds(times[int(share*float64(len(times)-1))]) }
	return Quantiles{P50: at(0.5), P99: at(0.99), Max: at(1)}
}
