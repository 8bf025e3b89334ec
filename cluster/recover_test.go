package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// recoveryOptions are those of a node, with a state machine of its own.
func recoveryOptions(n *testNode) Options {
	o := n.o
	t := newTable()
	o.FSM, o.Directory, o.Applied, o.Registerer = t, t, t, nil
	return o
}

func TestOneOfThreeRecoversAloneWithEverythingAcknowledged(t *testing.T) {
	t.Parallel()
	for name, snapshot := range map[string]bool{"from its log": false, "from a snapshot and its log": true} {
		t.Run(name, func(t *testing.T) {
			nodes := threeNodes(t)
			n2 := nodes[1]
			var acknowledged []string
			var index uint64
			for i := range 20 {
				acknowledged = append(acknowledged, fmt.Sprintf("note %d", i))
				index = nodes[0].commit(tableCommand{Note: acknowledged[i]})
				if snapshot && i == 10 {
					require.NoError(t, n2.table.WaitApplied(t.Context(), index))
					require.NoError(t, n2.Snapshot(t.Context()))
				}
			}
			// The operator chooses the node that has come furthest.
			require.NoError(t, n2.table.WaitApplied(t.Context(), index))
			for _, n := range nodes {
				n.kill()
			}
			n2.open()
			n2.start()
			_, err := n2.Propose(t.Context(), encodeCommand(tableCommand{Note: "never"}))
			require.ErrorIs(t, err, ErrNotLeader, "one of three can do nothing")
			require.False(t, n2.Recovering())
			require.ErrorIs(t, RecoverQuorum(recoveryOptions(n2)), ErrDataDirInUse)
			n2.stop()

			require.NoError(t, RecoverQuorum(recoveryOptions(n2)))
			require.NoFileExists(t, filepath.Join(n2.o.DataDir, peersFile))
			info, err := os.Stat(filepath.Join(n2.o.DataDir, recoveryFile))
			require.NoError(t, err)
			require.EqualValues(t, 0o600, info.Mode().Perm())
			require.NoError(t, RecoverQuorum(recoveryOptions(n2)), "what is done is done")

			n2.open()
			require.True(t, n2.HasState())
			n2.start()
			n2.commit(tableCommand{Note: "on"})
			haveNotes(t, append(acknowledged, "on"), n2)
			require.Equal(t, []string{"n2"}, serverIDs(n2))

			// A crash before the owner has said what follows from the loss leaves the mark.
			require.True(t, n2.Recovering())
			n2.kill()
			n2.open()
			n2.start()
			require.True(t, n2.Recovering())
			require.NoError(t, n2.RecoveryDone())
			require.NoError(t, n2.RecoveryDone())
			require.False(t, n2.Recovering())
			n2.restart()
			require.False(t, n2.Recovering())
			n2.commit(tableCommand{Note: "and on"})

			// It has its quorum now: doing it once more would do damage, as soon as others have joined.
			n2.stop()
			require.ErrorIs(t, RecoverQuorum(recoveryOptions(n2)), ErrNothingToRecover)
			require.NoFileExists(t, filepath.Join(n2.o.DataDir, recoveryFile))

			n2.open()
			n2.start()
			eventually(t, n2.IsLeader)
			n4 := n2.join("n4")
			haveNotes(t, append(acknowledged, "on", "and on"), n4)
		})
	}
}

// crash is what a store does at the moment at which the machine loses power.
var errCrash = errors.New("the machine lost power")

type crashingSnapshots struct {
	raft.SnapshotStore
	before, after bool
}

func (c *crashingSnapshots) Create(v raft.SnapshotVersion, index, term uint64, config raft.Configuration, configIndex uint64, tr raft.Transport) (raft.SnapshotSink, error) {
	sink, err := c.SnapshotStore.Create(v, index, term, config, configIndex, tr)
	return &crashingSink{sink, c}, err
}

type crashingSink struct {
	raft.SnapshotSink
	c *crashingSnapshots
}

func (s *crashingSink) Close() error {
	if s.c.before {
		return errCrash
	}
	if err := s.SnapshotSink.Close(); err != nil || !s.c.after {
		return err
	}
	return errCrash
}

type crashingLog struct{ raft.LogStore }

func (crashingLog) DeleteRange(_, _ uint64) error { return errCrash }

