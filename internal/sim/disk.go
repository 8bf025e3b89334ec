package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// disk is what survives a node's process: raft's log, its votes and its snapshots. What a call was asked to write
// is on the disk once that call has returned; a crash before that leaves some first part of it.
//
// A process that has crashed goes on running in here for a moment, as goroutines can't be ended from outside.
// Its disk is a dead one by then: it takes writes that nobody will ever read.
type disk struct {
	random  *source
	latency func() time.Duration
	writer  chan struct{} // one write at a time, as in boltdb

	mu        sync.Mutex
	low, high uint64 // first and last index of the log, 0 where it is empty
	entries   map[uint64]*raft.Log
	writing   []*raft.Log // the batch that a StoreLogs is writing
	stable    map[string][]byte
	numbers   map[string]uint64
	snapshots []*storedSnapshot // oldest first
	dead      bool
	sequence  int // names snapshots
}

type storedSnapshot struct {
	meta    raft.SnapshotMeta
	content []byte
}

// keptSnapshots is as many as a node keeps.
const keptSnapshots = 2

var (
	_ raft.LogStore      = (*disk)(nil)
	_ raft.StableStore   = (*disk)(nil)
	_ raft.SnapshotStore = (*disk)(nil)
)

func newDisk(random *source, latency func() time.Duration) *disk {
	return &disk{
		random: random, latency: latency, writer: make(chan struct{}, 1),
		entries: make(map[uint64]*raft.Log), stable: make(map[string][]byte), numbers: make(map[string]uint64),
	}
}

// crash returns the disk as the next process finds it.
func (d *disk) crash() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	next := &disk{
		random: d.random, latency: d.latency, writer: make(chan struct{}, 1), low: d.low, high: d.high, sequence: d.sequence,
		entries: maps.Clone(d.entries), stable: maps.Clone(d.stable), numbers: maps.Clone(d.numbers),
		snapshots: slices.Clone(d.snapshots),
	}
	if n := len(d.writing); n > 0 {
		next.keep(d.writing[:d.random.intN(n+1)])
	}
	return next
}

// write takes its time, alone, and then does what it is about.
func (d *disk) write(do func()) {
	d.writer <- struct{}{}
	defer func() { <-d.writer }()
	if t := d.latency(); t > 0 {
		time.Sleep(t)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

func (d *disk) FirstIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.low, nil
}

func (d *disk) LastIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.high, nil
}

func (d *disk) GetLog(index uint64, to *raft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	entry, ok := d.entries[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*to = *entry
	return nil
}

func (d *disk) StoreLog(entry *raft.Log) error { return d.StoreLogs([]*raft.Log{entry}) }

func (d *disk) StoreLogs(batch []*raft.Log) error {
	d.mu.Lock()
	d.writing = batch
	d.mu.Unlock()
	d.write(func() {
		d.writing = nil
		d.keep(batch)
	})
	return nil
}

func (d *disk) keep(batch []*raft.Log) {
	for _, entry := range batch {
		stored := *entry // raft goes on to write to some fields of its own copy
		d.entries[entry.Index] = &stored
		if d.low == 0 {
			d.low = entry.Index
		}
		d.high = max(d.high, entry.Index)
	}
}

// DeleteRange forgets entries, both ends included. What is left may have a gap: after a snapshot was installed
// raft appends behind it, as boltdb lets it.
func (d *disk) DeleteRange(from, to uint64) error {
	d.write(func() { d.remove(from, to) })
	return nil
}

func (d *disk) remove(from, to uint64) {
	for i := max(from, d.low); i <= min(to, d.high); i++ {
		delete(d.entries, i)
	}
	if len(d.entries) == 0 {
		d.low, d.high = 0, 0
		return
	}
	for d.entries[d.low] == nil {
		d.low++
	}
	for d.entries[d.high] == nil {
		d.high--
	}
}

// errNotFound has the text by which raft knows that a value was never set.
var errNotFound = errors.New("not found")

func (d *disk) Set(key, value []byte) error {
	name, value := string(key), bytes.Clone(value)
	d.write(func() { d.stable[name] = value })
	return nil
}

func (d *disk) Get(key []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if value, ok := d.stable[string(key)]; ok {
		return value, nil
	}
	return nil, errNotFound
}

func (d *disk) SetUint64(key []byte, value uint64) error {
	name := string(key)
	d.write(func() { d.numbers[name] = value })
	return nil
}

func (d *disk) GetUint64(key []byte) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if value, ok := d.numbers[string(key)]; ok {
		return value, nil
	}
	return 0, errNotFound
}

// sink is a snapshot being written. Until it is closed there is nothing of it on the disk.
type sink struct {
	disk   *disk
	stored *storedSnapshot
	buffer bytes.Buffer
	ended  bool
}

func (d *disk) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sequence++
	return &sink{disk: d, stored: &storedSnapshot{meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, d.sequence), Index: index, Term: term,
		Configuration: configuration.Clone(), ConfigurationIndex: configurationIndex,
	}}}, nil
}

func (s *sink) Write(p []byte) (int, error) { return s.buffer.Write(p) }

func (s *sink) ID() string { return s.stored.meta.ID }

func (s *sink) Cancel() error {
	s.ended = true
	return nil
}

func (s *sink) Close() error {
	if s.ended {
		return nil
	}
	s.ended = true
	s.stored.content = s.buffer.Bytes()
	s.stored.meta.Size = int64(len(s.stored.content))
	s.disk.write(func() { s.disk.file(s.stored) })
	return nil
}

func (d *disk) file(stored *storedSnapshot) {
	d.snapshots = append(d.snapshots, stored)
	slices.SortStableFunc(d.snapshots, func(a, b *storedSnapshot) int {
		if a.meta.Term != b.meta.Term {
			return int(a.meta.Term) - int(b.meta.Term)
		}
		return int(a.meta.Index) - int(b.meta.Index)
	})
	if extra := len(d.snapshots) - keptSnapshots; extra > 0 {
		d.snapshots = slices.Clone(d.snapshots[extra:])
	}
}

func (d *disk) List() ([]*raft.SnapshotMeta, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*raft.SnapshotMeta
	for _, s := range slices.Backward(d.snapshots) {
		meta := s.meta
		list = append(list, &meta)
	}
	return list, nil
}

func (d *disk) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.snapshots {
		if s.meta.ID == id {
			meta := s.meta
			return &meta, io.NopCloser(bytes.NewReader(s.content)), nil
		}
	}
	return nil, nil, fmt.Errorf("there is no snapshot %s", id)
}
