package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Log is a node's audit log. It is safe for use by many goroutines.
type Log struct {
	options Options
	logger  *slog.Logger
	node    []byte // as a JSON string
	id      string
	began   identity.Instant
	lock    *os.File

	resumedAt uint64 // the last record that was there when the log was opened

	queue       *queue
	catalog     *catalog
	syncer      *syncer
	sealer      *sealer
	writer      *writer
	checkpoints *publisher
	peers       *peers
	indexes     *indexes
	house       *house
	sinks       []*courier
	metrics     *metrics
	failing     atomic.Pointer[error]

	bodies sync.Pool // of *[]byte

	cancel context.CancelFunc // ends what runs in the background, but for the writer
	group  sync.WaitGroup     // of that
	wrote  chan struct{}      // closed when the writer has ended
	once   sync.Once
	closed error
}

// Open goes on with the log in the folder, or begins one. Half a line that a crash left at the end is cut off and
// recorded; anything else that is wrong with the end of the log is ErrCorrupt. The log is to be closed.
func Open(options Options) (*Log, error) {
	options.setDefaults()
	if err := options.validate(); err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(options.Dir, sinksFolder), 0o700); err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	lock, err := lockFolder(options.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{
		options: options, logger: options.Logger.With("node", options.Node), lock: lock,
		node:  appendQuoted(nil, options.Node),
		queue: newQueue(options.QueueRecords, options.QueueBytes, options.Patience), catalog: &catalog{dir: options.Dir},
		wrote: make(chan struct{}),
	}
	l.bodies.New = func() any {
		b := make([]byte, 0, 2048)
		return &b
	}
	if err := l.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the audit log: %w", err), lock.Close())
	}
	return l, nil
}

func lockFolder(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the audit log: %w", err)
	}
	// flock goes with the open file: kill -9 releases it, and a stale lock can't exist.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s; stop that process, or give this node a folder of its own", ErrInUse, dir)
		}
		return nil, fmt.Errorf("locking the audit log %s: %w", dir, err)
	}
	return lock, nil
}

func (l *Log) start() (err error) {
	r, err := recoverFolder(l.options.Dir, l.options.Node, l.options.Signer.Public())
	if err != nil {
		return err
	}
	if l.peers, err = openPeers(filepath.Join(l.options.Dir, peersFile), l.options.PeerKey, l.logger); err != nil {
		return err
	}
	l.metrics = newMetrics()
	l.indexes = newIndexes(l.catalog, l.logger)
	if err := l.indexes.sweep(); err != nil {
		l.logger.Warn("removing indexes of audit segments that are gone", "error", err)
	}
	l.house = newHouse(l)
	l.checkpoints = newPublisher(l.options.OnCheckpoint)
	if err := l.begin(r); err != nil {
		return errors.Join(err, l.peers.close())
	}
	for i := range l.options.Sinks {
		c, err := newCourier(l, l.options.Sinks[i])
		if err != nil {
			return errors.Join(err, l.writer.file.Close(), l.peers.close())
		}
		l.sinks = append(l.sinks, c)
	}
	if err := l.metrics.register(l, l.options.Registerer); err != nil {
		return errors.Join(err, l.writer.file.Close(), l.peers.close())
	}
	l.run()
	return nil
}

// run starts what runs in the background. Nothing fails from here on.
func (l *Log) run() {
	background, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	due := l.writer.due(time.Now())
	go func() {
		defer close(l.wrote)
		l.writer.run(due)
	}()
	l.group.Go(func() { l.syncer.run(background) })
	l.group.Go(func() { l.sealer.run(background) })
	l.group.Go(func() { l.checkpoints.run(background) })
	l.group.Go(func() { l.house.run(background) })
	l.group.Go(func() { l.indexes.run(background) })
	for _, c := range l.sinks {
		var while context.Context
		while, c.cancel = context.WithCancel(background)
		go c.run(while) // see finish
	}
}

