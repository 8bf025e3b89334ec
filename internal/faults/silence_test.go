package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// isolationMargin is what a node may need on top of the lease to fall silent.
const isolationMargin = 250 * time.Millisecond

// requireAccepted waits until a node says yes to all that it will have to say no to.
func requireAccepted(t *testing.T, a *asker, s *subject) {
	t.Helper()
	for _, question := range s.questions() {
		eventually(t, readyWait, a.node+" to accept what is not stopped yet", func() error {
			if got := question(within(t, requestWait), a); got.verdict != accepted {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
}

// lastWord cuts a node off while it is asked without pause. It returns when the last question that got a good answer
// was asked, counted from when the cut was made, and when the last good answer arrived, counted from before that. The
// one holds however busy the machine is; the other is what a user may see.
func lastWord(t *testing.T, a *asker, s *subject, lease time.Duration, cut func()) (asked, arrived time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var lastAsked, lastArrived time.Time
	var asking sync.WaitGroup
	for _, question := range s.questions() {
		asking.Go(func() {
			for ctx.Err() == nil {
				if got := question(ctx, a); got.verdict == accepted {
					mu.Lock()
					lastAsked, lastArrived = latest(lastAsked, got.began), latest(lastArrived, got.ended)
					mu.Unlock()
				}
				pass(2 * time.Millisecond)
			}
		})
	}
	pass(50 * time.Millisecond)
	began := time.Now()
	cut()
	made := time.Now()
	for time.Since(began) < lease+2*isolationMargin {
		pass(askPause)
	}
	cancel()
	asking.Wait()
	require.False(t, lastArrived.Before(began.Add(-time.Second)), "%s was not heard before the cut", a.node)
	return lastAsked.Sub(made), lastArrived.Sub(began)
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
