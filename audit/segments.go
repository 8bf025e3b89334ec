package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Names inside the folder of a log. A segment's name is the sequence number of its first record.
const (
	segmentSuffix = ".jsonl"
	indexSuffix   = ".index"
	nameDigits    = 20
	lockFile      = "lock"
	peersFile     = "peers.jsonl"
	sinksFolder   = "sinks"
)

func segmentName(first uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, first, segmentSuffix) }

func indexName(first uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, first, indexSuffix) }

// parseSegmentName returns false for a name that segmentName doesn't make.
func parseSegmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != nameDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0 && segmentName(first) == name
}

// segmentNames lists the segments in a folder by their first records, and the names that look like segments but
// aren't.
func segmentNames(folder fs.FS) (firsts []uint64, strays []string, err error) {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if first, ok := parseSegmentName(name); ok {
			firsts = append(firsts, first)
		} else if strings.HasSuffix(name, segmentSuffix) && name != peersFile {
			strays = append(strays, name)
		}
	}
	slices.Sort(firsts)
	return firsts, strays, nil
}

// file is what the writer asks of a segment. Tests put one that fails in its place.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// openFile opens a segment for writing, or with create makes one that must not be there yet.
func openFile(path string, create bool) (file, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE | os.O_EXCL
	}
	return os.OpenFile(path, flags, 0o600)
}

// syncFolder makes changes of names in a folder durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// segment is one file as far as readers may know it.
type segment struct {
	first  uint64
	last   uint64 // committed
	size   int64  // committed: what lies beyond may be half a line
	closed bool   // nothing will be added
}

// catalog is what has been committed. The writer changes it, everybody reads it.
type catalog struct {
	dir string

	mu       sync.RWMutex
	segments []segment // oldest first; the last is being written
	head     Hash
	bytes    int64         // written since the log was opened
	more     chan struct{} // closed at the next commit; nil while nobody waits for it
	ended    bool          // nothing more will come
}

// commit publishes that a segment has grown, or begun, up to a record.
func (c *catalog) commit(first, last uint64, size int64, head Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.segments)
	if n > 0 && c.segments[n-1].first == first {
		c.bytes += size - c.segments[n-1].size
		c.segments[n-1].last, c.segments[n-1].size = last, size
	} else {
		if n > 0 {
			c.segments[n-1].closed = true
		}
		c.bytes += size
		c.segments = append(c.segments, segment{first: first, last: last, size: size})
	}
	c.head = head
	c.wakeAll()
}

func (c *catalog) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.wakeAll()
}

// wakeAll is called with the lock held.
func (c *catalog) wakeAll() {
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
}

// last returns the newest committed record.
func (c *catalog) last() (uint64, Hash) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.segments) == 0 {
		return 0, Hash{}
	}
	return c.segments[len(c.segments)-1].last, c.head
}

// written returns how much has been, since the log was opened.
func (c *catalog) written() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.bytes
}

// all returns the segments, oldest first.
func (c *catalog) all() []segment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.segments)
}

// ends returns how far each segment goes, and where the log ends.
func (c *catalog) ends() (sizes map[uint64]int64, end mark) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	sizes = make(map[uint64]int64, len(c.segments))
	for _, s := range c.segments {
		sizes[s.first] = s.size
		end = mark{size: s.size, sequence: s.last, head: c.head}
	}
	return sizes, end
}

// find returns the segment that holds a record, or else the next one that is there. With no such record yet it
// returns false, and a channel that is closed when there is more, nil when there will never be.
func (c *catalog) find(sequence uint64) (s segment, ok bool, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, _ := slices.BinarySearchFunc(c.segments, sequence, func(s segment, sequence uint64) int {
		if s.last < sequence {
			return -1
		}
		return 1
	})
	if i < len(c.segments) {
		return c.segments[i], true, nil
	}
	if c.ended {
		return segment{}, false, nil
	}
	if c.more == nil {
		c.more = make(chan struct{})
	}
	return segment{}, false, c.more
}

// removeBefore forgets the segments before the one that begins with first.
func (c *catalog) removeBefore(first uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.segments, func(s segment) bool { return s.first == first })
	if i > 0 {
		c.segments = slices.Clone(c.segments[i:])
	}
}

func (c *catalog) path(first uint64) string { return filepath.Join(c.dir, segmentName(first)) }
