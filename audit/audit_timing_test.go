package audit

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/racedetector"
)

// memoryFolder is on tmpfs where there is one, so that the log is measured and not the disk.
func memoryFolder(t testing.TB) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "audit"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return filepath.Join(dir, "log")
	}
	return filepath.Join(t.TempDir(), "log")
}

// cpuTime is what this process has used, which other processes on the machine change little.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportRate adds records a second, and the time on a processor that each takes.
func reportRate(b *testing.B) (done func()) {
	began, used := time.Now(), cpuTime()
	return func() {
		b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "records/s")
		b.ReportMetric(float64(cpuTime()-used)/float64(b.N), "cpu-ns/op")
	}
}

func BenchmarkEncode(b *testing.B) {
	r := sample()
	dst := appendBody(nil, &r, r.Time)
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	defer reportRate(b)()
	for b.Loop() {
		dst = appendBody(dst[:0], &r, r.Time)
	}
}

// BenchmarkLink is the writer's work for a record: hash, tree, line.
func BenchmarkLink(b *testing.B) {
	r := sample()
	body := appendBody(nil, &r, r.Time)
	node := []byte(`"n1"`)
	var c chain
	var out []byte
	b.ReportAllocs()
	defer reportRate(b)()
	for b.Loop() {
		out = c.append(out[:0], node, body)
		if c.tree.size == defaultCheckpointRecords {
			c.tree = tree{}
		}
	}
	b.SetBytes(int64(len(out)))
}

// BenchmarkAppend has many callers wait for one record each, as handlers do.
func BenchmarkAppend(b *testing.B) {
	for name, sync := range map[string]Sync{"background": SyncBackground, "always": SyncAlways} {
		b.Run(name, func(b *testing.B) {
			o := testOptions(memoryFolder(b))
			o.Sync = sync
			o.RetainBytes = 256 << 20
			l := openLog(b, o)
			b.SetParallelism(128)
			b.ReportAllocs()
			done := reportRate(b)
			b.RunParallel(func(pb *testing.PB) {
				r := sample()
				for pb.Next() {
					if err := l.Append(context.Background(), &r); err != nil {
						b.Error(err)
						return
					}
				}
			})
			done()
		})
	}
}

// BenchmarkQueue has callers queue 64 records before they wait for them.
func BenchmarkQueue(b *testing.B) {
	o := testOptions(memoryFolder(b))
	o.RetainBytes = 256 << 20
	l := openLog(b, o)
	b.SetParallelism(4)
	b.ReportAllocs()
	done := reportRate(b)
	var failed atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		r := sample()
		var tickets [64]Ticket
		n := 0
		for pb.Next() {
			t, err := l.Queue(context.Background(), &r)
			if err != nil {
				failed.Add(1)
				return
			}
			tickets[n] = t
			if n++; n == len(tickets) {
				for i := range tickets {
					if _, err := tickets[i].Wait(context.Background()); err != nil {
						failed.Add(1)
					}
				}
				n = 0
			}
		}
	})
	require.Zero(b, failed.Load())
	done()
}

// BenchmarkAlone is the latency of one caller with nobody beside it.
func BenchmarkAlone(b *testing.B) {
	l := openLog(b, testOptions(memoryFolder(b)))
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Append(context.Background(), &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	o := testOptions(memoryFolder(b))
	l := openLog(b, o)
	r := sample()
	for range 50_000 {
		_, err := l.Queue(context.Background(), &r)
		require.NoError(b, err)
	}
	require.NoError(b, l.Append(context.Background(), &r))
	b.SetBytes(bytesOf(l.catalog.all()))
	for b.Loop() {
		report, err := l.Verify(context.Background(), VerifyOptions{Keys: keysOf("n1")})
		require.NoError(b, err)
		require.True(b, report.OK())
	}
}

// BenchmarkReplaceHead is what sealing costs beside the signature, on the disk of the folder for temporary files.
func BenchmarkReplaceHead(b *testing.B) {
	for name, lasting := range map[string]bool{"lasting": true, "in between": false} {
		b.Run(name, func(b *testing.B) {
			dir, head := b.TempDir(), make([]byte, 420)
			began := cpuTime()
			defer func() { b.ReportMetric(float64(cpuTime()-began)/float64(b.N), "cpu-ns/op") }()
			for b.Loop() {
				if err := replaceHead(dir, head, lasting); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkIndex(b *testing.B) {
	r := sample()
	var c chain
	var lines []byte
	for range 10_000 {
		lines = c.append(lines, []byte(`"n1"`), appendBody(nil, &r, r.Time))
	}
	b.SetBytes(int64(len(lines)))
	began := cpuTime()
	defer func() { b.ReportMetric(float64(cpuTime()-began)/float64(b.N)/10_000, "cpu-ns/record") }()
	for b.Loop() {
		var x index
		if _, err := x.extend(lines); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAppendAllocatesNothingPerRecord(t *testing.T) {
	if racedetector.Enabled {
		t.Skip("the race detector allocates")
	}
	r := sample()
	body := appendBody(nil, &r, r.Time)
	require.Zero(t, testing.AllocsPerRun(1000, func() { body = appendBody(body[:0], &r, r.Time) }), "encoding")

	var c chain
	out := c.append(nil, []byte(`"n1"`), body)
	require.Zero(t, testing.AllocsPerRun(1000, func() { out = c.append(out[:0], []byte(`"n1"`), body) }), "linking")

	o := testOptions(memoryFolder(t))
	o.CheckpointEvery = time.Hour // a checkpoint has its own allocations
	o.CheckpointRecords = maxCheckpointRecords
	o.SyncWithin = 10 * time.Second
	l := openLog(t, o)
	ctx := context.Background()
	for range 100 { // pools and buffers
		require.NoError(t, l.Append(ctx, &r))
	}
	runtime.GC()
	n := testing.AllocsPerRun(2000, func() {
		if err := l.Append(ctx, &r); err != nil {
			t.Error(err)
		}
	})
	require.LessOrEqual(t, n, 0.1, "appending one at a time, the writer's work included")
	_, _ = io.Discard.Write(out)
}
