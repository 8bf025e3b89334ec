package audit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/deputy-id/deputy/identity"
)

const (
	// sealAgain is how long after a failure sealing is tried again, even if nothing is written meanwhile.
	sealAgain = time.Second
	// sealShare is how many times as long as the last seal took the next one is put off at least. A sync and a rename
	// keep a processor busy as well as the disk: both are left to the log itself and to others.
	sealShare = 150
)

// sealer keeps the sealed head up to what is known to be on the disk. It never runs ahead of that: a power cut must
// not leave a head of which the log then falls short.
type sealer struct {
	log    *Log
	pace   time.Duration // the shortest time between two seals
	kick   chan struct{}
	failed bool // the last seal; under turn
	lasts  bool // whether a power cut leaves the last seal; under turn

	turn sync.Mutex // held while a head is written

	mu     sync.Mutex
	due    mark // on the disk
	sealed *sealedHead
}

func newSealer(l *Log) *sealer {
	return &sealer{log: l, pace: l.options.SyncWithin / 2, kick: make(chan struct{}, 1)}
}

// reached tells the sealer what is on the disk now.
func (s *sealer) reached(at mark) {
	s.mu.Lock()
	s.due = at
	s.mu.Unlock()
	s.nudge()
}

// latest is the head that is in the file, or nil where none has been written yet.
func (s *sealer) latest() *sealedHead {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed
}

func (s *sealer) through() uint64 {
	if h := s.latest(); h != nil {
		return h.Through
	}
	return 0
}

// run seals until ctx ends. A log goes on whose head can't be written: it then reaches beyond it, as after a crash.
func (s *sealer) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-s.kick:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		again := s.pace
		if s.sealAs(false, s.latest() == nil) != nil { // the first of a run takes back what the one before has said
			again = sealAgain
			s.nudge()
		}
		pause.Reset(min(max(again, sealShare*time.Since(began)), max(s.pace, sealAgain)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *sealer) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// seal signs how far the log is on the disk, and returns once that is in the file for good. With closed, nothing is written
// to the log behind it.
func (s *sealer) seal(closed bool) error { return s.sealAs(closed, true) }

// sealAs is seal. Where it isn't lasting, a power cut may bring back an older head, beyond which the log reaches as well.
func (s *sealer) sealAs(closed, lasting bool) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	due, before := s.due, s.sealed
	s.mu.Unlock()
	if before != nil && before.Through == due.sequence && before.Closed == closed && (s.lasts || !lasting) {
		return nil
	}
	o := &s.log.options
	h := &sealedHead{
		Node: o.Node, Log: s.log.id, Through: due.sequence, Head: due.head, Closed: closed, Time: identity.InstantOf(o.Now()),
	}
	h.Signature = o.Signer.Sign(h.appendMessage(nil))
	if err := o.replaceHead(o.Dir, h.appendFile(nil), lasting); err != nil {
		s.log.metrics.unsealed.Inc()
		if !s.failed {
			s.log.logger.Warn("the head of the audit log can't be sealed; the log goes on, but what is cut off behind the last head shows at other nodes only",
				"error", err, "sealed", s.through())
		}
		s.failed = true
		return fmt.Errorf("sealing the head of the audit log: %w", err)
	}
	if s.failed {
		s.log.logger.Info("the head of the audit log is sealed again", "through", h.Through)
	}
	s.failed, s.lasts = false, lasting
	s.mu.Lock()
	s.sealed = h
	s.mu.Unlock()
	return nil
}
