package audit

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// disk gives files that fail on demand.
type disk struct {
	mu       sync.Mutex
	writeErr error
	half     bool // a failing write leaves half of what it was given
	cutErr   error
	syncErr  error
	openErr  error
	spoil    bool          // a failing sync also loses what was written
	gate     chan struct{} // writes wait until it is closed
	syncGate chan struct{} // syncs wait until it is closed
	syncs    atomic.Int64
}

func (d *disk) set(change func(d *disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *disk) open(path string, create bool) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if create && d.openErr != nil {
		return nil, d.openErr
	}
	f, err := openFile(path, create)
	if err != nil {
		return nil, err
	}
	return &failingFile{File: f.(*os.File), disk: d}, nil
}

type failingFile struct {
	*os.File
	disk *disk
}

func (f *failingFile) WriteAt(p []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	gate := f.disk.gate
	f.disk.mu.Unlock()
	if gate != nil {
		<-gate
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.writeErr != nil {
		n := 0
		if f.disk.half {
			n, _ = f.File.WriteAt(p[:len(p)/2], at)
		}
		return n, f.disk.writeErr
	}
	return f.File.WriteAt(p, at)
}

func (f *failingFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.cutErr != nil {
		return f.disk.cutErr
	}
	return f.File.Truncate(size)
}

func (f *failingFile) Sync() error {
	f.disk.syncs.Add(1)
	f.disk.mu.Lock()
	gate := f.disk.syncGate
	f.disk.mu.Unlock()
	if gate != nil {
		<-gate
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.syncErr != nil {
		if info, err := f.Stat(); f.disk.spoil && err == nil && info.Size() > 0 {
			_, _ = f.File.WriteAt([]byte("\x00"), info.Size()-10)
		}
		return f.disk.syncErr
	}
	return f.File.Sync()
}

func withDisk(dir string) (Options, *disk) {
	d := &disk{}
	o := testOptions(dir)
	o.openFile = d.open
	return o, d
}

func TestFullDiskRefusesUntilThereIsRoom(t *testing.T) {
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprintf("half a write stays: %t", half), func(t *testing.T) {
			o, d := withDisk(t.TempDir())
			l := openLog(t, o)
			appendAll(t, l, 0, 5)
			require.NoError(t, l.Failing())

			d.set(func(d *disk) { d.writeErr, d.half = syscall.ENOSPC, half })
			for i := 5; i < 8; i++ {
				err := l.Append(t.Context(), numbered(i))
				require.ErrorIs(t, err, ErrWrite)
				require.ErrorIs(t, err, syscall.ENOSPC)
			}
			require.ErrorIs(t, l.Failing(), ErrWrite)
			last, _ := l.Last()

			// Where even taking back fails, nothing is written behind what was left.
			d.set(func(d *disk) { d.writeErr, d.cutErr = nil, syscall.EIO })
			if half {
				require.ErrorIs(t, l.Append(t.Context(), numbered(8)), syscall.EIO)
			}
			d.set(func(d *disk) { d.cutErr = nil })

			// It comes back without anybody having to append.
			eventually(t, "the log works again", func() bool { return l.Failing() == nil })
			appendAll(t, l, 9, 12)
			now, _ := l.Last()
			require.Greater(t, now, last)
			closeLog(t, l)
			requireWhole(t, o.Dir)
			require.Equal(t, 1, countKind(t, o.Dir, KindResumed))
			require.Equal(t, 5+3, countKind(t, o.Dir, KindTool), "what was refused is not in the log")
		})
	}
}

func TestSegmentThatCannotBeBegunRefuses(t *testing.T) {
	o, d := withDisk(t.TempDir())
	o.SegmentBytes = minSegmentBytes
	l := openLog(t, o)
	d.set(func(d *disk) { d.openErr = syscall.EMFILE })
	var err error
	for i := 0; err == nil && i < 5000; i++ {
		err = l.Append(t.Context(), numbered(i))
	}
	require.ErrorIs(t, err, ErrWrite)
	require.ErrorIs(t, err, syscall.EMFILE)
	size := bytesOf(l.catalog.all())
	for range 3 {
		require.ErrorIs(t, l.Append(t.Context(), numbered(1)), syscall.EMFILE)
	}
	require.Equal(t, size, bytesOf(l.catalog.all()), "trying again fills nothing")
	d.set(func(d *disk) { d.openErr = nil })
	eventually(t, "another segment", func() bool { return l.Failing() == nil })
	appendAll(t, l, 0, 10)
	closeLog(t, l)
	require.Equal(t, 2, requireWhole(t, o.Dir).Segments)
}

// After a failed fsync the kernel may have dropped what it could not write: a later fsync that succeeds proves nothing.
func TestFailedSyncIsMadeGoodByWritingAgain(t *testing.T) {
	o, d := withDisk(t.TempDir())
	o.SyncWithin = 2 * time.Millisecond
	l := openLog(t, o)
	appendAll(t, l, 0, 5)
	d.set(func(d *disk) { d.syncErr = syscall.EIO })
	acknowledged := 0
	if l.Append(t.Context(), numbered(5)) == nil { // as a rule, as nobody knows yet
		acknowledged++
	}
	eventually(t, "the failure shows without an append", func() bool { return l.Failing() != nil })
	require.ErrorIs(t, l.Append(t.Context(), numbered(6)), syscall.EIO)
	d.set(func(d *disk) { d.syncErr = nil })
	eventually(t, "it comes back", func() bool { return l.Failing() == nil })
	appendAll(t, l, 7, 10)
	closeLog(t, l)
	requireWhole(t, o.Dir)
	require.GreaterOrEqual(t, countKind(t, o.Dir, KindTool), 5+acknowledged+3)
}

