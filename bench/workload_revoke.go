package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/tokens"
)

const (
	// watchers is how many ended sessions are followed at a time.
	watchers = 8
	// watchBacklog is how many wait to be followed; beyond it they are counted and not followed.
	watchBacklog = 10_000
	// watchPatience is how long a node may take to refuse what was revoked elsewhere.
	watchPatience = 15 * time.Second
	// watchPause is between two questions to a node that still says yes.
	watchPause = 200 * time.Microsecond
)

var (
	saysFenced    = []byte(`"fenced":true`)
	saysCommitted = []byte(`"committed":true`)
)

// ended is a session that a node says has ended.
type ended struct {
	token string
	node  int       // that said so
	at    time.Time // when its answer was there
	fence bool      // no node may act on it any more
}

// prepareRevoke mints the sessions that will be ended.
func prepareRevoke(ctx context.Context, d *drive) (*job, error) {
	pool, err := d.pool(ctx, d.offers())
	if err != nil {
		return nil, err
	}
	w := newWatch(d)
	j := &job{operations: []string{"revoke"}, expected: make([]expectation, 1), evidence: newEvidence(), token: len(pool[0])}
	var next atomic.Int64
	j.work = func(int, int) load.Work {
		return &revoking{ender: newEnder(d), take: func() string { return pool[int(next.Add(1)-1)%len(pool)] }, tell: w.follow}
	}
	j.settle, j.stop = w.settle, w.end
	return j, nil
}

// ender spells the end of a session.
type ender struct {
	before, after string
	fence         bool
	buf           []byte
}

func newEnder(d *drive) *ender {
	query := ""
	if d.Fenced {
		query = "?wait=fenced"
	}
	return &ender{
		before: "DELETE /api/v1/sessions/", fence: d.Fenced,
		after: query + " HTTP/1.1\r\nHost: deputy.invalid\r\nAuthorization: SSWS " + d.ground.token + "\r\nContent-Length: 0\r\n\r\n",
	}
}

func (e *ender) end(token string) ([]byte, error) {
	claims, err := tokens.Decode([]byte(token))
	if err != nil {
		return nil, err
	}
	b := append(e.buf[:0], e.before...)
	b = append(b, claims.SessionID...)
	e.buf = append(b, e.after...)
	return e.buf, nil
}

func (e *ender) judge(status int, body []byte) load.Failure {
	switch {
	case status != 200:
		return load.StatusFailure(status)
	case !bytes.Contains(body, saysCommitted), e.fence && !bytes.Contains(body, saysFenced):
		return load.FailureAnswer
	}
	return ""
}

// revoking is the work of one connection that ends sessions.
type revoking struct {
	ender *ender
	take  func() string
	token string
	tell  func(ended)
}

func (r *revoking) Next(call *load.Call) {
	r.token = r.take()
	request, err := r.ender.end(r.token)
	if err != nil {
		panic("BUG: a token that was minted can't be read: " + err.Error())
	}
	call.Request = request
}

func (r *revoking) Judge(call *load.Call, status int, body []byte) load.Failure {
	if failure := r.ender.judge(status, body); failure != "" {
		return failure
	}
	r.tell(ended{token: r.token, node: call.Node, at: time.Now(), fence: r.ender.fence})
	return ""
}

// watch asks the other nodes about ended sessions until they refuse.
type watch struct {
	nodes   []load.Node
	asker   func() *asker
	queue   chan ended
	working sync.WaitGroup
	cancel  context.CancelFunc
	closing sync.Once

	lock      sync.Mutex
	seen      *load.Sample
	unwatched int64
	since     time.Time
}

func newWatch(d *drive) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{
		nodes: d.ground.nodes, asker: func() *asker { return newAsker(d.fixture) }, queue: make(chan ended, watchBacklog),
		cancel: cancel, seen: load.NewSample(1), since: time.Now(),
	}
	for range watchers {
		w.working.Go(func() { w.run(ctx) })
	}
	return w
}

// follow takes one, unless too many wait.
func (w *watch) follow(e ended) {
	select {
	case w.queue <- e:
	default:
		w.lock.Lock()
		w.unwatched++
		w.lock.Unlock()
	}
}

func (w *watch) run(ctx context.Context) {
	conns := make([]*load.Conn, len(w.nodes))
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	asker := w.asker()
	for e := range w.queue {
		if ctx.Err() != nil {
			return
		}
		// A single node is asked itself; of several the one that said so is left out.
		for node := range w.nodes {
			if node == e.node && len(w.nodes) > 1 {
				continue
			}
			failure := w.refused(ctx, &conns[node], node, asker.ask(e.token), e)
			w.note(time.Since(e.at), failure)
		}
	}
}

// refused asks one node until it refuses, and says what went wrong.
func (w *watch) refused(ctx context.Context, conn **load.Conn, node int, request []byte, e ended) load.Failure {
	for time.Since(e.at) < watchPatience && ctx.Err() == nil {
		if *conn == nil {
			c, err := load.Dial(ctx, w.nodes[node].Address, w.nodes[node].TLS)
			if err != nil {
				return load.FailureOf(err)
			}
			*conn = c
		}
		err := (*conn).Until(time.Now().Add(load.DefaultTimeout))
		var status int
		var body []byte
		if err == nil {
			status, body, err = (*conn).Exchange(request)
		}
		if err != nil {
			(*conn).Close()
			*conn = nil
			return load.FailureOf(err)
		}
		switch {
		case status != 200:
			return load.StatusFailure(status)
		case bytes.Contains(body, saysInactive):
			return ""
		case e.fence:
			return wrongFenced
		}
		if pauseFor(ctx, watchPause) != nil {
			break
		}
	}
	return load.FailureTimeout
}

func (w *watch) note(took time.Duration, failure load.Failure) {
	w.seen.Record(took)
	if failure != "" {
		w.seen.Fail(0, failure, 1)
	}
}

// settle waits until all that was followed is refused everywhere, and returns it as a subject of its own.
func (w *watch) settle(ctx context.Context) ([]result.Subject, error) {
	w.end()
	done := make(chan struct{})
	go func() { defer close(done); w.working.Wait() }()
	timer := time.AfterFunc(2*watchPatience, w.cancel)
	defer timer.Stop()
	select {
	case <-done:
	case <-ctx.Done():
		w.cancel()
		<-done
	}
	op := &w.seen.Operations[0]
	op.Sent += w.unwatched
	if w.unwatched > 0 {
		op.Skipped, op.Sent = w.unwatched, op.Sent-w.unwatched
	}
	op.Offered = op.Sent + op.Skipped
	s, err := subjectOf("from the answer to refusal at the other nodes", result.RoleMeasured, op, time.Since(w.since).Seconds())
	if err != nil {
		return nil, fmt.Errorf("summarizing refusals: %w", err)
	}
	return []result.Subject{s}, nil
}

func (w *watch) end() { w.closing.Do(func() { close(w.queue) }) }
