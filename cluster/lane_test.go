package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func note(text string) []byte { return encodeCommand(tableCommand{Note: text}) }

// proposeAll proposes notes at the same time and returns what came of each.
func proposeAll(ctx context.Context, n *testNode, notes []string) ([]Applied, []error) {
	applied, errs := make([]Applied, len(notes)), make([]error, len(notes))
	var all sync.WaitGroup
	for i, text := range notes {
		all.Go(func() { applied[i], errs[i] = n.Propose(ctx, note(text)) })
	}
	all.Wait()
	return applied, errs
}

func manyNotes(prefix string, count int) (notes []string) {
	for i := range count {
		notes = append(notes, fmt.Sprint(prefix, i))
	}
	return notes
}

// TestCommandsThatWaitShareAnEntry, and each is answered with its own response.
func TestCommandsThatWaitShareAnEntry(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	leader := leaderOf(t, nodes...)
	eventually(t, leader.mayShare)
	before := counted(t, leader.metrics.entries)
	notes := manyNotes("note ", 500)
	applied, errs := proposeAll(t.Context(), leader, notes)
	require.NoError(t, errors.Join(errs...))
	require.Less(t, counted(t, leader.metrics.entries)-before, 250.0)
	for _, n := range nodes {
		eventually(t, func() bool { return len(n.table.notes()) == len(notes) })
		require.Equal(t, leader.table.notes(), n.table.notes(), "all replicas have them in one order")
	}
	for i, a := range applied {
		require.Equal(t, slices.Index(leader.table.notes(), notes[i])+1, a.Response, "the response is that of the command")
		require.LessOrEqual(t, a.Index, leader.table.Applied())
	}
	require.Empty(t, leader.proposals, "every place is given back")

	// A node that starts again knows from its own log that all can read such entries.
	follower := nodes[slices.IndexFunc(nodes, func(n *testNode) bool { return n != leader })]
	follower.restart()
	eventually(t, func() bool { return len(follower.table.notes()) == len(notes) })
	require.True(t, follower.mayShare())
}

// TestNothingIsSharedWhileSomebodyCantReadIt: a cluster is upgraded node by node, and an entry that a build does not know
// stops it.
func TestNothingIsSharedWhileSomebodyCantReadIt(t *testing.T) {
	t.Parallel()
	n1 := newCluster(t, inMemory)
	n1.sharing.Store(false) // as in a node that has just been upgraded
	n2 := &testNode{t: t, o: n1.o, old: true}
	n2.o.NodeID, n2.o.ClusterBind, n2.o.GossipBind, n2.o.Key = "n2", "127.0.0.1:0", "127.0.0.1:0", newKey(t)
	n2.open()
	t.Cleanup(func() { n2.stop() })
	n2.joinBy(n1)
	eventually(t, func() bool {
		return slices.ContainsFunc(n1.Servers(), func(s Server) bool { return s.ID == "n2" && s.Healthy })
	})
	n1.sharing.Store(false)

	notes := manyNotes("note ", 100)
	_, errs := proposeAll(t.Context(), n1, notes)
	require.NoError(t, errors.Join(errs...))
	require.False(t, n1.mayShare())
	require.Zero(t, n1.table.packs)
	eventually(t, func() bool { return len(n2.table.notes()) == len(notes) })
}

