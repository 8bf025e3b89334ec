package cluster

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// logVolume counts what was written to the log. Raft takes a snapshot after so many entries, but what a restart has to
// apply again is measured by what they say: one entry may create a thousand delegations. So this node also takes one
// after so many bytes, and after so much time of applying: a revocation is far shorter than a delegation, and takes as long.
type logVolume struct {
	bytes   atomic.Int64
	before  int64        // of bytes: what was there at the start
	entries atomic.Int64 // since the start

	// applied is how many nanoseconds it has taken since the start to apply entries, what lay behind the snapshot then
	// included.
	applied atomic.Int64
}

func (v *logVolume) begin(behind int64) {
	v.before = behind
	v.bytes.Store(behind)
}

func (v *logVolume) add(entries []*raft.Log) {
	total := 0
	for _, entry := range entries {
		total += len(entry.Data)
	}
	v.bytes.Add(int64(total))
	v.entries.Add(int64(len(entries)))
}

// volumeMark is how much had been written at some time.
type volumeMark struct{ bytes, entries int64 }

// origin is the mark of the start.
func (v *logVolume) origin() volumeMark { return volumeMark{bytes: v.before} }

func (v *logVolume) mark() volumeMark {
	return volumeMark{bytes: v.bytes.Load(), entries: v.entries.Load()}
}

// entriesIn is how many entries as heavy as those that were written since from fit in so many bytes; ok is false where
// there were none.
func (m volumeMark) entriesIn(limit int64, from volumeMark) (count int64, ok bool) {
	entries := m.entries - from.entries
	if entries <= 0 {
		return 0, false
	}
	return limit / max(1, (m.bytes-from.bytes)/entries), true
}

const (
	// volumeLook is how often the volume is looked at.
	volumeLook = time.Second
	// volumeRetry is how long a node waits after a snapshot that could not be taken.
	volumeRetry = time.Minute
	// repeatShare is how many times Tuning.SnapshotApply a start may take to apply the log before it takes a snapshot.
	repeatShare = 5
	// tailShare is the part of a snapshot that the log behind it may grow to, where that is more than
	// Tuning.SnapshotBytes: to write a large snapshot again for little would cost more than it saves.
	tailShare = 8
	// volumeSpread keeps the nodes of a cluster, which all count the same bytes, from writing their snapshots in the same
	// second: each adds a part of its own, up to this share of the limit.
	volumeSpread = 0.25
)

// keepTailShort takes a snapshot whenever the log behind the latest one has grown long.
func (n *Node) keepTailShort(ctx context.Context) {
	ticker := time.NewTicker(volumeLook)
	defer ticker.Stop()
	t := n.newTail()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.look(ctx)
		}
	}
}

// tail is the log behind the latest snapshot that was taken here.
type tail struct {
	node                 *Node
	covered, coveredTime int64 // by that snapshot
	from                 volumeMark
	spread               float64
	refused              time.Time
	took                 time.Duration // to write it

	repeated bool   // what the log had at the start
	applied  uint64 // as of the last look; before the first one no index that there is
}

func (n *Node) newTail() *tail {
	return &tail{node: n, from: n.stores.volume.origin(), spread: 1 + volumeSpread*rand.Float64(), applied: math.MaxUint64}
}

// look takes a snapshot if the tail has grown long.
func (t *tail) look(ctx context.Context) {
	n := t.node
	now := n.stores.volume.mark()
	n.boundTrailing(now, t.from)
	written, applied := now.bytes, n.stores.volume.applied.Load()
	if t.repeating(applied) {
		return
	}
	long := written-t.covered >= n.tuning.SnapshotBytes && written-t.covered >= int64(float64(n.tailLimit())*t.spread)
	// What takes long to write is not written for every little that a start would have to apply.
	slow := applied-t.coveredTime >= int64(float64(max(n.tuning.SnapshotApply, t.took/2))*t.spread)
	if !long && !slow || time.Since(t.refused) < volumeRetry {
		return
	}
	// What is written from here on may be in it as well, and is counted for the next.
	began := time.Now()
	if err := n.Snapshot(ctx); err != nil {
		if ctx.Err() == nil {
			n.logger.Error("taking a snapshot of a log that has grown long; the next start takes longer until one succeeds",
				"bytes", written-t.covered, "applying", time.Duration(applied-t.coveredTime), "error", err)
		}
		t.refused = time.Now()
		return
	}
	t.covered, t.coveredTime, t.from, t.took = written, applied, now, time.Since(began)
}

