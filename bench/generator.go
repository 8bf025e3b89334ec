package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// grace is how long after the end of a round an answer under way may still come before it is a timeout.
	grace = 5 * time.Second
	// redialPause keeps a connection that can't be made from being tried in a tight loop.
	redialPause = 20 * time.Millisecond
	// flushEvery is how many latencies a worker gathers before it takes the lock of the round's histogram.
	flushEvery = 512
)

// target is what a generator loads: one subject of the benchmark.
type target struct {
	addresses []string // host:port; connections are spread over them
	requests  [][]byte // whole requests; each connection goes round them, from its own starting point
	expect    []byte   // an answer of 200 holds it; nil accepts any

	// fresh, if set, makes each request anew, for one address: what it proves is good only once. Requests then only say
	// how large they are.
	fresh func(address string) []byte
}

func (t *target) validate() error {
	if len(t.addresses) == 0 || len(t.requests) == 0 {
		return errors.New("a target lacks an address or a request")
	}
	for _, r := range t.requests {
		if len(r) == 0 || len(r) > maxRequestBytes {
			return fmt.Errorf("a request has %d bytes; it must have 1 to %d", len(r), maxRequestBytes)
		}
	}
	return nil
}

// generator drives one target with a fixed number of connections in a closed loop, round after round, over
// the same connections. One round at a time.
type generator struct {
	target  target
	workers []worker
}

func newGenerator(t target, concurrency int) (*generator, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	g := &generator{target: t, workers: make([]worker, concurrency)}
	for i := range g.workers {
		g.workers[i] = worker{
			target:    &g.target,
			address:   t.addresses[i%len(t.addresses)],
			next:      i % len(t.requests),
			latencies: make([]time.Duration, 0, flushEvery),
		}
	}
	return g, nil
}

// run loads the target for the duration and returns what happened. It ends at most grace after it, or early
// with ctx's error.
func (g *generator) run(ctx context.Context, duration time.Duration) (*sample, error) {
	result := newSample()
	var working sync.WaitGroup
	before := selfCPU()
	start := time.Now()
	end := start.Add(duration)
	for i := range g.workers {
		working.Go(func() { g.workers[i].loop(ctx, end, result) })
	}
	working.Wait()
	result.elapsed = time.Since(start)
	result.generatorCPU = selfCPU() - before
	return result, ctx.Err()
}

func (g *generator) close() {
	for i := range g.workers {
		g.workers[i].drop()
	}
}

// worker is one connection's closed loop.
type worker struct {
	target    *target
	address   string
	next      int   // request to send
	conn      *conn // nil before the first exchange and after one that broke it
	latencies []time.Duration
}

// loop asks until end. An exchange under way when ctx ends is still waited for, until grace is over.
func (w *worker) loop(ctx context.Context, end time.Time, result *sample) {
	defer w.flush(result)
	deadline := end.Add(grace)
	if w.conn != nil && w.conn.until(deadline) != nil {
		w.drop()
	}
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
		if w.conn == nil && !w.connect(ctx, deadline, result) {
			now = time.Now()
			continue
		}
		request := w.target.requests[w.next]
		if w.target.fresh != nil {
			request = w.target.fresh(w.address)
			now = time.Now() // what it took to sign is not the server's
		}
		status, body, err := w.conn.exchange(request)
		done := time.Now()
		switch {
		case err != nil:
			result.fail(failureOf(err))
		case status != 200:
			result.fail(statusFailure(status))
		case !bytes.Contains(body, w.target.expect):
			result.fail(FailureAnswer)
		default:
			w.latencies = append(w.latencies, done.Sub(now))
			if len(w.latencies) == flushEvery {
				w.flush(result)
			}
		}
		if err != nil || w.conn.answer.close {
			w.drop()
		}
		if w.next++; w.next == len(w.target.requests) {
			w.next = 0
		}
		now = done
	}
}

// connect opens the worker's connection. Where that fails it pauses and reports false.
func (w *worker) connect(ctx context.Context, deadline time.Time, result *sample) bool {
	c, err := dial(ctx, w.address)
	if err == nil {
		err = c.until(deadline)
	}
	if err == nil {
		w.conn = c
		return true
	}
	if ctx.Err() != nil {
		return false // the run was called off: not a failure of the target
	}
	result.fail(failureOf(err))
	pause := time.NewTimer(redialPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	return false
}

func (w *worker) drop() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
}

func (w *worker) flush(result *sample) {
	result.record(w.latencies)
	w.latencies = w.latencies[:0]
}
