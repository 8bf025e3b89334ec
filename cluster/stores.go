package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bolterrors "go.etcd.io/bbolt/errors"
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
	volume    logVolume
	had       uint64 // index of the last entry that there was at the start; 0 in memory
}

func openStores(dir *dataDir, stall *stallWatch, logger hclog.Logger) (*stores, error) {
	if dir == nil {
		memory := raft.NewInmemStore()
		return &stores{logs: memory, stable: memory, snapshots: raft.NewInmemSnapshotStore()}, nil
	}
	s := &stores{}
	err := guarded(dir.file(logFile), func() error { return s.open(dir, stall, logger) })
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stores) open(dir *dataDir, stall *stallWatch, logger hclog.Logger) error {
	db, err := openLog(dir)
	if err != nil {
		return err
	}
	s.closer, s.stable = db, db
	if s.logs, err = CachedLog(&watchedLog{LogStore: db, stall: stall, volume: &s.volume}); err != nil {
		return fmt.Errorf("making the log cache: %w", err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir.path, snapshotsRetained, logger)
	if err != nil {
		// Raft has written down the cause and thrown it away; the folder gives it again.
		if own := os.Mkdir(filepath.Join(dir.file(snapshotFolder), "probe"+unfinished), 0o700); own != nil {
			err = own
		}
		return folderError("opening the snapshots in "+dir.file(snapshotFolder), err)
	}
	kept := &snapshots{FileSnapshotStore: files, folder: dir.file(snapshotFolder), stable: db}
	s.snapshots = kept
	if err := checkState(dir, db, db, kept, logger); err != nil {
		return err
	}
	s.volume.begin(kept.behind)
	s.had = kept.last
	if dir.offline {
		return nil
	}
	if err := dir.removeUnfinished(logger); err != nil {
		return err
	}
	return s.knowsItsWay(dir, logger)
}

// openLog opens the log, or makes it in a folder that never had one.
func openLog(dir *dataDir) (*raftboltdb.BoltStore, error) {
	path := dir.file(logFile)
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, corrupt(path, "is not a file", "move it away; "+adviceRejoin)
	case err == nil:
		// bbolt would take an empty file for a new one, and this node for one that has promised nothing yet.
		if broken := checkBolt(path); errors.Is(broken, fs.ErrPermission) {
			return nil, folderError("opening the log", broken)
		} else if broken != nil && dir.used() {
			return nil, corrupt(path, "is damaged ("+broken.Error()+")", adviceRejoin)
		} else if broken != nil { // the very first start was cut short
			if err := dir.remove(logFile); err != nil {
				return nil, folderError("beginning the log anew", err)
			}
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, folderError("opening the log", err)
	case dir.used():
		return nil, corrupt(path, "is missing", adviceRejoin)
	}
	db, err := raftboltdb.New(logOptions(path))
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s is open elsewhere; stop that process", ErrDataDirInUse, path)
	}
	var system syscall.Errno
	if errors.As(err, &system) { // no rights, no room, no memory
		return nil, folderError("opening the log "+path, err)
	}
	if err != nil {
		return nil, corrupt(path, "is damaged ("+err.Error()+")", adviceRejoin)
	}
	if err := dir.logMade(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// configuration is the latest of raft's configurations that this node knows, committed or not.
func (s *stores) configuration() (raft.Configuration, error) {
	first, err := s.logs.FirstIndex()
	if err != nil {
		return raft.Configuration{}, fmt.Errorf("reading the log: %w", err)
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return raft.Configuration{}, fmt.Errorf("reading the log: %w", err)
	}
	kept, err := s.snapshots.List()
	if err != nil {
		return raft.Configuration{}, fmt.Errorf("reading the snapshots: %w", err)
	}
	var newest raft.SnapshotMeta
	if len(kept) > 0 {
		newest = *kept[0]
	}
	for index := last; index >= max(first, newest.Index+1); index-- { // both are at least 1
		var entry raft.Log
		if err := s.logs.GetLog(index, &entry); err != nil {
			return raft.Configuration{}, fmt.Errorf("reading the log at index %d: %w", index, err)
		}
		if entry.Type == raft.LogConfiguration {
			return raft.DecodeConfiguration(entry.Data), nil
		}
	}
	return newest.Configuration, nil
}

func isAlone(config raft.Configuration, id string) bool {
	return len(config.Servers) == 1 && string(config.Servers[0].ID) == id
}

// knowsItsWay decides what becomes of a node that has no list of peers, or one that can't be read. The list is a
// copy of the table of members, but until the log is replayed there is no other, nobody is let in without it, and
// the log isn't replayed before the leader was let in. So it can be done without only where there is a snapshot,
// which has a table, where there is nobody to let in, or where nothing was ever received.
func (s *stores) knowsItsWay(dir *dataDir, logger hclog.Logger) error {
	bad := dir.peersBad
	if bad == nil && dir.has(peersFile) {
		return nil
	}
	config, err := s.configuration()
	if err != nil {
		return err
	}
	kept, err := s.snapshots.List()
	if err != nil {
		return fmt.Errorf("reading the snapshots: %w", err)
	}
	path := dir.file(peersFile)
	if len(kept) == 0 && len(config.Servers) > 0 && !isAlone(config, dir.identity.NodeID) {
		what := "is missing"
		if bad != nil {
			what = "can't be read (" + bad.Error() + ")"
		}
		return corrupt(path, what+", and without it this node would let nobody in",
			"copy "+peersFile+" from any other member of the same cluster into this folder and start again")
	}
	if bad == nil {
		return nil
	}
	logger.Warn("the list of peers can't be read and is put aside; the table of members will do", "file", path, "error", bad)
	if err := os.Rename(path, path+".damaged"); err != nil {
		return folderError("putting a damaged list of peers aside", err)
	}
	return syncFolder(dir.path)
}

func (s *stores) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// watchedLog raises the alarm when one write to the log takes too long, and counts what is written.
type watchedLog struct {
	raft.LogStore
	stall  *stallWatch
	volume *logVolume
}

func (l *watchedLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l *watchedLog) StoreLogs(entries []*raft.Log) error {
	l.volume.add(entries)
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
