package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
)

// readBytes is how much a reader takes from a file at once.
const readBytes = 256 << 10

// reader goes through the committed lines of a log, one after another, across segments. It is for one goroutine.
type reader struct {
	catalog *catalog
	next    uint64 // sequence of the next line

	file    *os.File
	segment uint64 // that file is
	offset  int64  // in it, of what comes after the buffer
	buffer  []byte
	pending []byte // whole lines in the buffer that were not returned yet
}

func newReader(c *catalog, from uint64) *reader { return &reader{catalog: c, next: max(from, 1)} }

// read returns the next line without its newline, valid until the next call, or, where there is none yet, a channel
// that is closed when there is more. Both are nil once the log is closed and read to its end. Where records were
// removed, next jumps forward: the caller sees it in the frame.
func (r *reader) read() (line []byte, f frame, more <-chan struct{}, err error) {
	for {
		for len(r.pending) > 0 {
			if line, r.pending, f, err = cutLine(r.pending); err != nil {
				return nil, frame{}, nil, fmt.Errorf("%w: %s: %w; verify the log", ErrCorrupt, segmentName(r.segment), err)
			}
			if f.sequence < r.next {
				continue // on the way to where reading begins
			}
			r.next = f.sequence + 1
			return line, f, nil, nil
		}
		s, ok, more := r.catalog.find(r.next)
		if !ok {
			return nil, frame{}, more, nil
		}
		if err := r.fill(s); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed after its time, between the look and the open
			}
			return nil, frame{}, nil, err
		}
	}
}

// fill reads some more of a segment.
func (r *reader) fill(s segment) error {
	if r.buffer == nil {
		r.buffer = make([]byte, max(readBytes, MaxLine))
	}
	if r.file == nil || r.segment != s.first {
		r.close()
		f, err := os.Open(r.catalog.path(s.first))
		if err != nil {
			return err
		}
		r.file, r.segment = f, s.first
		if r.offset, err = r.near(s); err != nil {
			return err
		}
	}
	part := r.buffer[:min(int64(len(r.buffer)), s.size-r.offset)]
	if _, err := r.file.ReadAt(part, r.offset); err != nil {
		return fmt.Errorf("reading %s: %w", segmentName(s.first), err)
	}
	whole := bytes.LastIndexByte(part, '\n') + 1
	if whole == 0 {
		return fmt.Errorf("%w: %s has no whole line at byte %d; verify the log", ErrCorrupt, segmentName(s.first), r.offset)
	}
	r.pending = part[:whole]
	r.offset += int64(whole)
	return nil
}

// near finds the start of a line that isn't behind the next record, and not far before it.
func (r *reader) near(s segment) (offset int64, err error) {
	for low, high := int64(0), s.size; r.next > s.first && high-low > readBytes; {
		middle := low + (high-low)/2
		part := r.buffer[:min(int64(len(r.buffer)), high-middle)]
		if _, err := r.file.ReadAt(part, middle); err != nil {
			return 0, fmt.Errorf("reading %s: %w", segmentName(s.first), err)
		}
		start := bytes.IndexByte(part, '\n') + 1
		_, _, f, err := cutLine(part[start:])
		if err != nil { // the part has no whole line: the records here are very long
			return low, nil
		}
		if f.sequence > r.next {
			high = middle
			continue
		}
		low = middle + int64(start)
		offset = low
	}
	return offset, nil
}

// seek goes on with another record.
func (r *reader) seek(next uint64) {
	r.close()
	r.next = max(next, 1)
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // read only
	}
	r.file, r.pending, r.offset = nil, nil, 0
}

// Follow yields records from one on as they come, the log's own among them, until ctx ends or the log is closed; from 0
// means from now on. It reads from the disk and holds up nobody. Where records were removed before they were read it
// goes on with the next that is there: the sequence numbers show it. An error is the last that is yielded.
func (l *Log) Follow(ctx context.Context, from uint64) iter.Seq2[Entry, error] {
	if from == 0 {
		last, _ := l.catalog.last()
		from = last + 1
	}
	return func(yield func(Entry, error) bool) {
		r := newReader(l.catalog, from)
		defer r.close()
		for {
			line, _, more, err := r.read()
			if err == nil && line == nil {
				if more == nil {
					return
				}
				select {
				case <-more:
					continue
				case <-ctx.Done():
					return
				}
			}
			var e Entry
			if err == nil {
				e, err = decodeEntry(bytes.Clone(line))
			}
			if ctx.Err() != nil || !yield(e, err) || err != nil {
				return
			}
		}
	}
}
