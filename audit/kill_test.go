package audit

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/racedetector"
)

// envChild makes the test binary a process that appends to the log in the folder it names, and says on its standard
// output what was acknowledged.
const envChild = "DEPUTY_AUDIT_CHILD"

func childOptions(dir string) Options {
	o := testOptions(dir)
	o.SegmentBytes = minSegmentBytes
	o.CheckpointRecords = 64
	o.CheckpointEvery = 10 * time.Millisecond
	return o
}

func appendUntilKilled(dir string) int {
	l, err := Open(childOptions(dir))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	pid := os.Getpid()
	for caller := range 16 {
		group.Go(func() {
			for i := range 1 << 20 {
				r := numbered(i)
				r.RequestID = fmt.Sprintf("%d-%d-%d", pid, caller, i)
				r.Detail = strings.Repeat("x", i*37%900)
				if err := l.Append(context.Background(), r); err != nil {
					mu.Lock()
					fmt.Println("error", err)
					mu.Unlock()
					return
				}
				mu.Lock()
				_, _ = os.Stdout.WriteString(r.RequestID + "\n") // one write, so the line is whole or isn't there
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return 0
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	kills := 100
	if racedetector.Enabled {
		kills = 20 // each starts a process, which takes far longer so
	}
	if n, err := strconv.Atoi(os.Getenv("DEPUTY_AUDIT_KILLS")); err == nil {
		kills = n
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))

	dir := t.TempDir()
	var acknowledged []string
	total, recovered := 0, 0
	for kill := range kills {
		acknowledged = append(acknowledged, killedChild(t, dir, dice)...)
		report := requireWholeButTorn(t, dir, len(acknowledged))
		if kill%10 != 9 && kill != kills-1 {
			continue
		}
		// What the next start finds.
		l := openLog(t, childOptions(dir))
		require.NoError(t, l.Append(t.Context(), numbered(0)))
		closeLog(t, l)
		requireWhole(t, dir)
		there := map[string]bool{}
		for _, line := range linesOf(t, dir) {
			e, err := ParseEntry(line)
			require.NoError(t, err)
			there[e.RequestID] = true
			if e.Kind == KindRecovered {
				recovered++
			}
		}
		for _, id := range acknowledged {
			require.True(t, there[id], "%s is missing after kill %d (%d records)", id, kill, report.Records)
		}
		total += len(acknowledged)
		acknowledged, dir = nil, t.TempDir()
	}
	require.Positive(t, total)
	t.Logf("%d kills, %d acknowledged records, none missing; half a line was cut off %d times", kills, total, recovered)
}

// killedChild runs a child, kills it at a random moment, and returns what it said was acknowledged.
func killedChild(t *testing.T, dir string, dice *rand.Rand) []string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envChild+"="+dir)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	after, micros := dice.IntN(300), time.Duration(dice.IntN(3000))*time.Microsecond
	if dice.IntN(5) == 0 { // at some moment of its start
		after = -1
		timer := time.AfterFunc(time.Duration(dice.IntN(100))*time.Millisecond, func() { _ = child.Process.Kill() })
		defer timer.Stop()
	}
	var lines []string
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break // what has no end was not said
		}
		require.NotContains(t, line, "error")
		lines = append(lines, strings.TrimSuffix(line, "\n"))
		if len(lines) == after+1 {
			timer := time.AfterFunc(micros, func() { _ = child.Process.Kill() })
			defer timer.Stop()
		}
	}
	require.ErrorContains(t, child.Wait(), "killed")
	return lines
}

// requireWholeButTorn is what a log must be right after a kill.
func requireWholeButTorn(t *testing.T, dir string, acknowledged int) *Report {
	t.Helper()
	r, err := Verify(context.Background(), dir, VerifyOptions{Keys: keysOf("n1")})
	require.NoError(t, err)
	for _, p := range r.Problems {
		if p.Flaw != FlawEmpty || acknowledged > 0 { // killed before it had begun
			require.Equal(t, FlawTorn, p.Flaw, p.String())
		}
	}
	return r
}
