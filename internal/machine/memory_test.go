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

func TestWhatIsLeftIsThatOfTheTightestControlGroup(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	const own = "0::/system.slice/deputy.service\n"
	require.Zero(t, leftByGroups(root, own), "there is no such group")
	write("system.slice/deputy.service/memory.max", "max\n")
	require.Zero(t, leftByGroups(root, own))
	write("system.slice/deputy.service/memory.max", "1000\n")
	write("system.slice/deputy.service/memory.current", "100\n")
	require.EqualValues(t, 900, leftByGroups(root, own))
	write("system.slice/memory.max", "700\n")
	require.EqualValues(t, 700, leftByGroups(root, own), "that of the slice")
	write("memory.max", "500\n") // as in a container, whose group is the root
	write("memory.current", "501\n")
	require.EqualValues(t, 1, leftByGroups(root, "0::/\n"), "nothing is left, and that is known")

	write("memory/old/memory.limit_in_bytes", "300\n")
	write("memory/old/memory.usage_in_bytes", "200\n")
	require.EqualValues(t, 100, leftByGroups(root, "5:cpu,cpuacct:/old\n4:memory:/old\nnonsense\n"))
	require.Zero(t, leftByGroups(root, "5:cpu,cpuacct:/old\n"))
	require.EqualValues(t, 3, least(0, 3))
	require.EqualValues(t, 2, least(2, 3))
}
