package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/deputy-id/deputy/identity"
)

// found is the state of a log as its last segment has it.
type found struct {
	header  header
	node    string
	first   uint64 // of the segment
	size    int64  // of its whole lines
	chain   chain
	last    identity.Instant // time of the last record
	newest  *Checkpoint      // the last one in it, if any
	torn    int64            // bytes behind the last whole line
	tornSum Hash             // of the first of them
	before  Hash             // what the header says of the record before it
}

const adviceDamaged = "don't change it: move this file, and any that come after it, to where evidence is kept, and start again. " +
	"The node then goes on after the last record before them, and verifying against the checkpoints that other nodes hold shows what is missing"

func damaged(path string, sequence uint64, err error) error {
	return fmt.Errorf("%w: %s, record %d: %w; %s", ErrCorrupt, path, sequence, err, adviceDamaged)
}

// readSegment reads a segment from its start and checks that each record follows from the one before. Only the last
// line may lack its end, as a crash leaves it; then what there is of it is in torn. A segment without one whole line
// has a sequence of zero.
func readSegment(path string, first uint64) (*found, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	s := &found{first: first}
	s.chain.sequence = first - 1
	r := bufio.NewReaderSize(f, MaxLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			s.torn, s.tornSum = int64(len(line)), sha256.Sum256(line)
			if s.size == 0 {
				s.chain = chain{}
			}
			return s, nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			// A crash of the machine may leave zeros instead of a line, and more of them than a line has.
			s.tornSum = sha256.Sum256(line)
			if s.torn, err = zeros(line, r); err != nil {
				return nil, fmt.Errorf("reading %s: %w", path, err)
			}
			if s.torn > 0 {
				return s, nil
			}
			return nil, damaged(path, s.chain.sequence+1, errors.New("the line is too long for a record"))
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		if err := s.take(line[:len(line)-1]); err != nil {
			return nil, damaged(path, s.chain.sequence+1, err)
		}
		s.size += int64(len(line))
	}
}

// zeros counts the bytes of the part and all that follows it, if they are all zero, and returns 0 if they aren't.
func zeros(part []byte, rest io.Reader) (n int64, err error) {
	buffer := make([]byte, 64<<10)
	for {
		if len(bytes.Trim(part, "\x00")) > 0 {
			return 0, nil
		}
		n += int64(len(part))
		read, err := rest.Read(buffer)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		part = buffer[:read]
	}
}

func (s *found) take(line []byte) error {
	f, err := parseFrame(line)
	if err != nil {
		return err
	}
	if !f.intact() {
		return errors.New("its content doesn't give its hash: it was changed")
	}
	if f.sequence != s.chain.sequence+1 {
		return fmt.Errorf("it has the number %d", f.sequence)
	}
	if s.size == 0 {
		if s.header, err = readHeader(line, &f); err != nil {
			return err
		}
		s.before = f.prev
		s.node = string(bytes.Trim(f.node, `"`))
	} else if f.prev != s.chain.head {
		return errors.New("it doesn't continue the record before it")
	}
	if Kind(f.kind) == KindCheckpoint {
		c, err := readCheckpoint(line, &f)
		if err != nil {
			return err
		}
		s.newest = &c
	}
	s.chain.follow(&f)
	s.last = f.instant()
	return nil
}

// lastLine reads the frame of a segment's last record.
func lastLine(path string) (line []byte, f frame, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, frame{}, err
	}
	defer file.Close() //nolint:errcheck // read only
	info, err := file.Stat()
	if err != nil {
		return nil, frame{}, err
	}
	tail := make([]byte, min(info.Size(), MaxLine+1))
	if _, err := file.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return nil, frame{}, err
	}
	tail, ended := bytes.CutSuffix(tail, []byte{'\n'})
	if !ended {
		return nil, frame{}, errors.New("its last line has no end")
	}
	line = tail[bytes.LastIndexByte(tail, '\n')+1:]
	f, err = parseFrame(line)
	return line, f, err
}

