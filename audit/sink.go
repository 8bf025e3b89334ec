package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Line is a record on its way to a sink. Its JSON is as it stands in the log, so that the hash chain can be checked
// wherever it ends up: see ParseEntry.
type Line struct {
	Sequence uint64
	Time     identity.Instant
	Kind     Kind
	Denied   bool
	Node     string
	Prev     Hash
	Hash     Hash
	JSON     []byte // without a newline; not to be kept or changed
}

// Sink takes records elsewhere, at least once and in order. All its methods are called by one goroutine.
type Sink interface {
	// Deliver hands over some records. After an error, all beyond Confirmed are delivered again.
	Deliver(ctx context.Context, lines []Line) error
	// Confirmed returns the last record that is known to have arrived, of those that were delivered; 0 if none is.
	Confirmed() uint64
	// Close ends it. Afterwards Confirmed is asked once more.
	Close(ctx context.Context) error
}

// SinkOptions set a sink up.
type SinkOptions struct {
	Name  string // a slug; names its cursor and its metrics
	Sink  Sink
	Batch int // 500: the most records that are delivered at once
	// Linger is how long records are gathered once there is one; 100 ms.
	Linger time.Duration
	// FromNow has a sink that never ran begin with the records to come; otherwise it begins with the oldest.
	FromNow bool
}

// Bounds of delivery.
const (
	defaultBatch   = 500
	defaultLinger  = 100 * time.Millisecond
	batchBytes     = 1 << 20 // a batch ends with the record that reaches it
	deliverTimeout = 30 * time.Second
	firstPause     = 250 * time.Millisecond // after the first error; it doubles
	longestPause   = time.Minute
	cursorEvery    = time.Second // the most that is delivered twice after a crash
	closeTimeout   = 2 * time.Second
)

func (o SinkOptions) setDefaults() SinkOptions {
	setDefault(&o.Batch, defaultBatch)
	setDefault(&o.Linger, defaultLinger)
	return o
}

// courier brings the records of a log to one sink.
type courier struct {
	SinkOptions
	log    *Log
	reader *reader
	path   string
	ended  chan struct{}
	hurry  chan struct{}      // closed when the log is to be closed
	cancel context.CancelFunc // ends run, and what it waits for

	batch []Line
	text  []byte // of the batch

	confirmed atomic.Uint64 // as saved or about to be; retention keeps what comes after
	delivered atomic.Uint64
	behind    atomic.Int64 // identity.Instant of the oldest record that is known to wait; 0: none
	lost      atomic.Uint64
	failures  atomic.Uint64
	mu        sync.Mutex
	trouble   error // of the last delivery

	saved    uint64
	savedAt  time.Time
	unsaving bool // the cursor can't be kept
}

func newCourier(l *Log, o SinkOptions) (*courier, error) {
	c := &courier{
		SinkOptions: o.setDefaults(), log: l, ended: make(chan struct{}), hurry: make(chan struct{}),
		path: filepath.Join(l.options.Dir, sinksFolder, o.Name+".json"),
	}
	last, _ := l.catalog.last()
	at, err := c.load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if o.FromNow {
			at.Confirmed = last
		}
	case err != nil:
		return nil, fmt.Errorf("reading where sink %s stands: %w", o.Name, err)
	case at.Log != l.id:
		l.logger.Warn("a sink begins anew: where it stood was in another audit log", "sink", o.Name, "file", c.path)
		at.Confirmed = 0
	case at.Confirmed > l.resumedAt:
		// A power cut took records that had been delivered. Others have their numbers now.
		l.logger.Error("the audit log ended before what a sink has got of it: records were lost or cut off", "sink", o.Name, "log", l.resumedAt, "sink_has", at.Confirmed)
		at.Confirmed = l.resumedAt
	}
	c.confirmed.Store(at.Confirmed)
	c.delivered.Store(at.Confirmed)
	c.reader = newReader(l.catalog, at.Confirmed+1)
	return c, c.save(true)
}

func (c *courier) run(ctx context.Context) {
	defer close(c.ended)
	defer c.reader.close()
	for pause := firstPause; ; {
		if !c.gather(ctx) {
			break
		}
		err := c.deliver(ctx)
		c.report(err)
		if err == nil {
			pause = firstPause
			c.batch = c.batch[:0]
			continue
		}
		if !c.sleep(ctx, pause) {
			break
		}
		pause = min(2*pause, longestPause)
		c.goBack()
	}
	c.end()
}

// gather fills the batch, unless there is one that could not be delivered. It returns false once there is nothing
// more to come, or no more time.
func (c *courier) gather(ctx context.Context) bool {
	if len(c.batch) > 0 {
		return ctx.Err() == nil
	}
	c.text = c.text[:0]
	var linger <-chan time.Time
	for len(c.batch) < c.Batch && len(c.text) < batchBytes {
		expected := c.reader.next
		line, f, more, err := c.reader.read()
		if err != nil {
			c.report(err)
			if !c.sleep(ctx, longestPause) {
				return false
			}
			continue
		}
		if line == nil {
			if more == nil {
				return len(c.batch) > 0
			}
			if goOn := c.wait(ctx, more, &linger); !goOn {
				return len(c.batch) > 0 && ctx.Err() == nil
			}
			continue
		}
		if f.sequence > expected {
			c.lose(expected, f.sequence)
		}
		c.take(line, &f)
	}
	return true
}

