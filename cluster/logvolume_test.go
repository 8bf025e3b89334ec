package cluster

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// A few entries may say a great deal. A restart should not have to apply all of it again.
func TestALogThatGrowsByBytesIsCutByASnapshot(t *testing.T) {
	t.Parallel()
	n := newCluster(t, func(o *Options) { o.Tuning.SnapshotBytes, o.Tuning.TrailingLogs = 64<<10, 900 })
	snapshots := func() int { return wholeSnapshots(n) }
	for range 3 {
		n.commit(tableCommand{Note: "short"})
	}
	require.Zero(t, snapshots(), "three short entries are no reason")

	n.commit(tableCommand{Note: strings.Repeat("long ", 16<<10)})

	eventually(t, func() bool { return snapshots() == 1 })
	kept := func() uint64 { return n.raft.Load().ReloadableConfig().TrailingLogs }
	require.Equal(t, uint64(leastTrailing), kept(), "of entries as long as that, few are kept behind a snapshot")

	n.commit(tableCommand{Note: "short again"})
	eventually(t, func() bool { return kept() == n.tuning.TrailingLogs }, "a burst that is over holds down nothing")
}

// TestHowMuchIsKeptGoesByWhatWasWrittenOfLate: neither does a quiet month let packs pile up, nor a burst of them keep few
// entries for ever.
func TestHowMuchIsKeptGoesByWhatWasWrittenOfLate(t *testing.T) {
	t.Parallel()
	n := &Node{tuning: Tuning{}.withDefaults(), stores: &stores{snapshots: raft.NewInmemSnapshotStore()}}
	most, limit := n.tuning.TrailingLogs, n.tuning.SnapshotBytes
	var (
		v       = &n.stores.volume
		log     []int64 // the weight of each entry that is kept
		weight  int64
		from    = v.origin()
		kept    = most
		written = func(entries int, size int64) {
			batch := make([]*raft.Log, entries)
			for i := range batch {
				batch[i] = &raft.Log{Data: make([]byte, size)}
				log = append(log, size)
			}
			v.add(batch)
			weight += int64(entries) * size
		}
		snapshot = func() {
			for uint64(len(log)) > kept {
				weight -= log[0]
				log = log[1:]
			}
		}
		look = func() {
			now := v.mark()
			if count, ok := n.trailing(now, from); ok {
				kept = count
			}
			if now.bytes-from.bytes >= limit {
				snapshot()
				from = now
			}
		}
		quiet = func(looks int) {
			for range looks {
				written(100, 60)
				look()
			}
		}
	)
	quiet(26_000) // 2.6 million ticks
	snapshot()
	require.Equal(t, most, kept)
	for i := range 400 {
		written(10, 60<<10)
		look()
		if i%7 == 0 {
			snapshot() // by raft itself
			require.Less(t, weight, 9*limit/4)
		}
	}
	require.Less(t, kept, uint64(1_200), "packs of 60 KiB in 64 MiB")
	quiet(1_000)
	require.Equal(t, most, kept)
	snapshot()
	require.Less(t, weight, 9*limit/4)
}

// What is short to say may be long to apply.
func TestALogThatTakesLongToApplyIsCutByASnapshot(t *testing.T) {
	t.Parallel()
	n := newCluster(t, func(o *Options) { o.Tuning.SnapshotApply = time.Nanosecond })
	n.commit(tableCommand{Note: "short"})
	eventually(t, func() bool { return wholeSnapshots(n) > 0 })
}

// behind is a state machine that has yet to apply what the log says, and is at it, for who asks how far it is.
type behind struct {
	Progress
	held  atomic.Bool
	since time.Time
}

func (b *behind) Applied() uint64 {
	if b.held.Load() {
		return uint64(time.Since(b.since) / (500 * time.Millisecond)) // further at each look, which are a second apart
	}
	return b.Progress.Applied()
}

func TestNoSnapshotIsWrittenWhileAStartAppliesTheLog(t *testing.T) {
	t.Parallel()
	n := newCluster(t)
	for range 60 { // more than half a minute's, at the rate of behind
		n.commit(tableCommand{Note: "short"})
	}
	n.stop()
	n.o.Tuning.SnapshotBytes = 1
	n.open()
	progress := &behind{Progress: n.table, since: time.Now()}
	progress.held.Store(true)
	n.Node.o.Applied = progress
	n.start()
	n.commit(tableCommand{Note: "short again"})

	n.newTail().look(t.Context())
	require.Zero(t, wholeSnapshots(n))

	progress.held.Store(false)
	eventually(t, func() bool { return wholeSnapshots(n) > 0 })
}

func TestWhenALogHasBeenAppliedAgain(t *testing.T) {
	t.Parallel()
	underWay := replay{had: 100, applied: 40, before: 30, handedOut: 90, last: 120, took: 4, most: 5}
	for name, c := range map[string]struct {
		change func(*replay)
		over   bool
	}{
		"it is under way":                      {func(*replay) {}, false},
		"all of it is":                         {func(r *replay) { r.applied = 100 }, true},
		"raft has handed all out, not yet":     {func(r *replay) { r.handedOut = 100 }, false},
		"it ends with entries of raft's own":   {func(r *replay) { r.handedOut, r.applied, r.before = 100, 98, 98 }, true},
		"one entry takes long":                 {func(r *replay) { r.before = 40 }, false},
		"nothing was applied yet":              {func(r *replay) { r.handedOut, r.applied, r.before = 100, 0, math.MaxUint64 }, false},
		"its end was never committed":          {func(r *replay) { r.last = 99 }, true},
		"it takes so long that it may not end": {func(r *replay) { r.took = 5 }, true},
	} {
		r := underWay
		c.change(&r)
		require.Equal(t, c.over, over(r), name)
	}
}

// Raft's own entries come to no state machine: a log that ends with one is applied all the same.
func TestAStartIsOverWhereTheLogEndsWithEntriesOfRaftsOwn(t *testing.T) {
	t.Parallel()
	n := newCluster(t)
	n.commit(tableCommand{Note: "the last one"})
	for range 2 {
		n.stop()
		n.open()
		n.start()
		eventually(t, n.IsLeader)
	}
	last := n.newTail()
	eventually(t, func() bool { return !last.repeating(0) })
}

func wholeSnapshots(n *testNode) int {
	found, err := os.ReadDir(filepath.Join(n.o.DataDir, snapshotFolder))
	if err != nil {
		return 0
	}
	whole := 0
	for _, entry := range found {
		if _, _, ok := parseSnapshotName(entry.Name()); ok {
			whole++
		}
	}
	return whole
}
