package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

const (
	writers = 6
	pace    = 40 * time.Millisecond // of each writer, so that the machine has time for elections as well

	// patience is how long one write may stay without an answer before the cluster counts as dead.
	patience = 60 * time.Second
)

// kind is what was promised of an object when its write was acknowledged.
type kind int

const (
	agentMade kind = iota
	agentSuspended
	delegationMade
	delegationWithdrawn
)

// load writes to a fleet through all of its nodes and remembers every acknowledged write.
type load struct {
	fleet *fleet
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu       sync.Mutex
	promised map[string]kind   // by id, all since the start
	fresh    map[string]kind   // those since the last check
	losses   map[string]string // by id, objects of which an acknowledged write is missing
	index    uint64            // newest log index that was acknowledged
	epoch    int               // counts the marks
	acked    int               // writes that were begun after the last mark
	lastAck  time.Time
	gap      time.Duration // longest time without an acknowledgement since the last mark
	failure  error         // the first thing that should not have happened
}

// startLoad begins to write. It ends with the test at the latest.
func startLoad(t *testing.T, f *fleet) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{fleet: f, stop: cancel, promised: map[string]kind{}, fresh: map[string]kind{}, losses: map[string]string{}, lastAck: time.Now()}
	for w := range writers {
		var clients []*client.Client
		for _, n := range f.nodes {
			clients = append(clients, n.client(t, f.token))
		}
		l.done.Go(func() { l.write(ctx, w, clients) })
	}
	t.Cleanup(func() {
		cancel()
		l.done.Wait()
	})
	return l
}

// step is one write, and what its acknowledgement promises.
type step struct {
	promises kind
	request  *client.Request
	answer   any
}

// write makes an agent, suspends every eighth, lends it authority, and takes every fourth loan back.
func (l *load) write(ctx context.Context, w int, clients []*client.Client) {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for i := 0; ; i++ {
		name := fmt.Sprintf("load-%d-%06d", w, i)
		delegation := &wire.Delegation{}
		steps := []step{{agentMade, &client.Request{
			Method: http.MethodPost, Path: "/api/v1/agents", Body: agentBody(name), IdempotencyKey: name,
		}, &wire.Agent{}}}
		if i%8 == 5 {
			steps = append(steps, step{agentSuspended, &client.Request{
				Method: http.MethodPost, Path: "/api/v1/agents/" + name + "/lifecycle/suspend", Repeatable: true,
			}, &wire.AgentStatus{}})
		}
		steps = append(steps, step{delegationMade, &client.Request{
			Method: http.MethodPost, Path: "/api/v1/delegations", Query: url.Values{"ensure_principal": {"true"}},
			Body: delegationBody(name, i), IdempotencyKey: "lend to " + name,
		}, delegation})
		if i%4 == 3 {
			steps = append(steps, step{delegationWithdrawn, &client.Request{Method: http.MethodDelete}, &wire.Deleted{}})
		}
		for k, s := range steps {
			if s.promises == delegationWithdrawn {
				s.request.Path = "/api/v1/delegations/" + delegation.ID // known only by now
			}
			if !l.once(ctx, clients, i+k, s) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// once repeats one write at one node after the other, beginning with the at-th, until it is acknowledged. It
// reports whether to go on.
func (l *load) once(ctx context.Context, clients []*client.Client, at int, s step) bool {
	l.mu.Lock()
	epoch, index := l.epoch, l.index
	l.mu.Unlock()
	began := time.Now()
	for try := 0; ; try++ {
		c := clients[(at+try)%len(clients)]
		c.Observe(index) // what it builds on may have been written through another node
		_, err := c.Do(ctx, s.request, s.answer)
		switch {
		case err == nil:
			l.acknowledge(s, epoch, c.Index())
			return true
		case ctx.Err() != nil:
			return false
		case !mayPass(err):
			l.fail(fmt.Errorf("%s %s at %s: %w", s.request.Method, s.request.Path, c.Addresses()[0], err))
			return false
		case time.Since(began) > patience:
			l.fail(fmt.Errorf("%s %s was not acknowledged within %s: %w", s.request.Method, s.request.Path, patience, err))
			return false
		}
	}
}

// mayPass reports whether the error is one that a failing cluster may give.
func mayPass(err error) bool {
	if errors.As(err, new(*client.UnreachableError)) {
		return true
	}
	switch identity.CodeOf(err) {
	case identity.CodeNotFresh, identity.CodeNoLeader, identity.CodeOutcomeUnknown, identity.CodeOverloaded, identity.CodeStaleIndex,
		identity.CodeDiskFull, identity.CodeAuditUnavailable:
		return true
	}
	return false
}

// id is that of the object which the step was about.
func (s *step) id() string {
	switch answer := s.answer.(type) {
	case *wire.Agent:
		return answer.ID
	case *wire.AgentStatus:
		return answer.Agent.ID
	case *wire.Delegation:
		return answer.ID
	}
	return path.Base(s.request.Path)
}

func (l *load) acknowledge(s step, epoch int, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.gap, l.lastAck = max(l.gap, now.Sub(l.lastAck)), now
	l.promised[s.id()], l.fresh[s.id()] = s.promises, s.promises
	l.index = max(l.index, index)
	if epoch == l.epoch {
		l.acked++
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
	}
}

// mark begins a new count: only writes that are begun from now on are in it.
func (l *load) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	l.acked, l.gap = 0, 0
}

// requireProgress waits until n writes that were begun after the last mark are acknowledged.
func (l *load) requireProgress(t *testing.T, n int, wait time.Duration) {
	t.Helper()
	eventually(t, wait, "writes to resume", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.failure != nil {
			return final(l.failure)
		}
		if l.acked < n {
			return fmt.Errorf("%d of %d writes are acknowledged, the last one %s ago", l.acked, n, time.Since(l.lastAck).Round(time.Millisecond))
		}
		return nil
	})
}

// silence is the longest time without an acknowledgement since the last mark.
func (l *load) silence() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.gap, time.Since(l.lastAck))
}

// newestIndex is the newest log index that was acknowledged.
func (l *load) newestIndex() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index
}

// end stops the writers and returns how many objects they were promised.
func (l *load) end(t *testing.T) int {
	t.Helper()
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.NoError(t, l.failure)
	return len(l.promised)
}
