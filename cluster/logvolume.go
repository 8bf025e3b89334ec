package cluster

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// logVolume counts what was written to the log. Raft takes a snapshot after so many entries, but what a restart has to
// apply again is measured by what they say: one entry may create a thousand delegations. So this node also takes one
// after so many bytes.
type logVolume struct {
	bytes   atomic.Int64
	before  int64        // of bytes: what was there at the start
	entries atomic.Int64 // since the start
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

// perEntry is how much an entry that was written since the start weighs; 0 where there was none.
func (v *logVolume) perEntry() int64 {
	entries := v.entries.Load()
	if entries == 0 {
		return 0
	}
	return max(1, (v.bytes.Load()-v.before)/entries)
}

const (
	// volumeLook is how often the volume is looked at.
	volumeLook = time.Second
	// volumeRetry is how long a node waits after a snapshot that could not be taken.
	volumeRetry = time.Minute
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
	covered := int64(0) // by the latest snapshot
	spread := 1 + volumeSpread*rand.Float64()
	var refused time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		written := n.stores.volume.bytes.Load()
		if written-covered < n.tuning.SnapshotBytes || time.Since(refused) < volumeRetry ||
			written-covered < int64(float64(n.tailLimit())*spread) {
			continue
		}
		n.boundTrailing()
		// What is written from here on may be in it as well, and is counted for the next.
		if err := n.Snapshot(ctx); err != nil {
			if ctx.Err() == nil {
				n.logger.Error("taking a snapshot of a log that has grown long; the next start takes longer until one succeeds",
					"bytes", written-covered, "error", err)
			}
			refused = time.Now()
			continue
		}
		covered = written
	}
}

func (n *Node) tailLimit() int64 {
	limit := n.tuning.SnapshotBytes
	kept, err := n.stores.snapshots.List()
	if err == nil && len(kept) > 0 {
		limit = max(limit, kept[0].Size/tailShare)
	}
	return limit
}

// leastTrailing is how many entries are kept behind a snapshot whatever they weigh.
const leastTrailing = 512

// boundTrailing has raft keep no more of the log behind a snapshot than may lie before the next one. It counts entries,
// and one that commands share weighs as much as hundreds of others: 32,768 of those would be gigabytes. A follower that
// lacks more is sent the snapshot.
func (n *Node) boundTrailing() {
	r, err := n.active()
	if err != nil {
		return
	}
	each := n.stores.volume.perEntry()
	if each == 0 {
		return
	}
	config := r.ReloadableConfig()
	config.TrailingLogs = min(n.tuning.TrailingLogs, max(leastTrailing, uint64(n.tailLimit()/each)))
	if err := r.ReloadConfig(config); err != nil {
		n.logger.Error("bounding the log behind a snapshot", "error", err)
	}
}
