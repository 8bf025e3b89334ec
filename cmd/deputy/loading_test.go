package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// collector is how it is set now.
func collector() (percent int, limit int64) {
	set := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(set)
	return int(set[0].Value.Uint64()), int64(set[1].Value.Uint64())
}

func TestCollectingIsPutOffWithinBounds(t *testing.T) {
	t.Setenv("GOGC", "")
	const snapshot = 1 << 30
	percent, limit := collector()

	done := putOffCollecting(snapshot, 16<<30)
	eased, bound := collector()
	done()

	require.Equal(t, -1, eased)
	require.EqualValues(t, loadingHeap*snapshot, bound)
	after, still := collector()
	require.Equal(t, percent, after)
	require.Equal(t, limit, still)
}

func TestCollectingIsNotPutOff(t *testing.T) {
	for name, test := range map[string]struct {
		snapshot, available, limit int64
		set                        string
	}{
		"for a small snapshot":                 {1 << 20, 16 << 30, 1 << 40, ""},
		"where memory is scarce":               {1 << 30, 3500 << 20, 1 << 40, ""},
		"where nobody tells how much there is": {1 << 30, 0, 1 << 40, ""},
		"beyond the operator's limit":          {1 << 30, 16 << 30, 2 << 30, ""},
		"where the operator set the collector": {1 << 30, 16 << 30, 1 << 40, "50"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOGC", test.set)
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(test.limit))
			percent, limit := collector()
			done := putOffCollecting(test.snapshot, test.available)
			eased, bound := collector()
			done()
			require.Equal(t, percent, eased)
			require.Equal(t, limit, bound)
		})
	}
}

func TestCollectingIsAsUsualOnceTheBoundIsReached(t *testing.T) {
	t.Setenv("GOGC", "")
	percent, limit := collector()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done := putOffCollecting(leastLoading, 16<<30)
	defer done()
	var live [][]byte // more than the bound
	for range 2 * loadingHeap * leastLoading >> 20 {
		live = append(live, make([]byte, 1<<20))
	}
	require.Eventually(t, func() bool {
		is, bound := collector()
		return is == percent && bound == limit
	}, 10*time.Second, time.Millisecond)
	runtime.ReadMemStats(&after)
	require.Less(t, after.NumGC-before.NumGC, uint32(10), "nobody collects without pause what is alive")
	runtime.KeepAlive(live)
}
