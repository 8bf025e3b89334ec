package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsAvailableIsLessThanThereIs(t *testing.T) {
	total := meminfo("MemTotal:")
	if total == 0 {
		t.Skip("this machine does not tell how much memory it has")
	}
	available := AvailableMemory()
	require.Positive(t, available)
	require.Less(t, available, total)
}

func TestAFileThatHoldsNoNumberSaysNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.max")
	require.Zero(t, number(path))
	require.NoError(t, os.WriteFile(path, []byte("max\n"), 0o600))
	require.Zero(t, number(path))
	require.NoError(t, os.WriteFile(path, []byte("1073741824\n"), 0o600))
	require.EqualValues(t, 1<<30, number(path))
}
