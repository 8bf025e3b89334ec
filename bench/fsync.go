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
	took := load.NewSample(1)
	count := 0
	page := make([]byte, fsyncBytes)
	begun := time.Now()
	for ; count < fsyncCount && (count < fsyncLeast || time.Since(begun) < fsyncTime); count++ {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("timing fsync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("timing fsync: %w", err)
		}
		took.Record(time.Since(start))
	}
	l := took.Latency()
	return &result.Fsync{Where: where, Count: count, Bytes: fsyncBytes, P50: l.P50, P99: l.P99, Max: l.Max}, nil
}
