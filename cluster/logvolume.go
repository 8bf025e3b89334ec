package cluster

import (
	"context"
	"sync/atomic"
	"time"
)

// logVolume counts what was written to the log. Raft takes a snapshot after so many entries, but what a restart has to
// apply again is measured by what they say: one entry may create a thousand delegations. So this node also takes one
// after so many bytes.
type logVolume struct{ bytes atomic.Int64 }

// volumeLook is how often the volume is looked at.
const volumeLook = time.Second

// tailShare is the part of a snapshot that the log behind it may grow to, where that is more than Tuning.SnapshotBytes: to
// write a large snapshot again for little would cost more than it saves.
const tailShare = 8

// keepTailShort takes a snapshot whenever the log behind the latest one has grown long.
func (n *Node) keepTailShort(ctx context.Context) {
	ticker := time.NewTicker(volumeLook)
	defer ticker.Stop()
	covered := int64(0) // by the latest snapshot
	limit := n.tailLimit()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		written := n.stores.volume.bytes.Load()
		if written-covered < limit {
			continue
		}
		// What is written from here on may be in it as well, and is counted for the next.
		if err := n.Snapshot(ctx); err != nil && ctx.Err() == nil {
			n.logger.Error("taking a snapshot of a log that has grown long; the next start takes longer until one succeeds",
				"bytes", written-covered, "error", err)
		}
		covered = written // also after a failure: to write again at once what did not fit would help nobody
		limit = n.tailLimit()
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
