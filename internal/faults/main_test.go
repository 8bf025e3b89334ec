package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const defaultRounds = 20

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "deputy-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	workshop = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// workshop is where the binary is built, for all tests of this run.
var workshop string

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("DEPUTY_BIN"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(workshop, "deputy")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../../cmd/deputy").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building deputy: %w\n%s", err, out)
	}
	return path, nil
})

// needsFaults skips a test outside its tier.
func needsFaults(t *testing.T) {
	t.Helper()
	if os.Getenv("DEPUTY_FAULTS") != "1" {
		t.Skip("it kills real processes for minutes; `make faults` runs it")
	}
}

func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("DEPUTY_FAULT_ROUNDS")
	if text == "" {
		return defaultRounds
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "DEPUTY_FAULT_ROUNDS")
	require.Positive(t, n, "DEPUTY_FAULT_ROUNDS")
	return n
}

// dice are the choices of a run; the seed makes them again, as far as timing allows.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("DEPUTY_FAULT_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "DEPUTY_FAULT_SEED")
	}
	t.Logf("DEPUTY_FAULT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