// TestALaneFillsEntries looks at what leaves with what.
func TestALaneFillsEntries(t *testing.T) {
	t.Parallel()
	command := func(size int, terms Terms) *proposal { return &proposal{command: make([]byte, size), terms: terms} }
	plain := func(count, size int) (list []*proposal) {
		for range count {
			list = append(list, command(size, Terms{}))
		}
		return list
	}
	alone, a, b := command(10, Terms{Alone: true}), command(10, Terms{Object: "a"}), command(10, Terms{Object: "b"})
	again, large := command(10, Terms{Object: "a"}), command(maxShareable+1, Terms{})
	few := plain(2, 10)
	many, heavy := plain(maxShared+1, 1), plain(7, maxSharedBytes/6)
	for name, c := range map[string]struct{ waiting, entries [][]*proposal }{
		"what waits goes together":         {waiting: [][]*proposal{few}, entries: [][]*proposal{few}},
		"one alone":                        {waiting: [][]*proposal{{few[0], alone, few[1]}}, entries: [][]*proposal{{few[0]}, {alone}, {few[1]}}},
		"one that is large":                {waiting: [][]*proposal{{large, few[1]}}, entries: [][]*proposal{{large}, {few[1]}}},
		"two of one object":                {waiting: [][]*proposal{{a, again, b}}, entries: [][]*proposal{{a, b}, {again}}},
		"no more than a number":            {waiting: [][]*proposal{many}, entries: [][]*proposal{many[:maxShared], many[maxShared:]}},
		"no more than so many bytes":       {waiting: [][]*proposal{heavy}, entries: [][]*proposal{heavy[:6], heavy[6:]}},
		"nothing passes what stands alone": {waiting: [][]*proposal{{a, again, alone, b}}, entries: [][]*proposal{{a}, {again}, {alone}, {b}}},
	} {
		l := new(lane)
		for _, p := range slices.Concat(c.waiting...) {
			l.waiting = append(l.waiting, p)
			l.bytes += len(p.command)
		}
		for i, want := range c.entries {
			require.True(t, slices.Equal(want, l.take(true)), "%s: entry %d", name, i)
		}
		require.Empty(t, l.waiting, name)
		require.Zero(t, l.bytes, name)
	}
	l := &lane{waiting: slices.Clone(few), bytes: 20}
	require.Equal(t, few[:1], l.take(false), "where entries can't be shared")
	require.Equal(t, 10, l.bytes)
}

// TestOnlyWhatIsFullLeavesBehindOthers.
func TestOnlyWhatIsFullLeavesBehindOthers(t *testing.T) {
	t.Parallel()
	small := &proposal{command: []byte{1}}
	for _, c := range []struct {
		name    string
		waiting []*proposal
		out     int
		sharing bool
		leaves  bool
	}{
		{"nothing", nil, 0, true, false},
		{"the first", []*proposal{small}, 0, true, true},
		{"a second", []*proposal{small}, eagerEntries - 1, true, true},
		{"a small one more", []*proposal{small}, eagerEntries, true, false},
		{"a full one more", slices.Repeat([]*proposal{small}, maxShared), eagerEntries, true, true},
		{"one that has to go alone", []*proposal{{terms: Terms{Alone: true}}}, eagerEntries, true, true},
		{"too many", slices.Repeat([]*proposal{small}, maxShared), mostEntries, true, false},
		{"without sharing", []*proposal{small}, 100, false, true},
	} {
		l := &lane{waiting: c.waiting, out: c.out}
		require.Equal(t, c.leaves, l.mayLeave(c.sharing), c.name)
	}
}

// TestWhoGivesUpBeforeItsCommandLeftHasProposedNothing, and whoever gives up after that can't know.
func TestWhoGivesUpBeforeItsCommandLeftHasProposedNothing(t *testing.T) {
	t.Parallel()
	n := newCluster(t, inMemory)
	eventually(t, n.mayShare)
	n.table.mu.Lock() // nothing is applied from here on
	ctx, giveUp := context.WithCancel(t.Context())
	var left, unsent, urgent atomic.Int64
	var all sync.WaitGroup
	propose := func(i int) {
		all.Go(func() {
			switch _, err := n.Propose(ctx, note(fmt.Sprint("ordinary ", i))); {
			case errors.Is(err, ErrOutcomeUnknown):
				left.Add(1)
			case errors.Is(err, ErrTimeout):
				unsent.Add(1)
			}
		})
	}
	waiting := func() int {
		n.ordinary.mu.Lock()
		defer n.ordinary.mu.Unlock()
		return len(n.ordinary.waiting)
	}
	for i := range eagerEntries { // they leave one by one, and fill the way
		propose(i)
		require.Eventually(t, func() bool {
			n.ordinary.mu.Lock()
			defer n.ordinary.mu.Unlock()
			return n.ordinary.out == i+1
		}, patience, time.Millisecond)
	}
	for i := range 20 {
		propose(eagerEntries + i)
	}
	require.Eventually(t, func() bool { return waiting() == 20 }, patience, time.Millisecond)

	// Ordinary commands that wait are in no urgent one's way.
	all.Go(func() {
		if _, err := n.ProposeOn(t.Context(), Terms{Urgent: true}, note("urgent")); err == nil {
			urgent.Add(1)
		}
	})
	require.Eventually(t, func() bool {
		n.urgent.mu.Lock()
		defer n.urgent.mu.Unlock()
		return n.urgent.out == 1
	}, patience, time.Millisecond)

	giveUp()
	require.Eventually(t, func() bool { return left.Load() == eagerEntries && unsent.Load() == 20 }, patience, time.Millisecond)
	n.table.mu.Unlock()
	all.Wait()
	require.Equal(t, int64(1), urgent.Load())
	n.commit(tableCommand{Note: "after"})
	require.Len(t, n.table.notes(), eagerEntries+2, "what had left, the urgent one and the one after: nobody else's")
	eventually(t, func() bool { return len(n.proposals) == 0 }, "every place is given back")
}

