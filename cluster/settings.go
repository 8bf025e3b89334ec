package cluster

import (
	"io"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// This is how raft and its log are set, in one place: a benchmark that compares the cluster with bare raft runs that
// with the very same settings.

// maxAppended is how many entries go to a follower in one request. It has raftTimeout for it, and writes it to its log
// in one go: what is too much for that is sent again and again, and the follower never catches up. Raft's queue of
// entries that nothing was done about yet is as long.
const maxAppended = 64

// raftTimeout bounds a request to another node's raft, of whatever size, but for a snapshot.
const raftTimeout = 10 * time.Second

// RaftConfig is how a node of a cluster with so many members runs raft.
func (t Tuning) RaftConfig(id string, members int) *raft.Config {
	t = t.withDefaults()
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.ProtocolVersion = 3
	c.PreVoteDisabled = false
	c.BatchApplyCh = true
	c.MaxAppendEntries = maxAppended
	c.HeartbeatTimeout = t.HeartbeatTimeout
	c.ElectionTimeout = t.ElectionTimeout
	c.LeaderLeaseTimeout = t.LeaderLeaseTimeout
	c.CommitTimeout = t.commitTimeout(members)
	c.SnapshotThreshold = t.SnapshotThreshold
	c.SnapshotInterval = t.SnapshotInterval
	c.TrailingLogs = t.TrailingLogs
	c.ShutdownOnRemove = false // the owner stops a removed node, and can say why
	return c
}

// TransportConfig is how nodes speak raft with each other; the stream is the caller's to add.
func TransportConfig() *raft.NetworkTransportConfig {
	return &raft.NetworkTransportConfig{
		MaxPool:         3, // replication, heartbeats, votes
		MaxRPCsInFlight: 1, // no pipelining: it gains nothing with batches and can wedge after a stall
		Timeout:         raftTimeout,
	}
}

// BareLog is a log on disk, and the vote, without the checks that a node makes of its folder.
type BareLog interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// OpenBareLog opens the log at a path, or makes it, for who measures what it costs.
func OpenBareLog(path string) (BareLog, error) { return raftboltdb.New(logOptions(path)) }

// CachedLog is a log as raft is given it: followers that keep up are served from memory.
func CachedLog(log raft.LogStore) (raft.LogStore, error) {
	return raft.NewLogCache(logCacheEntries, log)
}

// logOptions of boltdb. After a burst was truncated away, writing out a list of free pages with every append made
// appends twelve times slower. The map rebuilds it on opening.
func logOptions(path string) raftboltdb.Options {
	return raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout:        time.Second, // the folder's lock is held, so only a backup tool could be in the way
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	}
}
