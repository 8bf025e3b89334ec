package audit

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// maxUnsynced is for how long writing goes on while a sync doesn't return. A disk so slow would otherwise let the
// records that a power cut may lose grow without bound.
const maxUnsynced = time.Second

// mark is a place in the segment that is being written.
type mark struct {
	size     int64
	sequence uint64
	head     Hash
}

// syncer brings what was written to the disk, soon and without the writer having to wait.
//
// Once a sync has failed, the kernel may have thrown away what it could not write, and a later sync that succeeds
// says nothing about it. So what is not known to be on the disk is then read back, checked, and written once more.
type syncer struct {
	within  time.Duration
	kick    chan struct{}
	metrics *metrics
	// onFailure tells the writer to see to it.
	onFailure func()
	// onSynced is told what is on the disk now. It must not wait.
	onSynced func(mark)

	turn sync.Mutex // held while a sync runs, and to put another file in its place
	file file

	mu      sync.Mutex
	written mark
	synced  mark
	oldest  time.Time // of what isn't synced; zero where all is
	younger time.Time // the same for what came since the running sync began
	running bool
	slowest time.Duration // of the syncs lately: what a longer one took is forgotten by half in 177 of them
	failed  error
}

func newSyncer(f file, at mark, within time.Duration, m *metrics) *syncer {
	return &syncer{within: within, kick: make(chan struct{}, 1), file: f, written: at, synced: at, metrics: m, slowest: within / 4}
}

// run syncs until ctx ends. A sync begins when its margin is left of the time: each keeps a processor and the disk busy,
// however little there is to sync, so fewer are better.
func (s *syncer) run(ctx context.Context) {
	for {
		select {
		case <-s.kick:
		case <-ctx.Done():
			return
		}
		timer := time.NewTimer(s.within - s.margin() - s.unsynced(time.Now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		_ = s.sync() // the writer asks for failed
	}
}

// wrote notes what there is to sync, and whether it is for the background.
func (s *syncer) wrote(at mark, background bool) {
	now := time.Now()
	s.mu.Lock()
	s.written = at
	first := false
	switch {
	case s.running && s.younger.IsZero():
		s.younger = now
	case !s.running && s.oldest.IsZero():
		s.oldest, first = now, true
	}
	s.mu.Unlock()
	if first && background {
		s.wake()
	}
}

func (s *syncer) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// sync brings all that was written before the call to the disk.
func (s *syncer) sync() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	at, failed := s.written, s.failed
	if failed != nil || at == s.synced {
		s.mu.Unlock()
		return failed
	}
	s.running = true
	s.mu.Unlock()

	began := time.Now()
	err := s.file.Sync()
	took := time.Since(began)
	s.metrics.syncSeconds.Observe(took.Seconds())

	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	s.slowest = max(took, s.slowest-s.slowest/256)
	if err != nil {
		s.failed = fmt.Errorf("syncing: %w", err)
		s.onFailure()
		return s.failed
	}
	s.synced = at
	s.onSynced(at)
	s.oldest, s.younger = s.younger, time.Time{}
	if !s.oldest.IsZero() {
		s.wake()
	}
	return nil
}

// failure is what the last sync failed with.
func (s *syncer) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// margin is what is kept of the time for the sync itself: four times the slowest lately, but a quarter at least, as a disk
// may be slow all at once, and half at most, so that not all of it goes into syncing. A sync that takes longer than its
// margin ends so much late.
func (s *syncer) margin() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(max(4*s.slowest, s.within/4), s.within/2)
}

// unsynced is the age of the oldest record that isn't on the disk for certain.
func (s *syncer) unsynced(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.oldest.IsZero() {
		return 0
	}
	return now.Sub(s.oldest)
}

// keepsUp reports whether nothing stands against writing on.
func (s *syncer) keepsUp(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed == nil && (s.oldest.IsZero() || now.Sub(s.oldest) <= maxUnsynced)
}

// holdBack waits for a sync that takes far too long.
func (s *syncer) holdBack() {
	if s.unsynced(time.Now()) > maxUnsynced {
		_ = s.sync()
	}
}

// replace goes on with another file, which is empty. All of the old one is synced.
func (s *syncer) replace(f file, at mark) (old file) {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, s.file = s.file, f
	s.written, s.synced = at, at
	s.oldest, s.younger = time.Time{}, time.Time{}
	return old
}

// repair writes what isn't known to be on the disk once more. An error leaves everything as it was.
func (s *syncer) repair() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	from, to := s.synced, s.written
	s.mu.Unlock()

	again := make([]byte, to.size-from.size) // what was written in a moment
	if _, err := s.file.ReadAt(again, from.size); err != nil {
		return fmt.Errorf("reading back what a failed sync left: %w", err)
	}
	if err := continues(again, from, to); err != nil {
		return fmt.Errorf("%w: after a failed sync the disk gives back other records than were written (%w); see what the kernel's log says of the disk, and start the node again once it is good", ErrCorrupt, err)
	}
	if _, err := s.file.WriteAt(again, from.size); err != nil {
		return fmt.Errorf("writing again what a failed sync left: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("syncing: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced, s.failed = to, nil
	s.onSynced(to)
	s.oldest, s.younger = time.Time{}, time.Time{}
	return nil
}

// continues checks that the lines lead from one mark to the other.
func continues(lines []byte, from, to mark) error {
	at := chain{sequence: from.sequence, head: from.head}
	for len(lines) > 0 {
		_, rest, f, err := cutLine(lines)
		if err != nil {
			return fmt.Errorf("record %d: %w", at.sequence+1, err)
		}
		if !f.intact() || f.prev != at.head || f.sequence != at.sequence+1 {
			return fmt.Errorf("record %d is not what it was", at.sequence+1)
		}
		at.sequence, at.head = f.sequence, f.hash
		lines = rest
	}
	if at.sequence != to.sequence || at.head != to.head {
		return fmt.Errorf("record %d is not the last", at.sequence)
	}
	return nil
}
