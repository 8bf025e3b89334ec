package bench

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/bench/result"
)

// A run says how the kernel scheduled it, and its command line has it scheduled so again. To be put behind everybody else
// needs no privilege, unlike to be put before them.
func TestARunSaysHowItWasScheduled(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "chrt", "-b", "0", "true").Run(); err != nil {
		t.Skip("needs chrt(1), and the leave to use it: ", err)
	}
	_, nice, niced := strings.Cut(scheduling(), ",") // these tests may be run with a nice value, which chrt keeps
	for _, c := range []struct {
		policy string
		by     []string
	}{
		{result.OrdinaryScheduling, []string{"-o", "0"}},
		{"batch 0", []string{"-b", "0"}},
	} {
		file := filepath.Join(t.TempDir(), "result.json")
		args := append(c.by, deputy(t), "bench", "run", "mint", "--self", "--pin=false", "--rate", "100/s", "--duration", "300ms", "--warm-up", "0s", "--json", file)
		run := exec.CommandContext(t.Context(), "chrt", args...)
		run.Stdout, run.Stderr = t.Output(), t.Output()
		_ = run.Run() // it fails where this machine is too busy for a valid run, and says the same
		r, err := result.ReadFile(file)
		require.NoError(t, err)
		if niced {
			require.Equal(t, c.policy+","+nice, r.Environment.Policy())
			continue
		}
		require.Equal(t, c.policy, r.Environment.Policy())
		if c.policy == result.OrdinaryScheduling {
			require.Equal(t, "deputy", r.Command[0])
		} else {
			require.Equal(t, []string{"chrt", "--batch", "0", "deputy", "bench"}, r.Command[:5])
		}
	}
}
