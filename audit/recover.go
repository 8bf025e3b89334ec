package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
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
	watch   uint64           // a record
	watched Hash             // and its hash, where it stands in the segment
}

// headed reports whether the log says of itself that it has a sealed head. A new one is going to.
func (s *found) headed() bool { return s == nil || s.header.Sealed }

const adviceDamaged = "don't change it: move this file, and any that come after it, to where evidence is kept, rename the file head to head.lost, and start again. " +
	"The node then goes on after the last record before them, and verifying shows that something is missing, and what, against the checkpoints that other nodes hold"

func damaged(path string, sequence uint64, err error) error {
	return fmt.Errorf("%w: %s, record %d: %w; %s", ErrCorrupt, path, sequence, err, adviceDamaged)
}

// readSegment reads a segment from its start and checks that each record follows from the one before. Only the last
// line may lack its end, as a crash leaves it; then what there is of it is in torn. A segment without one whole line
// has a sequence of zero. The hash of the record watch is noted.
func readSegment(path string, first, watch uint64) (*found, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	s := &found{first: first, watch: watch}
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
	if f.sequence == s.watch {
		s.watched = f.hash
	}
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
	torn     string    // name of the segment whose last line is half a line
	cut      *found    // the segment with it
	unbegun  *found    // a segment without one whole line

	head     *sealedHead // nil where there is none
	headLost bool        // there is none, and the log is to go on all the same
	lost     *sealedHead // the one without which it does, if it can be read
	settled  bool        // there is one, and one that was given up before
}

// recoverFolder finds where the log ends, holds that against its sealed head, and only then cuts off what a crash left
// of a last line: whatever is evidence stays as it was found.
func recoverFolder(dir, node string, key ed25519.PublicKey) (*recovered, error) {
	firsts, strays, err := segmentNames(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("listing the audit log: %w", err)
	}
	if len(strays) > 0 {
		return nil, fmt.Errorf("%w: %s holds %s, which is no segment; move it elsewhere", ErrCorrupt, dir, strays[0])
	}
	r := &recovered{}
	if err := r.readHeads(dir, key); err != nil {
		return nil, err
	}
	if len(firsts) > 0 {
		if firsts, err = r.readEnd(dir, firsts); err != nil {
			return nil, err
		}
	}
	if r.state != nil {
		if r.state.node != node {
			return nil, fmt.Errorf("%w: the audit log in %s is that of node %q, this is node %q; point this node at its own folder or at an empty one",
				ErrCorrupt, dir, r.state.node, node)
		}
		if err := r.closedOnes(dir, firsts); err != nil {
			return nil, err
		}
	}
	if err := r.judgeHead(dir, node, key); err != nil {
		return nil, err
	}
	return r, r.cutOff(dir)
}

// readEnd reads the segment in which the log ends. Where a crash came before the header of the last one was written, it
// is the one before.
func (r *recovered) readEnd(dir string, firsts []uint64) ([]uint64, error) {
	if err := r.readLast(dir, firsts); err != nil || r.state.size > 0 {
		return firsts, err
	}
	r.unbegun, r.state = r.state, nil
	firsts = firsts[:len(firsts)-1]
	if len(firsts) == 0 {
		return firsts, nil
	}
	if err := r.readLast(dir, firsts); err != nil {
		return nil, err
	}
	if r.state.size == 0 {
		return nil, damaged(filepath.Join(dir, segmentName(r.state.first)), r.state.first, errors.New("the segment has no whole line"))
	}
	return firsts, nil
}

// readLast reads the last of these segments, and notes what stands behind its last whole line.
func (r *recovered) readLast(dir string, firsts []uint64) (err error) {
	first, watch := firsts[len(firsts)-1], uint64(0)
	if r.head != nil {
		watch = r.head.Through
	}
	if r.state, err = readSegment(filepath.Join(dir, segmentName(first)), first, watch); err != nil {
		return err
	}
	if r.state.torn > 0 {
		r.cut, r.torn = r.state, segmentName(first)
	}
	return nil
}

// cutOff removes what a crash left behind the last whole line.
func (r *recovered) cutOff(dir string) error {
	if r.unbegun != nil {
		if err := os.Remove(filepath.Join(dir, segmentName(r.unbegun.first))); err != nil {
			return fmt.Errorf("removing a segment that was never begun: %w", err)
		}
		if err := syncFolder(dir); err != nil {
			return err
		}
	}
	if r.state == nil || r.state.torn == 0 {
		return nil
	}
	f, err := openFile(filepath.Join(dir, segmentName(r.state.first)), false)
	if err != nil {
		return fmt.Errorf("cutting off half a line: %w", err)
	}
	if err := errors.Join(f.Truncate(r.state.size), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cutting off half a line: %w", err)
	}
	return nil
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
