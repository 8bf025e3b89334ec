package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const (
	// spoolPattern names the files that uploads of backups are kept in until they are restored.
	spoolPattern = "restore-*.spool"
	// restoreCopies is how often a backup lies on the disk before its restore has ended: as it was uploaded, in the
	// log, and in the next snapshot.
	restoreCopies = 3

	// importTries bounds the attempts at one part that the log has no room for at the moment.
	importTries = 60
	importPause = 500 * time.Millisecond

	restoreProgress = 5 * time.Second // between two lines of the log
)

// restores are the restore that this node may be running.
type restores struct{ running sync.Mutex }

// Restore takes a backup into a cluster that holds nothing yet; it runs at the leader. The whole of it is checked
// before any of it is committed. Minting is closed from its beginning until an operator opens it. Where the leader
// or the process is lost half-way the operator runs it again, and it starts over.
func (a clusterAdmin) Restore(ctx context.Context, by string, backup io.Reader, size int64) (fsm.BackupInfo, error) {
	s := a.s
	if !s.proposer.IsLeader() {
		return fsm.BackupInfo{}, errNotLeading()
	}
	if !s.restores.running.TryLock() {
		return fsm.BackupInfo{}, identity.Errorf(identity.CodeConflict, "a restore is under way").WithHint("wait until it has ended")
	}
	defer s.restores.running.Unlock()
	spool, err := s.spool(ctx, backup, size)
	if err != nil {
		return fsm.BackupInfo{}, err
	}
	defer func() {
		if err := errors.Join(spool.Close(), os.Remove(spool.Name())); err != nil {
			s.logger.Error("deleting the upload of a backup, which holds hashes of secrets", "error", err)
		}
	}()
	info, err := readSpool(spool, fsm.InspectBackup)
	if err != nil {
		return fsm.BackupInfo{}, identity.Errorf(identity.CodeInvalid, "the backup can't be restored, and nothing of it was: %w", err).
			WithHint("`deputy cluster snapshot inspect FILE` says what a file holds")
	}
	s.logger.Warn("restoring a backup", "by", by, "of_cluster", info.ClusterID, "taken_at", info.Time, "sha256", info.SHA256, "bytes", info.Bytes)
	progress := &restoring{s: s, by: by, began: time.Now(), told: time.Now()}
	_, err = readSpool(spool, func(r io.Reader) (fsm.BackupInfo, error) {
		return fsm.ReadBackup(r, func(body fsm.Body) error { return progress.commit(ctx, body) })
	})
	if err != nil {
		return fsm.BackupInfo{}, progress.broken(err)
	}
	s.logger.Warn("backup restored; minting stays closed until an operator opens it", "by", by, "records", progress.records,
		"index", progress.index, "took", time.Since(progress.began))
	return info, nil
}

// spool keeps an upload in a file of its own, mode 0600, as it is read twice.
func (s *Server) spool(ctx context.Context, backup io.Reader, size int64) (_ *os.File, err error) {
	most := s.disk.room() / restoreCopies
	if size > most {
		return nil, noRoomToRestore(size, most)
	}
	file, err := os.CreateTemp(s.config.DataDir, spoolPattern)
	if err != nil {
		return nil, fmt.Errorf("making a file for the upload of a backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	copied, err := io.Copy(file, io.LimitReader(readerWithin(ctx, backup), most+min(1, math.MaxInt64-most)))
	switch {
	case err != nil:
		return nil, identity.Errorf(identity.CodeInvalid, "the backup could not be read to its end; nothing of it was restored").
			WithHint("send it again").WithCause(err)
	case copied > most:
		return nil, noRoomToRestore(copied, most)
	case size >= 0 && copied != size:
		return nil, identity.Errorf(identity.CodeInvalid, "the backup has %d bytes, of which %d arrived; nothing of it was restored", size, copied).
			WithHint("send it again")
	}
	return file, nil
}

func noRoomToRestore(size, most int64) error {
	return identity.Errorf(identity.CodeDiskFull, "the backup has at least %d bytes, and the leader's disk has room to restore %d", size, most).
		WithHint("a restore takes %d times the size of its backup beside disk.reserve_mib: give the leader a larger disk, or hand leadership to a node that has one", restoreCopies)
}

// room is how much may be written before the reserve is touched.
func (d *diskReserve) room() int64 {
	free := d.free.Load()
	switch {
	case d.unknown.Load():
		return math.MaxInt64
	case free <= d.reserve:
		return 0
	default:
		return int64(min(free-d.reserve, math.MaxInt64))
	}
}

// readerWithin ends reading when ctx does.
func readerWithin(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// readSpool reads a file from its start.
func readSpool(file *os.File, read func(io.Reader) (fsm.BackupInfo, error)) (fsm.BackupInfo, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fsm.BackupInfo{}, fmt.Errorf("reading the upload of a backup: %w", err)
	}
	return read(file)
}

// restoring is how far a restore has come.
type restoring struct {
	s           *Server
	by          string
	began, told time.Time
	begun       bool
	records     int
	index       uint64
}

// commit proposes one part after the other: together they would be too much for the log's queue, and a part that
// is refused must be the last.
func (r *restoring) commit(ctx context.Context, body fsm.Body) error {
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		result, err := r.s.proposer.commit(ctx, r.by, body)
		if err == nil {
			r.took(body, result)
			return nil
		}
		// Nothing was proposed. Where that is not certain, the restore ends.
		if identity.CodeOf(err) != identity.CodeOverloaded || try == importTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(importPause):
		}
	}
}

func (r *restoring) took(body fsm.Body, result fsm.Result) {
	r.index, r.begun = result.Index, true
	if _, part := body.(fsm.Import); !part {
		return
	}
	if imported, ok := result.Value.(*fsm.Imported); ok {
		r.records += imported.Records
	}
	if time.Since(r.told) >= restoreProgress {
		r.told = time.Now()
		r.s.logger.Info("restoring", "records", r.records, "index", r.index)
	}
}

// broken says what a restore that ended early leaves behind.
func (r *restoring) broken(err error) error {
	r.s.logger.Error("the restore has not ended", "records", r.records, "error", err)
	if !r.begun {
		return err
	}
	code := identity.CodeOf(err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		code = identity.CodeOutcomeUnknown
	}
	return identity.Errorf(code, "the restore was broken off after %d records: %w", r.records, err).
		WithHint("run it again at the leader, and it starts over; until one has ended minting stays closed")
}

// dropSpools deletes what a restore that ended with its process has left.
func (s *Server) dropSpools() error {
	left, err := filepath.Glob(s.config.path(spoolPattern))
	if err != nil {
		return fmt.Errorf("looking for uploads of backups: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("deleting the upload of a backup: %w", err)
		}
	}
	return nil
}

// OpenMinting lets tokens be minted again after a restore or a recovery; it runs at the leader.
func (a clusterAdmin) OpenMinting(ctx context.Context, by string) (uint64, error) {
	result, err := a.s.proposer.commit(ctx, by, fsm.OpenMinting{})
	if err != nil {
		return 0, err
	}
	a.s.logger.Warn("minting is open", "by", by, "index", result.Index)
	return result.Index, nil
}
