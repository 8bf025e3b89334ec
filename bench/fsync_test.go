package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFsyncIsTimedAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()

	f, err := MeasureFsync(dir, "data folder of node-1")

	require.NoError(t, err)
	require.GreaterOrEqual(t, f.Count, fsyncLeast)
	require.Positive(t, f.P50)
	require.LessOrEqual(t, f.P50, f.P99)
	require.LessOrEqual(t, f.P99, f.Max)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)

	_, err = MeasureFsync(filepath.Join(dir, "missing"), "")
	require.ErrorIs(t, err, os.ErrNotExist)
}
