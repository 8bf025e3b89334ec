package faults

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
)

// Nodes come and go and keys change, and clients that go on to the next node on a 503 notice nothing.
func TestMembershipChangesUnderTraffic(t *testing.T) {
	w := newNetwork(t)
	f := newFleetOn(t, w, 3)
	who := f.cast(t)
	for _, n := range f.nodes {
		f.requireVouched(t, n, who, who.index)
	}
	traffic := startTraffic(t, f, who)

	var whole sample
	count := promised(t, 3, 50)
	for round := range count {
		began := time.Now()
		fresh := f.join(t)
		traffic.through(t, f)
		f.requireVouched(t, fresh, who, who.index)
		f.manage(t, http.MethodPost, "/api/v1/cluster/members/"+fresh.id+"/drain", map[string]any{"draining": true})
		f.manage(t, http.MethodDelete, "/api/v1/cluster/members/"+fresh.id, nil)
		f.nodes = f.nodes[:3]
		traffic.through(t, f)
		require.Contains(t, fresh.end(t, refusedWait), "was removed")
		switch round % 3 {
		case 0:
			f.manage(t, http.MethodPost, "/api/v1/cluster/rotate-keys", nil)
		case 1:
			f.manage(t, http.MethodPost, "/api/v1/cluster/rotate-gossip-key", nil)
		case 2:
			_, err := f.client(t).TransferLeadership(within(t, requestWait), "")
			require.NoError(t, err)
		}
		whole.add(time.Since(began))
		asked, failed := traffic.soFar()
		t.Logf("round %d: %s joined, drained and was removed in %s; %d mints and as many introspections, %d failed",
			round, fresh.id, time.Since(began).Round(time.Millisecond), asked, len(failed))
	}
	traffic.end()
	asked, failed := traffic.soFar()
	for _, err := range failed {
		t.Errorf("%v", err)
	}
	t.Logf("== membership: %d cycles of join, drain, remove and rotate, each p50 %s longest %s; %d mints and as many introspections meanwhile, FAILED %d",
		count, whole.at(0.5), whole.at(1), asked, len(failed))
}

// manage makes an operator's request, at one node after the other until one can do it.
func (f *fleet) manage(t *testing.T, method, path string, body any) {
	t.Helper()
	eventually(t, 2*requestWait, method+" "+path, func() error {
		var err error
		for _, n := range f.running()[:3] {
			var status int
			if status, err = n.asker(t).command(within(t, requestWait), f.token, method, path, body, nil); err == nil {
				return nil
			}
			if status != http.StatusServiceUnavailable {
				return final(err)
			}
		}
		return err
	})
}

// traffic is what clients do all day: they mint, and services ask about the tokens.
type traffic struct {
	who     cast
	clients atomic.Pointer[client.Client]
	stop    context.CancelFunc
	tasks   sync.WaitGroup

	mu     sync.Mutex
	asked  int
	failed []error
}

const trafficTasks = 4

func startTraffic(t *testing.T, f *fleet, who cast) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	x := &traffic{who: who, stop: cancel}
	x.through(t, f)
	for range trafficTasks {
		x.tasks.Go(func() {
			for ctx.Err() == nil {
				x.once()
				pass(5 * time.Millisecond)
			}
		})
	}
	t.Cleanup(x.end)
	return x
}

// through has the traffic go through the nodes that the fleet has now.
func (x *traffic) through(t *testing.T, f *fleet) {
	t.Helper()
	x.clients.Store(f.clientFrom(t, len(f.nodes)-1)) // the newest first
}

func (x *traffic) once() {
	c := x.clients.Load()
	ctx, cancel := context.WithTimeout(context.Background(), requestWait)
	defer cancel()
	began := time.Now()
	err := func() error {
		token, err := c.MintToken(ctx, x.who.agent, client.TokenOptions{})
		if err != nil {
			return fmt.Errorf("minting: %w", err)
		}
		said, err := c.Introspect(ctx, x.who.application, token.AccessToken)
		if err != nil {
			return fmt.Errorf("introspecting: %w", err)
		}
		if !said.Active {
			return fmt.Errorf("a good token is not active")
		}
		return nil
	}()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked++
	if err != nil {
		x.failed = append(x.failed, fmt.Errorf("%s, after %s: %w", began.Format(time.StampMilli), time.Since(began).Round(time.Millisecond), err))
	}
}

func (x *traffic) soFar() (int, []error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked, x.failed
}

func (x *traffic) end() {
	x.stop()
	x.tasks.Wait()
}
