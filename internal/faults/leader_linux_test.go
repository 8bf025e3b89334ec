package faults

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
)

// When the leader dies, writes are back after an election, and the other nodes mint on as if nothing had happened.
func TestLeaderKilledAndMintingGoesOn(t *testing.T) {
	w := newNetwork(t)
	f := newFleetOn(t, w, 3)
	who := f.cast(t)
	for _, n := range f.nodes {
		f.requireVouched(t, n, who, who.index)
	}

	var back sample
	mints, failed := 0, 0
	count := promised(t, 10, 100)
	for round := range count {
		victim := f.leader(t)
		m := startMinting(t, f, victim, who.agent)
		began := time.Now()
		victim.kill(t)
		f.awaitWrite(t, fmt.Sprintf("after-%d", round))
		took := time.Since(began)
		back.add(took)
		pass(500 * time.Millisecond) // the new leader has settled by then
		bad := m.end()
		mints += m.asked
		failed += len(bad)
		for _, a := range bad {
			t.Errorf("round %d: %s", round, a)
		}
		t.Logf("round %d: killed %s, writes back after %s, %d mints meanwhile", round, victim.id, took.Round(time.Millisecond), m.asked)
		victim.start(t)
	}
	t.Logf("== leader: %d killed, writes back after p50 %s p99 %s longest %s; %d mints at the other nodes meanwhile, FAILED %d",
		count, back.at(0.5), back.at(0.99), back.at(1), mints, failed)
	require.LessOrEqual(t, back.at(0.99), 3*time.Second)
}

// awaitWrite tries to write through every running node at once, and returns when one of them says it is done.
func (f *fleet) awaitWrite(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), resumeWait)
	defer cancel()
	done := make(chan struct{})
	var once sync.Once
	var trying sync.WaitGroup
	for _, n := range f.running() {
		a := n.asker(t)
		trying.Go(func() {
			for try := 0; ctx.Err() == nil; try++ {
				body := agentBody(fmt.Sprintf("%s-%s-%d", name, n.id, try))
				if _, err := a.command(ctx, f.token, http.MethodPost, "/api/v1/agents", body, nil); err == nil {
					once.Do(func() { close(done) })
					return
				}
				pass(5 * time.Millisecond)
			}
		})
	}
	select {
	case <-done:
	case <-ctx.Done():
		require.FailNow(t, "no write was acknowledged", "within %s", resumeWait)
	}
	cancel()
	trying.Wait()
}

// minting asks every node but one for a token, again and again, each for itself.
type minting struct {
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu    sync.Mutex
	asked int
	bad   []answer
}

func startMinting(t *testing.T, f *fleet, but *node, agent client.Credentials) *minting {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m := &minting{stop: cancel}
	for _, n := range f.running() {
		if n == but {
			continue
		}
		a := n.asker(t)
		m.tasks.Go(func() {
			for ctx.Err() == nil {
				one, done := context.WithTimeout(t.Context(), 5*time.Second)
				got := a.mint(one, agent)
				done()
				m.mu.Lock()
				m.asked++
				if got.verdict != accepted {
					m.bad = append(m.bad, got)
				}
				m.mu.Unlock()
				pass(5 * time.Millisecond)
			}
		})
	}
	return m
}

func (m *minting) end() []answer {
	m.stop()
	m.tasks.Wait()
	return m.bad
}
