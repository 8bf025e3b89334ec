package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A few entries may say a great deal. A restart should not have to apply all of it again.
func TestALogThatGrowsByBytesIsCutByASnapshot(t *testing.T) {
	t.Parallel()
	n := newCluster(t, func(o *Options) { o.Tuning.SnapshotBytes = 64 << 10 })
	snapshots := func() int {
		found, err := os.ReadDir(filepath.Join(n.o.DataDir, snapshotFolder))
		if err != nil {
			return 0
		}
		whole := 0
		for _, entry := range found {
			if _, _, ok := parseSnapshotName(entry.Name()); ok {
				whole++
			}
		}
		return whole
	}
	for range 3 {
		n.commit(tableCommand{Note: "short"})
	}
	require.Zero(t, snapshots(), "three short entries are no reason")

	n.commit(tableCommand{Note: strings.Repeat("long ", 16<<10)})

	eventually(t, func() bool { return snapshots() == 1 })
	kept := n.raft.Load().ReloadableConfig().TrailingLogs
	require.Equal(t, uint64(leastTrailing), kept, "of entries as long as that, few are kept behind a snapshot")
}
