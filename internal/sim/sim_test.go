package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

const (
	// shortSchedules and shortTime bound the form that runs with all other tests, whichever ends first.
	shortSchedules = 60
	shortTime      = 10 * time.Second
	// maxBroken ends a run: so many schedules that broke a promise say what there is to say.
	maxBroken = 20
)

// total adds up what schedules showed.
type total struct {
	mu                                                sync.Mutex
	schedules, leaders, fences, expired, probes, good int
	violations, broken                                int
	virtual                                           time.Duration
}

func TestPromisesHoldUnderFaults(t *testing.T) {
	schedules, first := setting(t, "DEPUTY_SIM_SCHEDULES", 0), uint64(setting(t, "DEPUTY_SIM_SEED", 1))
	limit := time.Duration(0)
	if schedules == 0 {
		schedules, limit = shortSchedules, shortTime
	}
	// What a schedule leaves behind is garbage as a whole, and collecting it early a third of the work.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	began := time.Now()
	var sum total
	var next atomic.Uint64
	t.Run("schedules", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for {
					i := next.Add(1) - 1
					if i >= uint64(schedules) || (limit > 0 && time.Since(began) > limit) || sum.enough() {
						return
					}
					sum.add(t, play(t, first+i))
				}
			})
		}
	})
	took := time.Since(began)
	fmt.Printf("sim: %d schedules (seeds %d to %d), %d leaders, %d fences (%d members by the end of their lease), %d probes (%d answered as good), %s of virtual time in %s, %.1f schedules/s, %d violations\n",
		sum.schedules, first, first+uint64(sum.schedules)-1, sum.leaders, sum.fences, sum.expired, sum.probes, sum.good,
		sum.virtual.Round(time.Second), took.Round(100*time.Millisecond), float64(sum.schedules)/took.Seconds(), sum.violations)
	// A laboratory that finds nothing because nothing happens in it is broken.
	if sum.schedules >= 20 {
		require.Greater(t, sum.fences, 3*sum.schedules, "fences")
		require.Greater(t, sum.expired, sum.schedules/10, "fences that had to wait for the end of a lease")
		require.Greater(t, sum.good, 50*sum.schedules, "requests answered as good")
		require.Greater(t, sum.leaders, 2*sum.schedules, "leaders")
	}
}

// play runs one schedule in a bubble of its own. That something of it does not end is an outcome as well.
func play(t *testing.T, seed uint64) (o *Outcome) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if o == nil {
				o = &Outcome{Seed: seed}
			}
			o.Violations = append(o.Violations, fmt.Sprintf("the schedule did not end: %v\n%s", r, stuck()))
		}
	}()
	virtualtime.Test(t, func(*testing.T) { o = Run(seed) })
	return o
}

// stuck lists what is left of bubbles whose own goroutine has ended, and what it waits for.
func stuck() string {
	const most = 16 << 10
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	bubble := regexp.MustCompile(`^goroutine \d+ \[.*, (synctest bubble \d+)\]`)
	running := make(map[string]bool)
	goroutines := strings.Split(string(stacks), "\n\n")
	for _, g := range goroutines {
		if in := bubble.FindStringSubmatch(g); in != nil && strings.Contains(g, "internal/synctest.Run(") && !strings.Contains(g, "panic(") {
			running[in[1]] = true
		}
	}
	var text strings.Builder
	for _, g := range goroutines {
		if in := bubble.FindStringSubmatch(g); in != nil && !running[in[1]] && text.Len() < most {
			text.WriteString(g + "\n\n")
		}
	}
	return text.String()
}

func (s *total) add(t *testing.T, o *Outcome) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedules++
	s.leaders += o.Leaders
	s.fences += o.Fences
	s.expired += o.Expired
	s.probes += o.Probes
	s.good += o.Good
	s.virtual += o.Virtual
	s.violations += len(o.Violations)
	if testing.Verbose() {
		t.Log(o.Summary())
	}
	if len(o.Violations) > 0 {
		s.broken++
		t.Errorf("%s\n  %s\n%s", o.Summary(), strings.Join(o.Violations, "\n  "), s.keep(t, o))
	}
}

func (s *total) enough() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken >= maxBroken
}

// keep writes the history of a schedule that broke a promise.
func (s *total) keep(t *testing.T, o *Outcome) string {
	t.Helper()
	if o.history == nil {
		return "it has no history"
	}
	dir := os.Getenv("DEPUTY_SIM_FAILURES")
	if dir == "" {
		dir = filepath.Join("testdata", "failures")
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, fmt.Sprintf("seed-%d-%d.txt", o.Seed, time.Now().UnixNano()))
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, o.history.writeTo(f))
	require.NoError(t, f.Close())
	return "its history is in " + path
}

func setting(t *testing.T, name string, unset int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return unset
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "%s must be a number", name)
	require.Positive(t, n, "%s must be positive", name)
	return n
}