func TestRecoveryGoesOnWhereItWasBrokenOff(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	index := nodes[0].commit(tableCommand{Note: "kept"})
	n2 := nodes[1]
	require.NoError(t, n2.table.WaitApplied(t.Context(), index))
	eventually(t, func() bool { return len(n2.roster.seed.Load().Members) == 3 })
	for _, n := range nodes {
		n.stop()
	}
	left := &leftBehind{t: t, o: n2.o}

	for name, crash := range map[string]func(t *testing.T, r *recovery){
		"after the mark":          func(_ *testing.T, r *recovery) { r.rewrite = func() error { return errCrash } },
		"before the snapshot":     func(_ *testing.T, r *recovery) { r.s.snapshots = &crashingSnapshots{r.s.snapshots, true, false} },
		"after the snapshot":      func(_ *testing.T, r *recovery) { r.s.snapshots = &crashingSnapshots{r.s.snapshots, false, true} },
		"before the log is empty": func(_ *testing.T, r *recovery) { r.s.logs = crashingLog{r.s.logs} },
		"after the log is empty": func(_ *testing.T, r *recovery) {
			rewrite := r.rewrite
			r.rewrite = func() error { return errors.Join(rewrite(), errCrash) }
		},
		"after the peers are gone": func(t *testing.T, r *recovery) {
			rewrite := r.rewrite
			r.rewrite = func() error {
				return errors.Join(rewrite(), os.Remove(filepath.Join(r.dir.path, peersFile)), errCrash)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			r, err := beginRecovery(&o)
			require.NoError(t, err)
			crash(t, r)
			require.ErrorContains(t, r.run(), errCrash.Error())
			require.NoError(t, r.close())

			// Neither the old cluster nor the new: the node doesn't run on this.
			_, err = New(left.with(o))
			require.ErrorIs(t, err, ErrCorruptFolder)
			require.ErrorContains(t, err, "run the recovery again")

			require.NoError(t, RecoverQuorum(left.with(o)))
			again := left.with(o)
			n, err := New(again)
			require.NoError(t, err)
			require.True(t, n.Recovering())
			require.NoError(t, n.Start(t.Context()))
			eventually(t, n.IsLeader)
			require.NoError(t, n.Barrier(t.Context()))
			require.Equal(t, []string{"kept"}, again.FSM.(*table).notes())
			require.NoError(t, n.Stop(context.WithoutCancel(t.Context())))
		})
	}
}

// with is the same folder with an empty state machine.
func (l *leftBehind) with(o Options) Options {
	t := newTable()
	o.FSM, o.Directory, o.Applied = t, t, t
	return o
}

func TestRecoveryRefusesWhatItCannotRecover(t *testing.T) {
	t.Parallel()
	t.Run("no such folder", func(t *testing.T) {
		o := recoveryOptions(newNode(t, "n1"))
		o.DataDir = filepath.Join(t.TempDir(), "mistyped")
		require.ErrorIs(t, RecoverQuorum(o), os.ErrNotExist)
		require.NoDirExists(t, o.DataDir)
	})
	t.Run("nobody's folder", func(t *testing.T) {
		o := recoveryOptions(newNode(t, "n1"))
		o.DataDir = t.TempDir()
		require.ErrorContains(t, RecoverQuorum(o), "no node's data")
	})
	t.Run("another node's folder", func(t *testing.T) {
		left := leave(t, 0, 1)
		o := left.copied()
		o.NodeID = "n9"
		require.ErrorIs(t, RecoverQuorum(o), ErrForeignFolder)
		require.NoFileExists(t, filepath.Join(o.DataDir, recoveryFile))
	})
	t.Run("nothing received", func(t *testing.T) {
		n := newNode(t, "n1")
		n.stop()
		require.ErrorContains(t, RecoverQuorum(recoveryOptions(n)), "recover another one")
	})
	t.Run("damaged", func(t *testing.T) {
		left := leave(t, 0, 1)
		o := left.copied()
		spoil(t, filepath.Join(o.DataDir, logFile), func([]byte) []byte { return nil })
		require.ErrorIs(t, RecoverQuorum(o), ErrCorruptFolder)
		require.NoFileExists(t, filepath.Join(o.DataDir, recoveryFile))
	})
	t.Run("in memory", func(t *testing.T) {
		require.Error(t, RecoverQuorum(Options{NodeID: "n1", InMemory: true}))
	})
}

// Peers that can't be read are no obstacle: they are about to be forgotten.
func TestRecoveryNeedsNoPeers(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	eventually(t, func() bool { return len(nodes[1].table.Members()) == 3 })
	for _, n := range nodes {
		n.stop()
	}
	n2 := nodes[1]
	spoil(t, filepath.Join(n2.o.DataDir, peersFile), garbage)
	require.NoError(t, RecoverQuorum(recoveryOptions(n2)))
	n2.open()
	n2.start()
	eventually(t, n2.IsLeader)
}
