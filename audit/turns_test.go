package audit

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

func TestRecordsNobodyWaitsForAreWrittenSoon(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		l := openLog(t, testOptions(t.TempDir()))
		before, _ := l.Last()
		_, err := l.Queue(t.Context(), numbered(1))
		require.NoError(t, err)
		_, err = l.Queue(t.Context(), numbered(2))
		require.NoError(t, err)
		time.Sleep(claimWithin)
		virtualtime.Wait()
		after, _ := l.Last()
		require.Equal(t, before+2, after)
		closeLog(t, l)
	})
}

// Whoever waits while another writes is served as soon as that is over, be it the writer's own goroutine or a caller: no
// time passes in this test but where it sleeps.
func TestWaitersAreServedAfterWhoeverHadTheTurn(t *testing.T) {
	for name, first := range map[string]func(l *Log) error{
		"a caller": func(l *Log) error { return l.Append(context.Background(), numbered(0)) },
		"the writer": func(l *Log) error {
			ticket, err := l.Queue(context.Background(), numbered(0))
			time.Sleep(2 * claimWithin)
			_, late := ticket.Wait(context.Background())
			return errors.Join(err, late)
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtualtime.Test(t, func(t *testing.T) {
				o, d := withDisk(t.TempDir())
				l := openLog(t, o)
				virtualtime.Wait() // or the writer starts while its turn is taken
				gate := make(chan struct{})
				d.set(func(d *disk) { d.gate = gate })
				done := make(chan error, 3)
				go func() { done <- first(l) }()
				time.Sleep(3 * claimWithin)
				virtualtime.Wait()
				require.Empty(t, done, "the disk holds it up")
				for i := range 2 {
					go func() { done <- l.Append(context.Background(), numbered(1+i)) }()
				}
				virtualtime.Wait()
				began := time.Now()
				close(gate)
				for range 3 {
					require.NoError(t, <-done)
				}
				require.Zero(t, time.Since(began), "nobody had to wait for a clock")
				closeLog(t, l)
				requireWhole(t, o.Dir)
			})
		})
	}
}

// Where callers write, what is due by the clock is due all the same.
func TestCheckpointIsMadeInTimeOfWhatCallersWrote(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o := testOptions(t.TempDir())
		o.CheckpointEvery = 10 * time.Second
		l := openLog(t, o)
		for range 3 {
			time.Sleep(time.Minute) // the writer sleeps for an hour, as there is nothing to do
			ticket, err := l.Queue(t.Context(), numbered(1))
			require.NoError(t, err)
			sequence, err := ticket.Wait(t.Context())
			require.NoError(t, err)
			time.Sleep(o.CheckpointEvery)
			virtualtime.Wait()
			checkpoint, ok := l.Checkpoint()
			require.True(t, ok)
			require.GreaterOrEqual(t, checkpoint.Through, sequence)
		}
		closeLog(t, l)
	})
}

// One failure of a caller's write is enough for the writer to try again by itself.
func TestWriterTriesAgainAfterACallersFailure(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o, d := withDisk(t.TempDir())
		l := openLog(t, o)
		appendAll(t, l, 0, 2)
		d.set(func(d *disk) { d.writeErr = os.ErrPermission })
		require.ErrorIs(t, l.Append(t.Context(), numbered(2)), ErrWrite)
		require.Error(t, l.Failing())
		d.set(func(d *disk) { d.writeErr = nil })
		time.Sleep(probeAfter)
		virtualtime.Wait()
		require.NoError(t, l.Failing())
		closeLog(t, l)
	})
}

func TestSyncedRecordsAreWaitedForNoLongerThanAsked(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o, d := withDisk(t.TempDir())
		o.Sync = SyncAlways
		l := openLog(t, o)
		gate := make(chan struct{})
		d.set(func(d *disk) { d.gate = gate })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := l.Append(ctx, numbered(1))
		require.ErrorIs(t, err, ErrUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		close(gate)
		closeLog(t, l)
	})
}

// Only a write may hold up a caller beyond the time that he gives, not the syncs that the log needs now and then.
func TestCallersLeaveSyncsToTheWriter(t *testing.T) {
	r := numbered(1)
	r.Detail = strings.Repeat("x", 900)
	try := func(l *Log) error {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		return l.Append(ctx, r)
	}
	for name, syncs := range map[string]func(t *testing.T, l *Log) error{
		"of a disk that hangs": func(t *testing.T, l *Log) error {
			require.NoError(t, try(l))
			eventually(t, "a sync that takes far too long", func() bool { return !l.syncer.keepsUp(time.Now()) })
			return try(l)
		},
		"before the next segment": func(t *testing.T, l *Log) error {
			for range minSegmentBytes / len(r.Detail) {
				if err := try(l); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, d := withDisk(t.TempDir())
			o.SegmentBytes = minSegmentBytes
			l := openLog(t, o)
			gate := make(chan struct{})
			d.set(func(d *disk) { d.syncGate = gate })
			rescue := time.AfterFunc(20*time.Second, func() { close(gate) }) // the caller would wait for good
			err := syncs(t, l)
			require.True(t, rescue.Stop())
			close(gate)
			require.ErrorIs(t, err, ErrUnknown)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			closeLog(t, l)
			requireWhole(t, o.Dir)
		})
	}
}

