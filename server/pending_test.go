package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/virtualtime"
)

// pendingFixture is a folder of pending revocations with a majority that can be taken away.
type pendingFixture struct {
	*pendingStops
	dir       string
	denied    []identity.Handle
	committed []fsm.Command

	mu     sync.Mutex
	answer error
}

func (f *pendingFixture) answers(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = err
}

func (f *pendingFixture) open(t *testing.T) {
	t.Helper()
	deny := func(handles []identity.Handle) *denied {
		f.denied = append(f.denied, handles...)
		return &denied{handles: handles}
	}
	commit := func(_ context.Context, command []byte) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.answer != nil {
			return f.answer
		}
		c, err := fsm.Decode(command)
		f.committed = append(f.committed, c)
		return err
	}
	var err error
	f.pendingStops, err = openPending(f.dir, deny, commit, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
}

func newPending(t *testing.T) *pendingFixture {
	t.Helper()
	f := &pendingFixture{dir: filepath.Join(t.TempDir(), "pending"), answer: errNotLeading()}
	f.open(t)
	return f
}

var killCommand = fsm.Command{ID: fsm.CommandID{7}, By: "tok_x", Time: 1, Body: fsm.KillAgent{Name: "a", Reason: "INC-42"}}

func TestKeptRevocationOutlivesTheProcessAndIsCommittedOnce(t *testing.T) {
	f := newPending(t)
	require.NoError(t, f.Keep(killCommand, []identity.Handle{"agt_a#1"}))
	require.NoError(t, f.Keep(killCommand, []identity.Handle{"agt_a#1"}), "keeping it again changes nothing")
	f.settle(t.Context())
	require.Equal(t, 1, f.Pending(), "there is no majority")

	f.denied = nil
	f.open(t) // as after kill -9
	require.Equal(t, 1, f.Pending())
	require.Equal(t, []identity.Handle{"agt_a#1"}, f.denied, "denied before anything is served")

	f.answers(nil)
	f.settle(t.Context())
	require.Zero(t, f.Pending())
	require.Len(t, f.committed, 1)
	require.Equal(t, killCommand, f.committed[0], "under the id that it was asked for with")
	f.open(t)
	require.Zero(t, f.Pending())
}

func TestKeptRevocationWaitsForAnAnswerThatIsFinal(t *testing.T) {
	for name, c := range map[string]struct {
		answer  error
		waiting int
	}{
		"no leader":       {errNotLeading(), 1},
		"outcome unknown": {identity.Errorf(identity.CodeOutcomeUnknown, "x"), 1},
		"overloaded":      {identity.Errorf(identity.CodeOverloaded, "x"), 1},
		"untyped":         {errors.New("the connection broke"), 1},
		"nothing to stop": {identity.Errorf(identity.CodeNotFound, "x"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newPending(t)
			require.NoError(t, f.Keep(killCommand, nil))
			f.answers(c.answer)
			f.settle(t.Context())
			require.Equal(t, c.waiting, f.Pending())
		})
	}
}

func TestOnlyWhatStopsSomethingIsKept(t *testing.T) {
	f := newPending(t)
	err := f.Keep(fsm.Command{ID: fsm.CommandID{1}, Body: fsm.SetAgentStatus{Name: "a", Status: identity.StatusActive}}, nil)
	require.ErrorContains(t, err, "BUG")
	require.Zero(t, f.Pending())
}

func TestNodeWithADamagedKeptRevocationDoesNotStart(t *testing.T) {
	f := newPending(t)
	require.NoError(t, f.Keep(killCommand, nil))
	path := f.path(killCommand.ID)
	require.NoError(t, os.WriteFile(path, []byte(`{"handles":[],"command":"AA=="}`), 0o600))
	_, err := openPending(f.dir, nil, nil, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "revoke again")
}

func TestKeptRevocationIsTriedEverySecond(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newPending(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.run(ctx) }()
		require.NoError(t, f.Keep(killCommand, nil))
		virtualtime.Wait()
		f.answers(nil)
		<-time.After(settleEvery + time.Millisecond)
		require.Zero(t, f.Pending())
		cancel()
		require.NoError(t, <-done)
	})
}