// repeating reports whether what the log had at the start is still being applied again, which has taken so many nanoseconds.
// A snapshot of a large state takes a processor for as long as that takes, and the node is not ready before it is done: the
// snapshot may well come after. But a start that takes very long leaves one on its way, for the case that it is broken off.
func (t *tail) repeating(took int64) bool {
	if t.repeated {
		return false
	}
	n := t.node
	r := n.raft.Load()
	if r == nil {
		return true
	}
	applied := n.o.Applied.Applied()
	t.repeated = over(replay{
		had: n.stores.had, applied: applied, before: t.applied, handedOut: r.AppliedIndex(), last: r.LastIndex(),
		took: took, most: repeatShare * int64(n.tuning.SnapshotApply),
	})
	t.applied = applied
	return !t.repeated
}

// replay is how far the log that there was at a start has been applied again.
type replay struct {
	had             uint64 // index of its last entry
	applied, before uint64 // by the state machine, now and a look ago
	handedOut       uint64 // by raft to the state machine; its own entries count as such
	last            uint64 // index of the last entry that there is now
	took, most      int64  // nanoseconds
}

// over reports whether nothing is to be put off any more for its sake.
func over(r replay) bool {
	return r.applied >= r.had ||
		r.last < r.had || // its end was never committed, and is gone
		r.handedOut >= r.had && r.applied == r.before || // it ends with entries of raft's own, which no state machine sees
		r.took >= r.most
}

// SnapshotBytes is the size of the snapshot from which Start restores the state; 0 where there is none.
func (n *Node) SnapshotBytes() int64 {
	kept, err := n.stores.snapshots.List()
	if err != nil || len(kept) == 0 {
		return 0
	}
	return kept[0].Size
}

func (n *Node) tailLimit() int64 {
	return max(n.tuning.SnapshotBytes, n.SnapshotBytes()/tailShare)
}

// leastTrailing is how many entries are kept behind a snapshot whatever they weigh.
const leastTrailing = 512

// boundTrailing has raft keep no more of the log behind a snapshot than may lie before the next one. It counts entries,
// and one that commands share weighs as much as hundreds of others: 32,768 of those would be gigabytes. A follower that
// lacks more is sent the snapshot.
//
// What is weighed is what was written since the latest snapshot that was taken here. Over a longer time a quiet month would
// outweigh a burst. And less than that need not be: a snapshot that raft takes by itself in between, behind which it keeps
// 32,768 entries once more, leaves at most what was left by the one before and has been written since.
func (n *Node) boundTrailing(now, from volumeMark) {
	r, err := n.active()
	if err != nil {
		return
	}
	config := r.ReloadableConfig()
	trailing, ok := n.trailing(now, from)
	if !ok || trailing == config.TrailingLogs {
		return
	}
	config.TrailingLogs = trailing
	if err := r.ReloadConfig(config); err != nil {
		n.logger.Error("bounding the log behind a snapshot", "error", err)
	}
}

func (n *Node) trailing(now, from volumeMark) (count uint64, ok bool) {
	fit, ok := now.entriesIn(n.tuning.SnapshotBytes, from)
	if ok && uint64(fit) < n.tuning.TrailingLogs { // only then is it worth a look at the disk
		fit, ok = now.entriesIn(n.tailLimit(), from)
	}
	return min(n.tuning.TrailingLogs, max(leastTrailing, uint64(fit))), ok
}
