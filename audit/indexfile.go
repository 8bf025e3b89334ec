package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
)

// The index of a finished segment is kept in a file beside it. It can be made again at any time, so one that doesn't
// fit its segment is thrown away; Verify says so, as somebody may have wanted to hide records from questions.

const (
	indexMagic  = "deputy audit index 1\n"
	blockLength = 6*8 + bloomWords*8
	// maxIndexes are held in memory, of at most half a MiB each at the default size of segments.
	maxIndexes = 8
)

func (x *index) encode() []byte {
	b := make([]byte, 0, len(indexMagic)+8+len(x.head)+len(x.blocks)*blockLength+sha256.Size)
	b = append(b, indexMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(x.size))
	b = append(b, x.head[:]...)
	for i := range x.blocks {
		k := &x.blocks[i]
		for _, n := range [...]uint64{uint64(k.offset), uint64(k.size), k.first, k.last, uint64(k.from), uint64(k.to)} {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		for _, word := range k.values {
			b = binary.BigEndian.AppendUint64(b, word)
		}
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

var errNoIndex = errors.New("it is no index")

func decodeIndex(b []byte) (*index, error) {
	const fixed = len(indexMagic) + 8 + sha256.Size
	if len(b) < fixed+sha256.Size || !bytes.HasPrefix(b, []byte(indexMagic)) || (len(b)-fixed-sha256.Size)%blockLength != 0 {
		return nil, errNoIndex
	}
	content, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if Hash(sum) != sha256.Sum256(content) {
		return nil, errNoIndex
	}
	x := &index{}
	content = content[len(indexMagic):]
	x.size, content = int64(binary.BigEndian.Uint64(content)), content[8:]
	x.head, content = Hash(content[:sha256.Size]), content[sha256.Size:]
	x.blocks = make([]block, len(content)/blockLength)
	for i := range x.blocks {
		k, b := &x.blocks[i], content[i*blockLength:]
		word := func(n int) uint64 { return binary.BigEndian.Uint64(b[8*n:]) }
		k.offset, k.size, k.first, k.last = int64(word(0)), int64(word(1)), word(2), word(3)
		k.from, k.to = identity.Instant(word(4)), identity.Instant(word(5))
		for j := range k.values {
			k.values[j] = word(6 + j)
		}
	}
	return x, nil
}

// indexes has the indexes of a log's segments, and makes them when they are asked for.
type indexes struct {
	catalog *catalog
	logger  *slog.Logger

	mu   sync.Mutex
	held []*heldIndex        // the last used at the end
	kept map[uint64]struct{} // segments whose index is known to be in a file
}

type heldIndex struct {
	first  uint64
	closed bool         // under the lock of indexes
	asked  atomic.Int32 // questions that wait for it

	mu    sync.Mutex
	index *index
	saved bool
}

func newIndexes(c *catalog, logger *slog.Logger) *indexes {
	return &indexes{catalog: c, logger: logger, kept: map[uint64]struct{}{}}
}

// get returns the blocks of a segment up to its committed size, and how much had to be read for that.
func (x *indexes) get(s segment) (blocks []block, read int64, err error) {
	h := x.hold(s)
	h.asked.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked.Add(-1)
	read, err = x.complete(h, s, func(time.Duration) error { return nil })
	if err != nil {
		return nil, read, err
	}
	return h.snapshot(), read, nil
}

// make has the index of a segment made, without haste unless somebody asks for it.
func (x *indexes) make(ctx context.Context, s segment) error {
	h := x.hold(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	_, err := x.complete(h, s, func(worked time.Duration) error {
		if h.asked.Load() > 0 {
			return nil
		}
		timer.Reset(restShare * worked)
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return err
}

// complete brings an index up to the committed size of its segment, and calls rest with how long each piece took. The lock of
// the index is held.
func (x *indexes) complete(h *heldIndex, s segment, rest func(worked time.Duration) error) (read int64, err error) {
	if h.index == nil && s.closed {
		if loaded, size := x.load(s); loaded != nil {
			h.index, h.saved, read = loaded, true, size
		}
	}
	if h.index == nil {
		h.index = &index{}
	}
	if h.index.size < s.size {
		n, err := x.extend(h.index, s, rest)
		read += n
		if err != nil {
			return read, err
		}
	}
	if s.closed && !h.saved {
		// Without the file the next question takes longer, and that is all.
		if err := privatefile.Replace(x.path(s.first), h.index.encode()); err != nil {
			x.logger.Warn("keeping the index of an audit segment", "error", err)
		}
		h.saved = true
	}
	return read, nil
}

// snapshot is called with the lock held. The last block may change yet; those before it don't.
func (h *heldIndex) snapshot() []block {
	all := h.index.blocks
	if len(all) == 0 {
		return nil
	}
	// Appending to all[:n-1] with no room to spare copies it, so the caller's last block is its own.
	n := len(all) - 1
	return append(all[:n:n], all[n])
}

func (x *indexes) hold(s segment) *heldIndex {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := &heldIndex{first: s.first}
	if i := slices.IndexFunc(x.held, func(h *heldIndex) bool { return h.first == s.first }); i >= 0 {
		h = x.held[i]
		x.held = slices.Delete(x.held, i, i+1)
	} else if len(x.held) >= maxIndexes {
		// That of the segment being written has no file to come back from.
		if i := slices.IndexFunc(x.held, func(h *heldIndex) bool { return h.closed }); i >= 0 {
			x.held = slices.Delete(x.held, i, i+1)
		}
	}
	h.closed = s.closed
	x.held = append(x.held, h)
	return h
}

func (x *indexes) path(first uint64) string { return filepath.Join(x.catalog.dir, indexName(first)) }

// load reads the file of a finished segment, if it fits it.
func (x *indexes) load(s segment) (*index, int64) {
	b, err := os.ReadFile(x.path(s.first))
	if err != nil {
		return nil, 0
	}
	loaded, err := decodeIndex(b)
	if err != nil || loaded.size != s.size || len(loaded.blocks) == 0 || loaded.blocks[len(loaded.blocks)-1].last != s.last {
		return nil, 0
	}
	return loaded, int64(len(b))
}

// extend reads what has been committed since, a piece at a time, and calls rest after each with how long it took.
func (x *indexes) extend(to *index, s segment, rest func(worked time.Duration) error) (read int64, err error) {
	f, err := os.Open(x.catalog.path(s.first))
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	buffer := make([]byte, 4*MaxLine)
	for to.size < s.size {
		part := buffer[:min(int64(len(buffer)), s.size-to.size)]
		if _, err := io.ReadFull(io.NewSectionReader(f, to.size, int64(len(part))), part); err != nil {
			return read, fmt.Errorf("reading %s: %w", segmentName(s.first), err)
		}
		whole := part[:bytes.LastIndexByte(part, '\n')+1]
		if len(whole) == 0 {
			return read, corruptAt(s, to.size)
		}
		for len(whole) > 0 {
			began := time.Now()
			piece := whole[:endOfLine(whole, pieceBytes)]
			taken, err := to.extend(piece)
			read += taken
			if err != nil {
				return read, corruptAt(s, to.size)
			}
			if err := rest(time.Since(began)); err != nil {
				return read, err
			}
			whole = whole[len(piece):]
		}
	}
	return read, nil
}

func corruptAt(s segment, offset int64) error {
	return fmt.Errorf("%w: %s at byte %d; verify the log", ErrCorrupt, segmentName(s.first), offset)
}

// endOfLine returns where the line ends that is at least so far into whole lines.
func endOfLine(lines []byte, least int) int {
	if len(lines) <= least {
		return len(lines)
	}
	return least + bytes.IndexByte(lines[least:], '\n') + 1
}

// sweep removes indexes whose segments are gone, as a crash or a late question leaves them.
func (x *indexes) sweep() error {
	entries, err := os.ReadDir(x.catalog.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), indexSuffix)
		if !ok {
			continue
		}
		if _, gone := os.Stat(filepath.Join(x.catalog.dir, base+segmentSuffix)); errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, os.Remove(filepath.Join(x.catalog.dir, e.Name())))
		}
	}
	return err
}

// forget drops what is known of segments that are removed.
func (x *indexes) forget(first uint64) error {
	x.mu.Lock()
	x.held = slices.DeleteFunc(x.held, func(h *heldIndex) bool { return h.first == first })
	delete(x.kept, first)
	x.mu.Unlock()
	if err := os.Remove(x.path(first)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

const (
	calmBytes = 4 << 20 // a second: some 5,000 records
	calmFor   = 5       // such seconds in a row: between two bursts a node is about to have much to do
	calmAfter = time.Minute

	// pieceBytes of lines are indexed at a time, in 0.1 ms, and then nothing is done for restShare times as long: a
	// segment of 64 MiB keeps a processor busy for a tenth of a second, which others would wait for that have milliseconds.
	pieceBytes = 64 << 10
	restShare  = 9
)

// run makes the indexes of finished segments, so that the first question after a quiet week need not read a week. It
// does so while the log grows slowly, and otherwise once a minute: to index a segment takes as long as some thousand mints,
// and a question can do it as well. A log that grows slowly may belong to a node with much else to do, so there is no haste.
func (x *indexes) run(ctx context.Context) {
	for x.pause(ctx) {
		x.fill(ctx, 1)
	}
}

// pause returns once the log grows slowly, or after a minute of haste.
func (x *indexes) pause(ctx context.Context) bool {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	calm := 0
	for range calmAfter / time.Second {
		before := x.catalog.written()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
		if calm++; x.catalog.written()-before >= calmBytes {
			calm = 0
		}
		if calm >= calmFor && x.missing() {
			return true
		}
	}
	return true
}

// missing reports whether a finished segment has no index yet.
func (x *indexes) missing() bool {
	return slices.ContainsFunc(x.catalog.all(), func(s segment) bool { return s.closed && !x.has(s) })
}

func (x *indexes) has(s segment) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.kept[s.first]; ok {
		return true
	}
	if _, err := os.Stat(x.path(s.first)); err != nil {
		return false
	}
	x.kept[s.first] = struct{}{}
	return true
}

// fill makes so many indexes at most, those of the newest segments first.
func (x *indexes) fill(ctx context.Context, most int) {
	for _, s := range slices.Backward(x.catalog.all()) {
		if most == 0 || ctx.Err() != nil {
			return
		}
		if !s.closed || x.has(s) {
			continue
		}
		if err := x.make(ctx, s); err != nil && !errors.Is(err, os.ErrNotExist) && ctx.Err() == nil {
			x.logger.Warn("making the index of an audit segment", "segment", segmentName(s.first), "error", err)
		}
		most--
	}
}
