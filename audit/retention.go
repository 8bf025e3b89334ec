package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// houseEvery is how often the house looks for segments to remove. It also looks when a segment is finished.
const houseEvery = time.Minute

// house removes segments after their time.
type house struct {
	log  *Log
	kick chan struct{}
}

func newHouse(l *Log) *house { return &house{log: l, kick: make(chan struct{}, 1)} }

func (h *house) nudge() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

func (h *house) run(ctx context.Context) {
	ticker := time.NewTicker(houseEvery)
	defer ticker.Stop()
	for {
		if err := h.clean(ctx); err != nil && ctx.Err() == nil {
			h.log.logger.Warn("removing old segments of the audit log; it is tried again in a minute", "error", err)
		}
		select {
		case <-h.kick:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// clean removes the segments whose time has come. The record that says so is written and synced first: a log that
// begins later than its last record of this kind says has been cut at the front by somebody else.
func (h *house) clean(ctx context.Context) error {
	segments := h.log.catalog.all()
	n, err := h.outdated(segments)
	if n == 0 || err != nil {
		return err
	}
	r := retention{Through: segments[n-1].last, Bytes: bytesOf(segments[:n])}
	for _, c := range h.log.sinks {
		if at := c.confirmed.Load(); at < r.Through {
			r.Sinks = append(r.Sinks, loss{Sink: c.Name, From: at + 1, Unconfirmed: r.Through - at})
		}
	}
	// Their indexes go first: on a full disk that makes room for the record.
	for _, s := range segments[:n] {
		if err := h.log.indexes.forget(s.first); err != nil {
			return err
		}
	}
	if err := h.log.note(ctx, appendRetentionBody(nil, identity.InstantOf(h.log.options.Now()), &r)); err != nil {
		return err
	}
	if err := h.log.syncer.sync(); err != nil {
		return err
	}
	h.log.catalog.removeBefore(segments[n].first)
	for _, s := range segments[:n] {
		err = errors.Join(err, h.log.indexes.forget(s.first)) // somebody may have asked meanwhile
		if gone := os.Remove(h.log.catalog.path(s.first)); !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return errors.Join(err, syncFolder(h.log.catalog.dir))
}

// outdated counts the segments at the front that are to go.
func (h *house) outdated(segments []segment) (n int, err error) {
	o := &h.log.options
	total := bytesOf(segments)
	oldest := identity.InstantOf(o.Now().Add(-o.RetainAge))
	unread := h.unread()
	for n < len(segments) && segments[n].closed {
		s := segments[n]
		if total <= o.RetainBytes {
			ended, err := h.endOf(segments[n+1])
			if err != nil {
				return n, err
			}
			if ended >= oldest {
				break
			}
		}
		if s.last >= unread && total <= o.HardBytes {
			break
		}
		total -= s.size
		n++
	}
	return n, nil
}

// unread is the first record that a sink has not got yet.
func (h *house) unread() uint64 {
	first, _ := h.log.catalog.last()
	first++
	for _, c := range h.log.sinks {
		first = min(first, c.confirmed.Load()+1)
	}
	return first
}

// endOf is when the segment before this one was finished: when this one was begun.
func (h *house) endOf(next segment) (identity.Instant, error) {
	f, err := os.Open(h.log.catalog.path(next.first))
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	line, err := bufio.NewReader(f).ReadBytes('\n')
	if err != nil {
		return 0, fmt.Errorf("reading the first record of %s: %w", segmentName(next.first), err)
	}
	_, _, head, err := cutLine(line)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrCorrupt, segmentName(next.first), err)
	}
	return head.instant(), nil
}

func bytesOf(segments []segment) (n int64) {
	for _, s := range segments {
		n += s.size
	}
	return n
}