// recovered is what opening a folder came to: where to go on, or, with a nil state, that there is nothing yet.
type recovered struct {
	state    *found
	segments []segment // closed ones
	torn     string    // name of the segment whose last line was cut off
	cut      *found    // what was cut
}

// recoverFolder finds where the log ends and cuts off what a crash left of a last line.
func recoverFolder(dir, node string) (*recovered, error) {
	firsts, strays, err := segmentNames(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("listing the audit log: %w", err)
	}
	if len(strays) > 0 {
		return nil, fmt.Errorf("%w: %s holds %s, which is no segment; move it elsewhere", ErrCorrupt, dir, strays[0])
	}
	r := &recovered{}
	if len(firsts) == 0 {
		return r, nil
	}
	if err := r.readLast(dir, firsts[len(firsts)-1]); err != nil {
		return nil, err
	}
	if r.state.size == 0 { // the crash came before the header was written
		if err := removeHeadless(dir, r); err != nil {
			return nil, err
		}
		firsts = firsts[:len(firsts)-1]
		if len(firsts) == 0 {
			r.state = nil
			return r, nil
		}
		cut, torn := r.cut, r.torn
		if err := r.readLast(dir, firsts[len(firsts)-1]); err != nil {
			return nil, err
		}
		if r.state.size == 0 {
			return nil, damaged(filepath.Join(dir, segmentName(r.state.first)), r.state.first, errors.New("the segment has no whole line"))
		}
		if r.cut == nil {
			r.cut, r.torn = cut, torn
		}
	}
	if r.state.node != node {
		return nil, fmt.Errorf("%w: the audit log in %s is that of node %q, this is node %q; point this node at its own folder or at an empty one",
			ErrCorrupt, dir, r.state.node, node)
	}
	return r, r.closedOnes(dir, firsts)
}

// readLast reads a segment and cuts off what stands behind its last whole line.
func (r *recovered) readLast(dir string, first uint64) error {
	path := filepath.Join(dir, segmentName(first))
	var err error
	if r.state, err = readSegment(path, first); err != nil {
		return err
	}
	if r.state.torn == 0 {
		return nil
	}
	f, err := openFile(path, false)
	if err != nil {
		return fmt.Errorf("cutting off half a line: %w", err)
	}
	if err := errors.Join(f.Truncate(r.state.size), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cutting off half a line: %w", err)
	}
	r.cut, r.torn = r.state, segmentName(first)
	return nil
}

func removeHeadless(dir string, r *recovered) error {
	if err := os.Remove(filepath.Join(dir, segmentName(r.state.first))); err != nil {
		return fmt.Errorf("removing a segment that was never begun: %w", err)
	}
	return syncFolder(dir)
}

// closedOnes lists the segments before the last, and checks that the last continues the one before it. Whether all
// the others are whole is for Verify to say: they don't keep a node from going on.
func (r *recovered) closedOnes(dir string, firsts []uint64) error {
	for i, first := range firsts[:len(firsts)-1] {
		path := filepath.Join(dir, segmentName(first))
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("looking at the audit log: %w", err)
		}
		r.segments = append(r.segments, segment{first: first, last: firsts[i+1] - 1, size: info.Size(), closed: true})
	}
	if len(r.segments) == 0 {
		return nil
	}
	before := r.segments[len(r.segments)-1]
	path := filepath.Join(dir, segmentName(before.first))
	line, f, err := lastLine(path)
	if err != nil {
		return damaged(path, before.last, err)
	}
	if f.sequence != before.last || f.hash != r.state.before {
		return damaged(filepath.Join(dir, segmentName(r.state.first)), r.state.first,
			fmt.Errorf("it doesn't continue record %d, the last one of %s", f.sequence, segmentName(before.first)))
	}
	if r.state.newest == nil && Kind(f.kind) == KindCheckpoint {
		c, err := readCheckpoint(line, &f)
		if err != nil {
			return damaged(path, f.sequence, err)
		}
		r.state.newest = &c
	}
	return nil
}
