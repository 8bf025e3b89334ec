package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// FileSink appends the lines as they are to a file elsewhere, for an agent that ships files. It doesn't rotate: where
// the file was moved away or removed it makes another, so it may be rotated by renaming.
type FileSink struct {
	path      string
	file      *os.File
	buffer    []byte
	confirmed uint64
}

// NewFileSink makes a sink. The folder must exist by the time of the first record.
func NewFileSink(path string) *FileSink { return &FileSink{path: path} }

// Deliver implements Sink. Lines are on the disk when it returns.
func (s *FileSink) Deliver(_ context.Context, lines []Line) error {
	if err := s.open(); err != nil {
		return fmt.Errorf("appending audit records to a file: %w", err)
	}
	size, err := s.file.Seek(0, io.SeekEnd)
	if err == nil {
		s.buffer = appendLines(s.buffer[:0], lines)
		_, err = s.file.Write(s.buffer)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		// Half a line must not stay: the next attempt would go on behind it.
		return fmt.Errorf("appending audit records to %s: %w", s.path, errors.Join(err, s.file.Truncate(size)))
	}
	s.confirmed = lines[len(lines)-1].Sequence
	return nil
}

func appendLines(dst []byte, lines []Line) []byte {
	for i := range lines {
		dst = append(append(dst, lines[i].JSON...), '\n')
	}
	return dst
}

// open makes sure that file is what has the name.
func (s *FileSink) open() error {
	if s.file != nil {
		ours, err := s.file.Stat()
		if err != nil {
			return err
		}
		if theirs, err := os.Stat(s.path); err == nil && os.SameFile(ours, theirs) {
			return nil
		}
		if err := s.file.Close(); err != nil {
			return err
		}
		s.file = nil
	}
	// Without a regular file (a pipe, a terminal) opening and writing may block for good.
	if info, err := os.Stat(s.path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file; the sink to standard output, or syslog, can lead to a program", s.path)
	}
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := cutHalfLine(f); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
	return nil
}

// cutHalfLine removes what a crash left of a line. It wasn't confirmed, so it comes again.
func cutHalfLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, min(info.Size(), MaxLine))
	start := info.Size() - int64(len(tail))
	if _, err := f.ReadAt(tail, start); err != nil && len(tail) > 0 {
		return err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole == len(tail) {
		return nil
	}
	if whole == 0 && start > 0 {
		return fmt.Errorf("%s ends in something else than records; move it away", f.Name())
	}
	return f.Truncate(start + int64(whole))
}

// Confirmed implements Sink.
func (s *FileSink) Confirmed() uint64 { return s.confirmed }

// Close implements Sink.
func (s *FileSink) Close(context.Context) error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// WriterSink writes the lines as they are, for a node whose standard output somebody collects.
type WriterSink struct {
	to        io.Writer
	buffer    []byte
	confirmed uint64
}

// NewWriterSink makes a sink. What is written counts as having arrived.
func NewWriterSink(to io.Writer) *WriterSink { return &WriterSink{to: to} }

// Deliver implements Sink. A reader that stalls holds up this sink alone.
func (s *WriterSink) Deliver(_ context.Context, lines []Line) error {
	s.buffer = appendLines(s.buffer[:0], lines)
	if _, err := s.to.Write(s.buffer); err != nil {
		return fmt.Errorf("writing audit records: %w", err)
	}
	s.confirmed = lines[len(lines)-1].Sequence
	return nil
}

// Confirmed implements Sink.
func (s *WriterSink) Confirmed() uint64 { return s.confirmed }

// Close implements Sink.
func (s *WriterSink) Close(context.Context) error { return nil }
