package audit

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/deputy-id/deputy/identity"
)

const (
	// flushBytes is after how much a long batch is written, so that those at its front need not wait for its end.
	flushBytes = 256 << 10
	// probeAfter is how often writing is tried again while nobody appends: whoever sees the failure may have stopped.
	probeAfter = 250 * time.Millisecond
)

// writer gathers what has queued, gives each record its place in the chain, and writes all of it at once. It has a
// goroutine for what is due by the clock and for what nobody waits for; else whoever waits for a record has his turn.
// Nothing of it is shared but under turn, and through the catalog, the syncer and the queue.
type writer struct {
	log    *Log
	stop   chan struct{}  // closed once the queue takes no more
	sooner chan time.Time // holds when something is due, where a caller's write has made that earlier

	turn sync.Mutex // held by whoever writes

	file    file
	first   uint64    // of the segment
	size    int64     // of it, committed
	begun   time.Time // when the segment was
	dirty   bool      // beyond size may lie what a failed write left
	written chain     // as committed
	chain   chain     // with what is in out
	out     []byte    // lines to be written
	body    []byte    // scratch

	made      *Checkpoint      // in out, to be published once written
	signed    time.Time        // when the last checkpoint was
	latest    identity.Instant // the time that it bears
	dropped   drops            // to be recorded
	recorded  uint64           // of dropped, what is in out
	stuck     bool             // another segment is to be begun before anything else
	failure   *failure         // nil while writing works
	failureIn bool             // its end is in out
}

// failure is a time during which nothing could be written.
type failure struct {
	err     error
	since   time.Time
	refused uint64
}

func newWriter(l *Log) *writer {
	return &writer{log: l, stop: make(chan struct{}), sooner: make(chan time.Time, 1), begun: time.Now(), signed: time.Now()}
}

// used reports whether the segment holds more than its header and the checkpoint after it.
func (w *writer) used() bool { return w.written.sequence > w.first+1 }

// due is when something is to be done even if nobody appends.
func (w *writer) due(now time.Time) time.Time {
	if w.failure != nil {
		return now.Add(probeAfter)
	}
	due := now.Add(time.Hour)
	if w.written.tree.size > 0 {
		due = earlier(due, w.signed.Add(w.log.options.CheckpointEvery))
	}
	if w.used() {
		due = earlier(due, w.begun.Add(w.log.options.SegmentAge))
	}
	return due
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// tidy writes a checkpoint and, with rotate, goes on in another segment.
func (w *writer) tidy(rotate bool) error {
	if err := w.prepare(); err != nil {
		return err
	}
	if rotate {
		if err := w.rotate(); err != nil {
			return err
		}
	} else if err := w.checkpoint(); err != nil {
		return err
	}
	return w.flush()
}

// commit writes all records of an arena and answers those who wait. What can't be written is answered as such: it
// is in the log in no part. What was written and could not be synced stays, and is answered as unknown.
func (w *writer) commit(a *arena) {
	answered, err := 0, w.prepare()
	for i := 0; err == nil && i < a.len(); i++ {
		if !w.fits(len(a.body(i))) {
			if err = w.flush(); err != nil {
				break
			}
			a.answer(answered, i, nil)
			answered = i
			if err = w.rotate(); err != nil {
				break
			}
		}
		w.out = w.chain.append(w.out, w.log.node, a.body(i))
		a.sequences = append(a.sequences, w.chain.sequence)
		if int(w.chain.tree.size) >= w.log.options.CheckpointRecords {
			err = w.checkpoint()
		}
		if err == nil && len(w.out) >= flushBytes {
			if err = w.flush(); err == nil {
				a.answer(answered, i+1, nil)
				answered = i + 1
			}
		}
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		a.answer(answered, a.len(), nil)
		answered = a.len()
	}
	w.log.metrics.committed(a, answered)
	if err != nil {
		w.fail(err, a.len()-answered)
		// Behind a failed sync the records are in the log, and may be on the disk yet.
		written := answered
		for written < len(a.sequences) && a.sequences[written] <= w.written.sequence {
			written++
		}
		a.answer(answered, written, fmt.Errorf("%w: %w", ErrUnknown, err))
		a.answer(written, a.len(), fmt.Errorf("%w: %w", ErrWrite, err))
	}
}

// prepare makes the file whole after a failure, and puts what is to be said of it, and of dropped records, first.
func (w *writer) prepare() error {
	if w.dirty {
		if err := w.file.Truncate(w.size); err != nil {
			return fmt.Errorf("taking back a failed write: %w", err)
		}
		w.dirty = false
	}
	if w.log.syncer.failure() != nil {
		if err := w.log.syncer.repair(); err != nil {
			return err
		}
	}
	w.log.syncer.holdBack()
	if w.stuck {
		if err := w.rotate(); err != nil {
			return err
		}
	} else if w.size == 0 {
		w.header()
	}
	if w.failure != nil {
		w.body = appendResumedBody(w.body[:0], w.now(), w.failure)
		w.own(w.body)
		w.failureIn = true
	}
	if w.dropped.count > 0 {
		w.body = appendDroppedBody(w.body[:0], w.now(), &w.dropped)
		w.own(w.body)
		w.recorded = w.dropped.count
	}
	return nil
}

func (w *writer) now() identity.Instant { return identity.InstantOf(w.log.options.Now()) }

// own appends a record of the log's own.
func (w *writer) own(body []byte) { w.out = w.chain.append(w.out, w.log.node, body) }

func (w *writer) header() {
	w.body = appendHeaderBody(w.body[:0], w.now(), &header{
		Format: segmentFormat, Log: w.log.id, Began: w.log.began, Key: w.log.options.Signer.Public(), Sealed: true,
	})
	w.own(w.body)
}

// checkpoint signs all that has come since the last one, where anything has.
func (w *writer) checkpoint() error {
	if w.chain.tree.size == 0 {
		return nil
	}
	at := max(w.now(), w.latest)
	made, err := w.chain.checkpoint(w.log.options.Node, w.log.id, at, w.log.options.Signer)
	if err != nil {
		return err
	}
	w.body = appendCheckpointBody(w.body[:0], &made)
	w.out = w.chain.appendCheckpoint(w.out, w.log.node, w.body)
	w.made, w.signed, w.latest = &made, time.Now(), at
	return nil
}

// checkpointRoom is above the size of a checkpoint's line.
const checkpointRoom = 2048

// fits reports whether a body may go into this segment. The first one always may.
func (w *writer) fits(body int) bool {
	return w.size+int64(len(w.out)+body+overhead(w.log.node)+checkpointRoom) <= w.log.options.SegmentBytes || w.chain.sequence <= w.first+1
}

// flush writes out. After an error the chain stands where it stood and the file is as it was, or dirty.
func (w *writer) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	began := time.Now()
	_, err := w.file.WriteAt(w.out, w.size)
	w.log.metrics.writeSeconds.Observe(time.Since(began).Seconds())
	if err != nil {
		w.dirty = true
		return err
	}
	w.size += int64(len(w.out))
	w.written, w.out = w.chain, w.out[:0]
	if w.recorded > 0 {
		w.dropped, w.recorded = drops{}, 0
	}

	always := w.log.options.Sync == SyncAlways
	w.log.syncer.wrote(mark{size: w.size, sequence: w.written.sequence, head: w.written.head}, !always)
	if always {
		if err := w.log.syncer.sync(); err != nil {
			return err // the records are there, but nobody is told that they are safe
		}
	}
	w.log.catalog.commit(w.first, w.written.sequence, w.size, w.written.head)
	if w.made != nil {
		w.log.checkpoints.publish(*w.made)
		w.made = nil
	}
	if w.failureIn {
		w.resume()
	}
	return nil
}

