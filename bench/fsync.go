package bench

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
)

// A log's append is measured as one page: that is what boltdb writes at least. On a slow disk fewer are made.
const (
	fsyncBytes = 4096
	fsyncCount = 200
	fsyncTime  = 2 * time.Second
	fsyncLeast = 5
)

// MeasureFsync appends pages to a file in dir and makes each safe, as a node's log does before it acknowledges a write. Where
// says in a report whose disk that is. The file is removed.
func MeasureFsync(dir, where string) (_ *result.Fsync, err error) {
	f, err := os.CreateTemp(dir, "deputy-bench-fsync-*")
	if err != nil {
		return nil, fmt.Errorf("timing fsync: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	took := load.NewHistogram()
	page := make([]byte, fsyncBytes)
	begun := time.Now()
	for n := 0; n < fsyncCount && (n < fsyncLeast || time.Since(begun) < fsyncTime); n++ {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("timing fsync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("timing fsync: %w", err)
		}
		load.Add(took, time.Since(start))
	}
	latency := load.Summarize(took)
	return &result.Fsync{
		Where: where, Count: int(took.TotalCount()), Bytes: fsyncBytes, P50: latency.P50, P99: latency.P99, Max: latency.Max,
	}, nil
}