// TestLeadershipMayMoveWithSharedEntriesOnTheirWay: whoever was told that a command is applied finds it everywhere, once;
// who was told that nothing was proposed finds it nowhere; and there is no third kind of answer but "unknown".
func TestLeadershipMayMoveWithSharedEntriesOnTheirWay(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	all := nodes
	eventually(t, leaderOf(t, nodes...).mayShare)
	var (
		lock              sync.Mutex
		made, never       []string
		unknown, strangeN int
		strange           error
	)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	for caller := range 64 {
		callers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				text := fmt.Sprintf("%d/%d", caller, i)
				one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
				_, err := all[(caller+i)%len(all)].Propose(one, note(text))
				cancel()
				lock.Lock()
				switch {
				case err == nil:
					made = append(made, text)
				case errors.Is(err, ErrOutcomeUnknown):
					unknown++
				case errors.Is(err, ErrNotLeader), errors.Is(err, ErrTimeout), errors.Is(err, ErrOverloaded), errors.Is(err, ErrStopped):
					never = append(never, text)
				default:
					strangeN++
					strange = err
				}
				lock.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond): // the table finds a note by looking at all
				}
			}
		})
	}
	count := func() int {
		lock.Lock()
		defer lock.Unlock()
		return len(made)
	}
	for i := range 6 {
		so := count()
		eventually(t, func() bool { return count() > so+100 }, "writes go on")
		if i%2 == 0 {
			require.NoError(t, nodes[0].transferTo(nodes[(i/2+1)%3], nodes))
			continue
		}
		// Cut off from one moment to the next: what is on its way is lost or not, and nobody knows.
		leader := leaderOf(t, nodes...)
		for _, c := range leader.port.conns.list() {
			_ = c.Close()
		}
	}
	dead := leaderOf(t, nodes...)
	dead.kill()
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *testNode) bool { return n == dead })
	so := count()
	eventually(t, func() bool { return count() > so+100 }, "writes go on without the one that died")
	stop()
	callers.Wait()
	require.NoError(t, strange, "%d answers of no known kind", strangeN)

	last := nodes[0].commit(tableCommand{Note: "last"})
	want := []string(nil)
	for i, n := range nodes {
		waitCtx, cancel := context.WithTimeout(t.Context(), patience)
		require.NoError(t, n.table.WaitApplied(waitCtx, last))
		cancel()
		if i == 0 {
			want = n.table.notes()
		}
		require.Equal(t, want, n.table.notes())
	}
	have := make(map[string]bool, len(want))
	for _, text := range want {
		have[text] = true
	}
	for _, text := range made {
		require.True(t, have[text], "%s was acknowledged", text)
	}
	for _, text := range never {
		require.False(t, have[text], "%s was refused", text)
	}
	require.NotZero(t, nodes[0].table.packs, "of entries that commands share")
	t.Logf("%d made, %d refused, %d unknown", len(made), len(never), unknown)
}