// rotate closes the segment with a checkpoint and begins another. What follows first into the new one is its header.
func (w *writer) rotate() error {
	w.stuck = true
	if err := w.checkpoint(); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	// Once records stand in the new file, those of the old one must be safe: a hole in the middle is damage.
	if err := w.log.syncer.sync(); err != nil {
		return err
	}
	first := w.written.sequence + 1
	f, err := w.log.options.openFile(w.log.catalog.path(first), true)
	if err != nil {
		return fmt.Errorf("beginning another segment: %w", err)
	}
	if err := syncFolder(w.log.catalog.dir); err != nil {
		return errors.Join(fmt.Errorf("beginning another segment: %w", err), f.Close())
	}
	old := w.log.syncer.replace(f, mark{sequence: w.written.sequence, head: w.written.head})
	w.file, w.first, w.size, w.begun, w.stuck = f, first, 0, time.Now(), false
	w.header()
	w.log.house.nudge()
	if err := old.Close(); err != nil { // all of it is synced
		w.log.logger.Warn("closing a finished segment of the audit log", "error", err)
	}
	return nil
}

// fail takes everything back that isn't written, and says so once.
func (w *writer) fail(err error, refused int) {
	if err == nil {
		return
	}
	w.chain, w.out = w.written, w.out[:0]
	w.made, w.recorded, w.failureIn = nil, 0, false
	w.log.metrics.refused.Add(float64(refused))
	if w.failure == nil {
		w.failure = &failure{since: w.log.options.Now()}
		w.log.logger.Error("the audit log can't be written; whatever needs a record is refused until it can",
			"error", err, "segment", segmentName(w.first))
	}
	w.failure.err = err
	w.failure.refused += uint64(refused)
	w.log.failing.Store(&err)
}

func (w *writer) resume() {
	w.log.logger.Info("the audit log can be written again", "refused", w.failure.refused, "after", w.log.options.Now().Sub(w.failure.since))
	w.failure, w.failureIn = nil, false
	w.log.failing.Store(nil)
}