// begin makes the writer, and has it write what has to be on the disk before anything else.
func (l *Log) begin(r *recovered) error {
	now := l.options.Now()
	w := newWriter(l)
	l.writer = w
	if l.options.Sync != SyncAlways {
		l.queue.write = w.lend // else each write is a sync, too long for a caller who has given a time by which to give up
	}
	if r.state == nil {
		l.began = identity.InstantOf(now)
		var entropy [10]byte
		if _, err := rand.Read(entropy[:]); err != nil {
			return fmt.Errorf("naming the log: %w", err)
		}
		l.id = identity.NewID(logPrefix, l.began, entropy)
		w.first = 1
	} else {
		s := r.state
		l.id, l.began = s.header.Log, s.header.Began
		w.first, w.size, w.chain, w.written = s.first, s.size, s.chain, s.chain
		l.resumedAt = s.chain.sequence
		if age := now.Sub(s.last.Time()); age > 0 {
			w.begun = w.begun.Add(-age) // near enough: the segment is no younger than its last record
		}
		if s.newest != nil {
			l.checkpoints.publish(*s.newest)
			w.latest = s.newest.Time
		}
	}
	at := mark{size: w.size, sequence: w.written.sequence, head: w.written.head}
	l.sealer = newSealer(l)
	l.sealer.reached(at)
	if r.state == nil && !r.headLost {
		// The header will say that there is a head, so the head comes first.
		if err := l.sealer.seal(false); err != nil {
			return err
		}
	}
	var err error
	if w.file, err = l.options.openFile(l.catalog.path(w.first), r.state == nil); err != nil {
		return fmt.Errorf("opening the last segment: %w", err)
	}
	l.syncer = newSyncer(w.file, at, l.options.SyncWithin, l.metrics)
	l.syncer.onFailure, l.syncer.onSynced = l.queue.nudge, l.sealer.reached
	l.catalog.segments = r.segments
	if r.state != nil {
		l.catalog.commit(w.first, w.written.sequence, w.size, w.written.head)
	}
	// What a killed process wrote may be in the kernel's hands only.
	err = errors.Join(w.file.Sync(), syncFolder(l.options.Dir))
	if err == nil && !r.headLost {
		// All that a killed process left is sealed before anything else happens, and a log is not called closed any more
		// that is about to go on. Where that can't be done, on a full disk say, the sealer tries again.
		sealed := l.sealer.seal(false) == nil
		w.stuck = sealed && !r.state.headed()
	}
	if err == nil {
		err = w.prepare()
	}
	if err == nil && r.cut != nil {
		l.logger.Warn("half a line at the end of the audit log was cut off, as a crash leaves it", "segment", r.torn, "bytes", r.cut.torn)
		w.own(appendRecoveredBody(nil, w.now(), r.torn, r.cut.torn, r.cut.tornSum))
	}
	if err == nil && r.headLost {
		l.logger.Error("the audit log goes on without its sealed head, as the file head.lost says that it is to", "after", w.written.sequence)
		w.own(appendHeadLostBody(nil, w.now(), r.lost))
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = l.settleHead(r)
	}
	if err != nil {
		return errors.Join(err, w.file.Close())
	}
	return nil
}

// settleHead removes the word that the log is to go on without its head, once that is recorded and there is a new one.
func (l *Log) settleHead(r *recovered) error {
	if !r.headLost && !r.settled {
		return nil
	}
	if err := l.syncer.sync(); err != nil {
		return err
	}
	if l.sealer.seal(false) != nil {
		return nil // it is recorded, and once more after the next start
	}
	return os.Remove(filepath.Join(l.options.Dir, headLost))
}

// Append records a decision and returns once it is written: an answer may go out then. A nil error with FullDropAndCount
// may also mean that the record was dropped and counted.
func (l *Log) Append(ctx context.Context, r *Record) error {
	t, err := l.Queue(ctx, r)
	if err != nil {
		return err
	}
	_, err = t.Wait(ctx)
	return err
}

// Queue sets a record on its way and returns as soon as there is room for it, so that the caller can do something
// else before it waits. It keeps nothing of the record. The order of records is that of their queueing.
func (l *Log) Queue(ctx context.Context, r *Record) (Ticket, error) {
	if err := r.validate(); err != nil {
		return Ticket{}, err
	}
	buffer := l.bodies.Get().(*[]byte)
	now := r.Time
	if now.IsZero() {
		now = identity.InstantOf(l.options.Now())
	}
	*buffer = appendBody((*buffer)[:0], r, now)
	t, err := l.enqueue(ctx, *buffer, classOf(r))
	l.bodies.Put(buffer)
	return t, err
}

func (l *Log) enqueue(ctx context.Context, body []byte, c class) (Ticket, error) {
	if l.options.Full == FullBlock {
		return l.queue.put(ctx, body, c)
	}
	t, taken, err := l.queue.offer(body, c, l.options.Now())
	if err == nil && !taken {
		l.metrics.dropped.Inc()
	}
	return t, err
}

// note has the writer write a record of the log's own, and waits for it.
func (l *Log) note(ctx context.Context, body []byte) error {
	t, err := l.queue.put(ctx, body, ownClass)
	if err != nil {
		return err
	}
	_, err = t.Wait(ctx)
	return err
}

// Failing returns why the log can't be written at present, or nil.
func (l *Log) Failing() error {
	if err := l.failing.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, *err)
	}
	return nil
}

// Last returns the number and the hash of the newest record.
func (l *Log) Last() (sequence uint64, head Hash) { return l.catalog.last() }

// Checkpoint returns the newest checkpoint of this log; false before the first.
func (l *Log) Checkpoint() (Checkpoint, bool) { return l.checkpoints.latest() }

// Close takes no more records, writes those that are queued and a last checkpoint, syncs, and then gives the sinks
// until ctx ends to deliver what they have not yet. What they don't, they will after the next start.
func (l *Log) Close(ctx context.Context) error {
	l.once.Do(func() { l.closed = l.close(ctx) })
	return l.closed
}

func (l *Log) close(ctx context.Context) error {
	l.queue.close()
	close(l.writer.stop)
	<-l.wrote
	err := l.Failing()
	if err == nil {
		err = l.syncer.sync()
	}
	whole := err == nil
	l.catalog.end()
	for _, c := range l.sinks {
		close(c.hurry)
	}
	for _, c := range l.sinks {
		err = errors.Join(err, c.finish(ctx))
	}
	l.cancel()
	l.group.Wait()
	if whole {
		err = errors.Join(err, l.sealer.seal(true))
	}
	l.metrics.unregister()
	return errors.Join(err, l.peers.close(), l.writer.file.Close(), l.lock.Close())
}
