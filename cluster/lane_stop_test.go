package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (l *lane) counts() (waiting, out int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting), l.out
}

// TestANodeThatStopsAnswersAllWhoWait: those whose commands have not left at once, as nothing was proposed, and the
// others when it is known what became of theirs.
func TestANodeThatStopsAnswersAllWhoWait(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	eventually(t, n.mayShare)
	n.table.mu.Lock() // nothing is applied from here on
	var made, unknown, refused atomic.Int64
	var all sync.WaitGroup
	propose := func(i int) {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*patience)
			defer cancel()
			switch _, err := n.Propose(ctx, note(fmt.Sprint("note ", i))); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, ErrOutcomeUnknown):
				unknown.Add(1)
			case errors.Is(err, ErrStopped):
				refused.Add(1)
			}
		})
	}
	for i := range eagerEntries { // one by one, as an entry that is full of company would hold more
		propose(i)
		require.Eventually(t, func() bool { _, out := n.ordinary.counts(); return out == i+1 }, patience, time.Millisecond)
	}
	for i := range 20 {
		propose(eagerEntries + i)
	}
	require.Eventually(t, func() bool { waiting, _ := n.ordinary.counts(); return waiting == 20 }, patience, time.Millisecond)

	stopped := make(chan struct{})
	go func() { defer close(stopped); n.stop() }()
	require.Eventually(t, func() bool { return refused.Load() == 20 }, patience, time.Millisecond, "while nothing is applied")
	n.table.mu.Unlock()
	all.Wait()
	<-stopped
	require.Equal(t, int64(eagerEntries), made.Load()+unknown.Load())
	require.LessOrEqual(t, made.Load(), int64(len(n.table.notes())))
	require.Empty(t, n.proposals, "every place is given back")
	_, err := n.Propose(t.Context(), note("late"))
	require.ErrorIs(t, err, ErrStopped)
}

// TestWhatComesToALaneThatIsClosedIsRefused, such as what looked whether the node runs a moment before.
func TestWhatComesToALaneThatIsClosedIsRefused(t *testing.T) {
	t.Parallel()
	n := &Node{proposals: make(chan struct{}, 1)}
	l := &lane{node: n, out: mostEntries}
	l.close()
	n.proposals <- struct{}{}
	p := &proposal{command: []byte{1}, done: make(chan proposed, 1)}
	l.add(p)
	require.ErrorIs(t, (<-p.done).err, ErrStopped)
	require.Empty(t, n.proposals)
}

// TestWhatRaftForgetsWhenItEndsIsAnswered: raft takes entries in its queue after it has ended, and never looks at them.
func TestWhatRaftForgetsWhenItEndsIsAnswered(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	r := n.raft.Load()
	n.stop()
	for range 40 { // raft chooses by chance between its queue and its end
		_, _, err := n.put(r, note("late"))
		require.ErrorIs(t, err, ErrStopped)
	}
	require.Empty(t, n.table.notes())
}
