package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/testbinary"
)

const defaultRounds = 20

// workshop makes the binary, for all tests of this run.
var workshop testbinary.Workshop

func TestMain(m *testing.M) { os.Exit(workshop.Run(func() int { return run(m) })) }

// run runs the tests, in namespaces of their own where they ask for that.
func run(m *testing.M) int {
	var err error
	code := 1
	switch os.Getenv("DEPUTY_ROBUSTNESS") {
	case robustnessWanted:
		code, err = moveInside()
	case robustnessInside:
		if err = settleInside(); err == nil {
			code = m.Run()
		}
	default:
		code = m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// needsFaults skips a test outside its tier.
func needsFaults(t *testing.T) {
	t.Helper()
	if os.Getenv("DEPUTY_FAULTS") != "1" {
		t.Skip("it kills real processes for minutes; `make faults` runs it")
	}
}

// needsRobustness skips a test that needs namespaces.
func needsRobustness(t *testing.T) {
	t.Helper()
	if os.Getenv("DEPUTY_ROBUSTNESS") != robustnessInside {
		t.Skip("it partitions real processes and needs root; `make robustness` runs it")
	}
}

// promised returns how often a test of the robustness suite is to be done: as often as the promise asks for where
// DEPUTY_ROBUSTNESS_ROUNDS is "full", as often as it says where it is a number, and briefly otherwise.
func promised(t *testing.T, brief, full int) int {
	t.Helper()
	switch text := os.Getenv("DEPUTY_ROBUSTNESS_ROUNDS"); text {
	case "":
		return brief
	case "full":
		return full
	default:
		return number(t, "DEPUTY_ROBUSTNESS_ROUNDS", brief)
	}
}

func rounds(t *testing.T) int {
	t.Helper()
	return number(t, "DEPUTY_FAULT_ROUNDS", defaultRounds)
}

// fleetSize is how many nodes the kill test kills from: of five, two at once.
func fleetSize(t *testing.T) int {
	t.Helper()
	n := number(t, "DEPUTY_FAULT_NODES", 3)
	require.GreaterOrEqual(t, n, 3, "DEPUTY_FAULT_NODES")
	return n
}

func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, variable)
	require.Positive(t, n, variable)
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
