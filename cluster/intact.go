package cluster

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// snapshotKey is where the stable store keeps the index of the newest snapshot that was ever finished here. What
// a snapshot covers is deleted from the log, so if that snapshot is lost the log alone must not pass for the state.
var snapshotKey = []byte("deputy.snapshot")

// snapshots is raft's store of them in files, with a memory of what there was.
type snapshots struct {
	*raft.FileSnapshotStore
	folder string
	stable raft.StableStore

	// As they were at start. While raft restores, it goes on to an older snapshot where a newer one can't be read,
	// whether or not the log still has what lies between the two.
	newest, first, last uint64
	behind              int64 // bytes of the log behind the newest
}

// Open refuses a snapshot from which the node would come back as it was in the past.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if _, index, ok := parseSnapshotName(id); ok && index < s.newest && (s.first > index+1 || s.last < s.newest) {
		return nil, nil, fmt.Errorf("snapshot %s is older than one at index %d that can't be read, and the log doesn't fill the gap", id, s.newest)
	}
	return s.FileSnapshotStore.Open(id)
}

// Create notes the index of a snapshot once it is finished, before anything is deleted from the log.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil {
		return nil, err
	}
	return &notedSink{SnapshotSink: sink, done: func() error { return s.note(index) }}, nil
}

// note keeps the index of the newest snapshot. One that comes late, and that the state machine is going to refuse, is older.
func (s *snapshots) note(index uint64) error {
	if noted, err := s.stable.GetUint64(snapshotKey); err == nil && noted >= index {
		return nil
	}
	return s.stable.SetUint64(snapshotKey, index)
}

type notedSink struct {
	raft.SnapshotSink
	done func() error
}

func (s *notedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	return s.done()
}

// parseSnapshotName takes apart raft's term-index-milliseconds.
func parseSnapshotName(name string) (term, index uint64, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	term, err1 := strconv.ParseUint(parts[0], 10, 64)
	index, err2 := strconv.ParseUint(parts[1], 10, 64)
	return term, index, err1 == nil && err2 == nil
}

// check reads a snapshot to its end. Raft's checksum covers the state and not the description beside it, whose
// index and members count as much; the name and a rule of this package repeat what it says.
func (s *snapshots) check(id string) (*raft.SnapshotMeta, error) {
	term, index, ok := parseSnapshotName(id)
	if !ok {
		return nil, errors.New("its name is not that of a snapshot")
	}
	meta, content, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, err
	}
	if err := content.Close(); err != nil {
		return nil, err
	}
	sound := meta.ID == id && meta.Term == term && meta.Index == index && meta.Version == raft.SnapshotVersionMax &&
		meta.ConfigurationIndex <= index && len(meta.Configuration.Servers) > 0
	for _, server := range meta.Configuration.Servers {
		sound = sound && server.Address == raftAddress(string(server.ID))
	}
	if !sound {
		return nil, errors.New("its meta.json contradicts itself")
	}
	return meta, nil
}

// checkState refuses a folder that would let this node start from less than it has acknowledged. The log, the
// snapshots and the vote belong together; a node that lost one of them and goes on with the rest may vote for a
// leader that lacks committed entries.
func checkState(dir *dataDir, logs raft.LogStore, stable raft.StableStore, s *snapshots, logger hclog.Logger) error {
	found, err := readState(dir, logs, stable)
	if err != nil {
		return err
	}
	damaged, err := s.pick(found)
	if err != nil {
		return err
	}
	for id, why := range damaged {
		logger.Warn("a snapshot can't be read; the log has all of it, so the snapshot is put aside", "snapshot", id, "error", why)
		if err := s.putAside(id, dir.file(damagedFolder)); err != nil {
			return folderError("putting a damaged snapshot aside", err)
		}
	}
	s.behind, err = checkEntries(dir, logs, s.newest+1, found.last)
	return err
}

// logState is what the log says about itself.
type logState struct {
	first, last uint64 // 0: empty
	term        uint64
	lastTerm    uint64
	noted       uint64 // index of the newest snapshot that there ever was
}

func readState(dir *dataDir, logs raft.LogStore, stable raft.StableStore) (f logState, err error) {
	path := dir.file(logFile)
	if f.first, err = logs.FirstIndex(); err == nil {
		f.last, err = logs.LastIndex()
	}
	if err != nil {
		return f, corrupt(path, fmt.Sprintf("can't be read (%v)", err), adviceRejoin)
	}
	for key, to := range map[string]*uint64{"CurrentTerm": &f.term, string(snapshotKey): &f.noted} {
		value, err := stable.Get([]byte(key))
		switch {
		case errors.Is(err, raftboltdb.ErrKeyNotFound):
		case err != nil || len(value) != 8:
			return f, corrupt(path, "has no readable "+key, adviceRejoin)
		default:
			*to = binary.BigEndian.Uint64(value)
		}
	}
	if f.last > 0 {
		var entry raft.Log
		if err := logs.GetLog(f.last, &entry); err != nil {
			return f, corrupt(path, fmt.Sprintf("can't be read at its last index %d (%v)", f.last, err), adviceRejoin)
		}
		f.lastTerm = entry.Term
	}
	if f.term < f.lastTerm {
		return f, corrupt(path, fmt.Sprintf("says that this node is in term %d, and its log is in %d, so its votes are lost", f.term, f.lastTerm), adviceRejoin)
	}
	return f, nil
}