func TestLogThatTheDiskLostStaysClosed(t *testing.T) {
	o, d := withDisk(t.TempDir())
	o.SyncWithin = 2 * time.Millisecond
	l, err := Open(o)
	require.NoError(t, err)
	appendAll(t, l, 0, 5)
	d.set(func(d *disk) { d.syncErr, d.spoil = syscall.EIO, true })
	_ = l.Append(t.Context(), numbered(5)) // may be the first to hear of it
	eventually(t, "the failure shows", func() bool { return l.Failing() != nil })
	d.set(func(d *disk) { d.syncErr = nil })
	require.ErrorIs(t, l.Append(t.Context(), numbered(6)), ErrCorrupt)
	require.ErrorIs(t, l.Close(t.Context()), ErrCorrupt)
}

func TestSyncAlwaysSyncsBeforeItAcknowledges(t *testing.T) {
	o, d := withDisk(t.TempDir())
	o.Sync = SyncAlways
	l := openLog(t, o)
	for i := range 5 {
		before := d.syncs.Load()
		require.NoError(t, l.Append(t.Context(), numbered(i)))
		require.Greater(t, d.syncs.Load(), before)
	}
	d.set(func(d *disk) { d.syncErr = syscall.EIO })
	err := l.Append(t.Context(), numbered(5))
	require.ErrorIs(t, err, ErrUnknown, "the record is there, and nobody knows whether it stays")
	require.NotErrorIs(t, err, ErrWrite)
	err = l.Append(t.Context(), numbered(6))
	require.ErrorIs(t, err, ErrWrite, "nothing is written behind it")
	d.set(func(d *disk) { d.syncErr = nil })
	require.NoError(t, l.Append(t.Context(), numbered(7)))
	closeLog(t, l)
	requireWhole(t, o.Dir)
	require.Equal(t, 5+1+1, countKind(t, o.Dir, KindTool), "the one that is unknown stayed, and the one that was refused is not there")
}

func TestRecordsAreSyncedInTime(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o, d := withDisk(t.TempDir())
		o.CheckpointEvery = time.Hour
		l := openLog(t, o)
		before := d.syncs.Load()
		appendAll(t, l, 0, 3)
		require.Equal(t, before, d.syncs.Load(), "nobody waits for it")
		time.Sleep(defaultSyncWithin)
		virtualtime.Wait()
		require.Equal(t, before+1, d.syncs.Load())
		require.Zero(t, l.syncer.unsynced(time.Now()))
		time.Sleep(time.Minute)
		require.Equal(t, before+1, d.syncs.Load(), "with nothing new there is nothing to sync")
		closeLog(t, l)
	})
}

func TestFullQueueBlocksUntilTheContextEnds(t *testing.T) {
	o, d := withDisk(t.TempDir())
	o.QueueRecords = 4
	o.Patience = 200 * time.Millisecond
	l := openLog(t, o)
	gate := make(chan struct{})
	d.set(func(d *disk) { d.gate = gate })
	var tickets []Ticket
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var err error
	for i := 0; err == nil; i++ {
		var ticket Ticket
		if ticket, err = l.Queue(ctx, numbered(i)); err == nil {
			tickets = append(tickets, ticket)
		}
		require.LessOrEqual(t, len(tickets), 2*o.QueueRecords, "the queue is bounded")
	}
	require.ErrorIs(t, err, ErrFull)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = tickets[0].Wait(ctx)
	require.ErrorIs(t, err, ErrUnknown)
	_, err = l.Queue(context.Background(), numbered(99))
	require.ErrorIs(t, err, ErrFull, "nobody waits for good")
	_, err = tickets[1].Wait(context.Background())
	require.ErrorIs(t, err, ErrUnknown)

	waiting := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		waiting <- l.Append(ctx, numbered(100))
	}()
	close(gate)
	require.NoError(t, <-waiting, "who waits gets in once there is room")
	for _, ticket := range tickets[2:] {
		_, err := ticket.Wait(t.Context())
		require.NoError(t, err)
	}
	closeLog(t, l)
	require.Equal(t, len(tickets)+1, countKind(t, o.Dir, KindTool))
	require.Zero(t, countKind(t, o.Dir, KindDropped))
}

func TestFullQueueMayDropAndSaysSo(t *testing.T) {
	o, d := withDisk(t.TempDir())
	o.QueueRecords, o.Full = 4, FullDropAndCount
	l := openLog(t, o)
	gate := make(chan struct{})
	d.set(func(d *disk) { d.gate = gate })
	const sent = 100
	var tickets []Ticket
	dropped := 0
	for i := range sent {
		ticket, err := l.Queue(t.Context(), numbered(i))
		require.NoError(t, err)
		if ticket == (Ticket{}) {
			dropped++
		}
		tickets = append(tickets, ticket)
	}
	require.GreaterOrEqual(t, dropped, sent-2*o.QueueRecords)
	close(gate)
	for _, ticket := range tickets {
		_, err := ticket.Wait(t.Context())
		require.NoError(t, err)
	}
	closeLog(t, l)
	requireWhole(t, o.Dir)
	require.Equal(t, sent-dropped, countKind(t, o.Dir, KindTool))
	total := 0
	for _, line := range linesOf(t, o.Dir) {
		e, err := ParseEntry(line)
		require.NoError(t, err)
		if e.Kind == KindDropped {
			var d struct {
				Dropped      int
				Since, Until time.Time
			}
			require.NoError(t, unmarshalLine(e.Line, &d))
			require.False(t, d.Until.Before(d.Since))
			total += d.Dropped
		}
	}
	require.Equal(t, dropped, total, "the gap is in the chain")
}