// wait returns true when there is more to read, and false when the batch is to go, or ctx has ended.
func (c *courier) wait(ctx context.Context, more <-chan struct{}, linger *<-chan time.Time) bool {
	if len(c.batch) > 0 && *linger == nil {
		*linger = time.After(c.Linger)
	}
	if len(c.batch) == 0 {
		c.behind.Store(0)
	}
	// A sink that confirms late is asked again while nothing happens.
	for {
		var again <-chan time.Time
		if len(c.batch) == 0 && c.confirmed.Load() < c.delivered.Load() {
			again = time.After(cursorEvery)
		}
		select {
		case <-more:
			return true
		case <-*linger:
			return false
		case <-c.hurry:
			return len(c.batch) == 0 // the log is ended or about to be, which closes more
		case <-ctx.Done():
			return false
		case <-again:
			c.confirm()
		}
	}
}

func (c *courier) take(line []byte, f *frame) {
	start := len(c.text)
	c.text = append(c.text, line...)
	// Growing the text may move it: lines before keep the old memory, which holds the same.
	own := c.text[start:len(c.text):len(c.text)]
	l := Line{
		Sequence: f.sequence, Time: f.instant(), Kind: Kind(f.kind), Denied: bytes.Contains(own, []byte(`,"decision":"denied"`)),
		Node: c.log.options.Node, Prev: f.prev, Hash: f.hash, JSON: own,
	}
	if len(c.batch) == 0 {
		c.behind.Store(int64(l.Time))
	}
	c.batch = append(c.batch, l)
}

func (c *courier) deliver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	if err := c.Sink.Deliver(ctx, c.batch); err != nil {
		return err
	}
	c.delivered.Store(c.batch[len(c.batch)-1].Sequence)
	c.confirm()
	return nil
}

// confirm moves the cursor. It never goes back.
func (c *courier) confirm() {
	if confirmed := c.Sink.Confirmed(); confirmed > c.confirmed.Load() {
		c.confirmed.Store(confirmed)
	}
	err := c.save(false)
	if err != nil && !c.unsaving {
		c.log.logger.Warn("a sink may get records again after a restart", "error", err)
	}
	c.unsaving = err != nil
}

// goBack has what isn't confirmed read again, if that is more than the batch at hand.
func (c *courier) goBack() {
	c.confirm()
	confirmed := c.confirmed.Load()
	if confirmed+1 < c.batch[0].Sequence {
		c.delivered.Store(confirmed)
		c.batch = c.batch[:0]
		c.reader.seek(confirmed + 1)
		return
	}
	// A part of it may have got there.
	for len(c.batch) > 0 && c.batch[0].Sequence <= confirmed {
		c.batch = c.batch[1:]
	}
}

// lose counts records that were removed before they were read. Retention has recorded it.
func (c *courier) lose(from, to uint64) {
	c.lost.Add(to - from)
	c.log.logger.Error("records were removed before a sink got them", "sink", c.Name, "from", from, "lost", to-from)
}

func (c *courier) report(err error) {
	c.mu.Lock()
	before := c.trouble
	c.trouble = err
	c.mu.Unlock()
	switch {
	case err == nil && before != nil:
		c.log.logger.Info("a sink takes audit records again", "sink", c.Name)
	case err != nil:
		c.failures.Add(1)
		if before == nil {
			c.log.logger.Warn("a sink doesn't take audit records; they stay in the log and it is tried again", "sink", c.Name, "error", err)
		}
	}
}

// sleep waits, give or take a fifth, so that many nodes don't come back at once.
func (c *courier) sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause - pause/5 + rand.N(2*pause/5))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.hurry:
		return false
	case <-ctx.Done():
		return false
	}
}

// end closes the sink and keeps how far it got.
func (c *courier) end() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := c.Sink.Close(ctx)
	if confirmed := c.Sink.Confirmed(); confirmed > c.confirmed.Load() {
		c.confirmed.Store(confirmed)
	}
	if err = errors.Join(err, c.save(true)); err != nil {
		c.log.logger.Warn("ending a sink of the audit log", "sink", c.Name, "error", err)
	}
}

// finish waits until the sink has delivered what is left, or ctx has ended. A sink that is stuck in a call that can't be
// ended is left behind.
func (c *courier) finish(ctx context.Context) error {
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.cancel()
		select {
		case <-c.ended:
		case <-time.After(2 * closeTimeout):
			return fmt.Errorf("sink %s doesn't end", c.Name)
		}
	}
	return nil
}
