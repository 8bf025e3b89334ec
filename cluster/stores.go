package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	logCacheEntries   = 512 // followers that keep up are served from memory
	snapshotsRetained = 2   // the newest, and one more should it be damaged
)

// stores are where raft keeps the log, its vote and its snapshots.
type stores struct {
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	closer    io.Closer
}

func openStores(dir *dataDir, stall *stallWatch, logger hclog.Logger) (*stores, error) {
	if dir == nil {
		memory := raft.NewInmemStore()
		return &stores{logs: memory, stable: memory, snapshots: raft.NewInmemSnapshotStore()}, nil
	}
	// After a burst was truncated away, writing out a list of free pages with every append made appends
	// twelve times slower. The map rebuilds it on opening.
	db, err := raftboltdb.New(raftboltdb.Options{
		Path: dir.file(logFile),
		BoltOptions: &bbolt.Options{
			Timeout:        time.Second, // the folder's lock is held, so only a backup tool could be in the way
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("opening the log %s: %w", dir.file(logFile), err)
	}
	cached, err := raft.NewLogCache(logCacheEntries, &watchedLog{LogStore: db, stall: stall})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the log cache: %w", err), db.Close())
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir.path, snapshotsRetained, logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the snapshots: %w", err), db.Close())
	}
	return &stores{logs: cached, stable: db, snapshots: snapshots, closer: db}, nil
}

func (s *stores) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// watchedLog raises the alarm when one write to the log takes too long.
type watchedLog struct {
	raft.LogStore
	stall *stallWatch
}

func (l *watchedLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l *watchedLog) StoreLogs(entries []*raft.Log) error {
	defer l.stall.begin()()
	return l.LogStore.StoreLogs(entries)
}

// stallWatch calls its hook once, when something that began has not ended within the limit.
type stallWatch struct {
	limit time.Duration
	hook  func(elapsed time.Duration)
	once  sync.Once
}

func (w *stallWatch) begin() (end func()) {
	timer := time.AfterFunc(w.limit, func() { w.once.Do(func() { w.hook(w.limit) }) })
	return func() { timer.Stop() }
}
