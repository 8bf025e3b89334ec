package cluster

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// logVolume counts what was written to the log. Raft takes a snapshot after so many entries, but what a restart has to
// apply again is measured by what they say: one entry may create a thousand delegations. So this node also takes one
// after so many bytes.
type logVolume struct{ bytes atomic.Int64 }

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
