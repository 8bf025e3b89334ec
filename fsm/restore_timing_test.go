package fsm

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// benchRevocation is of a session that was ended within the last day, in the order in which they were ended.
func benchRevocation(i, n int) Body {
	const day = 24 * time.Hour
	at := epoch.Add(-day + time.Duration(float64(day)*float64(i)/float64(n)))
	begun := at.Add(-time.Duration(uint64(i) * 0x9e3779b97f4a7c15 % uint64(time.Hour)))
	return Revoke{
		Handles: []identity.Handle{identity.SessionHandle(identity.NewID(identity.PrefixSession, begun, [10]byte(secret(i)[:10])))},
		Reason:  fmt.Sprintf("INC-%d", i*50/n),
	}
}

// BenchmarkRestore reads a snapshot of as many delegations and revocations as benchDelegations, and a tenth as many agents
// and principals. With DEPUTY_BENCH_SNAPSHOT it is kept in that file: the next run is then of a process that holds nothing
// else, as one that was started again.
func BenchmarkRestore(b *testing.B) {
	n := benchDelegations(b)
	path := os.Getenv("DEPUTY_BENCH_SNAPSHOT")
	if path == "" {
		path = filepath.Join(b.TempDir(), "snapshot")
	}
	if _, err := os.Stat(path); err != nil {
		m := laidOut(b, n)
		m.bulk(n, func(i int) Body { return benchRevocation(i, n) })
		file, err := os.Create(path)
		require.NoError(b, err)
		s, err := m.fsm.Snapshot()
		require.NoError(b, err)
		began := time.Now()
		require.NoError(b, s.Persist(fileSink{file}))
		b.Logf("persisted in %s", time.Since(began))
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		m := newMachine(b)
		file, err := os.Open(path)
		require.NoError(b, err)
		heap()
		b.StartTimer()
		require.NoError(b, m.fsm.Restore(file))
		runtime.KeepAlive(m)
	}
}

type fileSink struct{ *os.File }

func (fileSink) ID() string    { return "bench" }
func (fileSink) Cancel() error { return io.ErrClosedPipe }

// restoredMachine has what BenchmarkRestore restores.
func restoredMachine(b *testing.B) *machine {
	b.Helper()
	path := os.Getenv("DEPUTY_BENCH_SNAPSHOT")
	if path == "" {
		b.Skip("DEPUTY_BENCH_SNAPSHOT names no snapshot; BenchmarkRestore makes one")
	}
	m := newMachine(b)
	file, err := os.Open(path)
	require.NoError(b, err)
	require.NoError(b, m.fsm.Restore(file))
	return m
}

// BenchmarkReplay applies, to what BenchmarkRestore restores, what a start applies again of the log: entries of a thousand
// handles each, of sessions that were begun within an hour, as many entries at a time as raft hands in.
func BenchmarkReplay(b *testing.B) {
	const entriesOf, handed = 1000, 64
	n := benchDelegations(b)
	m := restoredMachine(b)
	m.index = m.fsm.Applied()
	i := n
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		entries := make([]*raft.Log, handed)
		for j := range entries {
			var revoke Revoke
			revoke.Reason = "INC-42"
			for range entriesOf {
				begun := epoch.Add(-time.Duration(uint64(i) * 0x9e3779b97f4a7c15 % uint64(time.Hour)))
				revoke.Handles = append(revoke.Handles, identity.SessionHandle(identity.NewID(identity.PrefixSession, begun, [10]byte(secret(i)[:10]))))
				i++
			}
			entries[j] = m.entry(revoke)
		}
		b.StartTimer()
		for _, response := range m.fsm.ApplyBatch(entries) {
			require.Nil(b, response.(Result).Err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*handed*entriesOf), "ns/handle")
}

// BenchmarkPersist writes what BenchmarkRestore restores, but to no disk.
func BenchmarkPersist(b *testing.B) {
	m := restoredMachine(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := m.fsm.Snapshot()
		require.NoError(b, err)
		require.NoError(b, s.Persist(dropSink{io.Discard}))
	}
}

type dropSink struct{ io.Writer }

func (dropSink) ID() string    { return "bench" }
func (dropSink) Close() error  { return nil }
func (dropSink) Cancel() error { return io.ErrClosedPipe }