// pick finds the snapshot to start from, and those that can't be read and needn't be.
func (s *snapshots) pick(found logState) (damaged map[string]error, err error) {
	s.first, s.last = found.first, found.last
	damaged = make(map[string]error)
	required, lost := found.noted, "" // this node has had everything up to here
	for _, id := range newestFirst(snapshotNames(s.folder)) {
		_, index, _ := parseSnapshotName(id)
		meta, err := s.check(id)
		if err != nil {
			damaged[id] = err
			if index >= required {
				required, lost = index, id
			}
			continue
		}
		if meta.Term > found.term {
			return nil, corrupt(filepath.Join(filepath.Dir(s.folder), logFile),
				fmt.Sprintf("says that this node is in term %d, and snapshot %s is of a later one, so its votes are lost", found.term, id), adviceRejoin)
		}
		s.newest = index
		break
	}
	reach := s.newest
	if found.last > s.newest && found.first <= s.newest+1 {
		reach = found.last
	}
	switch {
	case reach < required && lost != "":
		return nil, corrupt(filepath.Join(s.folder, lost), fmt.Sprintf("can't be read (%v), and the log has not all that was in it", damaged[lost]), adviceRejoin)
	case reach < required:
		return nil, corrupt(s.folder, fmt.Sprintf("lacks the snapshot of index %d, and the log has not all that was in it", required), adviceRejoin)
	case found.last > s.newest && found.first > s.newest+1:
		return nil, corrupt(s.folder, fmt.Sprintf("has no snapshot of index %d, with which the log begins, or of a later one", found.first-1), adviceRejoin)
	}
	return damaged, nil
}

func newestFirst(names []string) []string {
	slices.SortFunc(names, func(a, b string) int {
		aTerm, aIndex, _ := parseSnapshotName(a)
		bTerm, bIndex, _ := parseSnapshotName(b)
		return -cmp.Or(cmp.Compare(aTerm, bTerm), cmp.Compare(aIndex, bIndex), cmp.Compare(a, b)) // as raft sorts them
	})
	return names
}

// putAside takes a damaged snapshot out of raft's sight. A leader would go on offering it to those who lag.
func (s *snapshots) putAside(id, folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	target := filepath.Join(folder, id)
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(s.folder, id), target); err != nil {
		return err
	}
	return errors.Join(syncFolder(folder), syncFolder(s.folder))
}

// checkEntries reads the entries that raft is going to read when it starts; it panics where one is missing.
// It returns how many bytes they hold.
func checkEntries(dir *dataDir, logs raft.LogStore, from, to uint64) (bytes int64, err error) {
	for index := from; index <= to; index++ {
		var entry raft.Log
		if err := logs.GetLog(index, &entry); err != nil || entry.Index != index {
			return 0, corrupt(dir.file(logFile), fmt.Sprintf("has no readable entry %d of those up to %d", index, to), adviceRejoin)
		}
		bytes += int64(len(entry.Data))
	}
	return bytes, nil
}

// openRaft has raft restore the newest snapshot and read the log behind it.
func (n *Node) openRaft() (r *raft.Raft, err error) {
	open := func() (err error) {
		r, err = raft.NewRaft(n.raftConfig(), timeApply(n.o.FSM, &n.stores.volume), n.stores.logs, n.stores.stable, n.stores.snapshots, n.transport)
		return err
	}
	if n.dir == nil {
		return r, open()
	}
	if err := guarded(n.dir.file(logFile), open); err != nil {
		// The checksums were right, so the state machine doesn't know what it reads.
		if kept := newestFirst(snapshotNames(n.dir.file(snapshotFolder))); len(kept) > 0 && !errors.Is(err, ErrCorruptFolder) {
			return nil, fmt.Errorf("%w: snapshot %s can't be restored (the log says why); if a newer version has run here, install that one again: %w",
				ErrCorruptFolder, filepath.Join(n.dir.file(snapshotFolder), kept[0]), err)
		}
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return r, nil
}

// guarded turns what a damaged file or disk does to code that maps it into memory into an error.
func guarded(path string, read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = corrupt(path, fmt.Sprintf("can't be read (%v)", p), adviceRejoin)
		}
	}()
	return read()
}