func TestWhoHasNoTimeDoesNotWrite(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o, d := withDisk(t.TempDir())
		l := openLog(t, o)
		gate := make(chan struct{})
		ticket, err := l.Queue(t.Context(), numbered(1))
		require.NoError(t, err)
		d.set(func(d *disk) { d.gate = gate })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = ticket.Wait(ctx)
		require.ErrorIs(t, err, ErrUnknown)
		close(gate)
		closeLog(t, l)
	})
}

func TestNobodyWritesAfterClose(t *testing.T) {
	o, d := withDisk(t.TempDir())
	l := openLog(t, o)
	appendAll(t, l, 0, 3)
	closeLog(t, l)
	d.set(func(d *disk) { d.gate = make(chan struct{}) }) // a write would never end
	l.writer.lend()
	require.NoError(t, l.Failing())
}

// A full queue is emptied at once, not when the clock says that nobody waits for its records.
func TestFullQueueIsEmptiedAtOnce(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		for _, full := range []Full{FullBlock, FullDropAndCount} {
			o := testOptions(t.TempDir())
			o.QueueRecords, o.Full = 4, full
			l := openLog(t, o)
			before, _ := l.Last()
			began := time.Now()
			for i := range 4 * o.QueueRecords {
				_, err := l.Queue(t.Context(), numbered(i))
				require.NoError(t, err)
				virtualtime.Wait()
			}
			require.Zero(t, time.Since(began))
			after, _ := l.Last()
			require.Greater(t, after, before+3*uint64(o.QueueRecords))
			require.Zero(t, countKind(t, o.Dir, KindDropped))
			closeLog(t, l)
		}
	})
}

func TestManyCallersOfOneProcessorShareTheirWrites(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	o := testOptions(t.TempDir())
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	l := openLog(t, o)
	const callers, each = 64, 50
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for i := range each {
				if err := l.Append(context.Background(), numbered(i)); err != nil {
					t.Error(err)
				}
				runtime.Gosched() // what a caller does next is for somebody else
			}
		})
	}
	group.Wait()
	batches := histogram(t, registry, "deputy_audit_batch_records")
	require.Equal(t, callers*each, int(batches.GetSampleSum()))
	require.Less(t, int(batches.GetSampleCount()), callers*each/crowded)
	closeLog(t, l)
}

func TestCrowdIsWhereManyWaitAndIsLookedForNowAndThen(t *testing.T) {
	var c crowd
	for i := 1; i <= 3*crowdAfter; i++ {
		c.wrote(1 + i%(crowded-1))
		require.Equal(t, i < crowdLeaves || i%crowdAfter == 0, c.many.Load(), "after %d writes of a few", i)
	}
	c.wrote(1)
	require.False(t, c.many.Load())
	c.wrote(crowded)
	for range crowdLeaves {
		require.True(t, c.many.Load())
		c.wrote(0) // says nothing
		require.True(t, c.many.Load())
		c.wrote(crowded - 1)
	}
	require.False(t, c.many.Load(), "it is over after some writes of a few, not after one")
}

// envCrash makes the test binary a process whose handler recovers from a panic in the middle of a write.
const envCrash = "DEPUTY_AUDIT_CRASH"

func crashAndRecover(dir string) int {
	o := testOptions(dir)
	o.openFile = func(path string, create bool) (file, error) {
		f, err := openFile(path, create)
		return &brokenFile{file: f}, err
	}
	l, err := Open(o)
	if err != nil {
		return 3
	}
	defer func() { _ = recover() }()
	l.writer.file.(*brokenFile).broken = true
	_ = l.Append(context.Background(), numbered(1))
	return 0
}

type brokenFile struct {
	file
	broken bool
}

func (f *brokenFile) WriteAt(p []byte, at int64) (int, error) {
	if f.broken {
		panic("half a write")
	}
	return f.file.WriteAt(p, at)
}

func TestPanicInAWriteEndsTheProcessWhoeverWrites(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envCrash+"="+t.TempDir())
	child.Stdout = io.Discard
	said, err := child.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	text, err := io.ReadAll(io.LimitReader(said, 1<<20))
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, child.Wait(), &exit)
	require.Equal(t, 2, exit.ExitCode())
	require.Contains(t, string(text), "writing the audit log: half a write")
	require.Contains(t, string(text), "brokenFile", "the stack of the write, not of whoever passes it on")
}

func histogram(t *testing.T, registry *prometheus.Registry, name string) *dto.Histogram {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetHistogram()
		}
	}
	require.Fail(t, "no such metric", name)
	return nil
}
