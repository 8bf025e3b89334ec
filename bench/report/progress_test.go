package report

import (
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

type manualClock struct {
	lock sync.Mutex
	t    time.Time
}

func (c *manualClock) now() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.t
}

func (c *manualClock) pass(d time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.t = c.t.Add(d)
}

var underWay = Tick{
	Phase: "measuring", Subject: "mint", Elapsed: 3 * time.Second, Total: 10 * time.Second, Offered: 5000, Rate: 4990,
	P50: 400 * time.Microsecond, P99: 1300 * time.Microsecond, Errors: 2, Skipped: 1, Generator: 0.31,
}

func TestATerminalHasOneLineThatIsRedrawn(t *testing.T) {
	var out strings.Builder
	clock := &manualClock{t: time.Unix(0, 0)}
	p := NewProgress(&out, 200, clock.now)
	for range 10 {
		p.Show(underWay)
		clock.pass(100 * time.Millisecond)
	}
	require.Equal(t, 5, strings.Count(out.String(), clearLine), "ten ticks in a second are drawn five times")
	other := underWay
	other.Subject = "introspect"
	p.Show(other)
	p.Show(underWay)
	require.Equal(t, 7, strings.Count(out.String(), clearLine), "a new subject is drawn at once")
	require.NotContains(t, out.String(), "\n")
	require.Contains(t, out.String(), "measuring mint · 3/10 s · 4,990 of 5,000/s · p50 400 µs p99 1.3 ms · 2 errors · 1 skipped · generator 31 %")
	p.Done()
	require.True(t, strings.HasSuffix(out.String(), clearLine))
}

func TestAPipelineHasALineEveryFiveSeconds(t *testing.T) {
	var out strings.Builder
	clock := &manualClock{t: time.Unix(0, 0)}
	p := NewProgress(&out, 0, clock.now)
	for range 120 {
		p.Show(underWay)
		clock.pass(100 * time.Millisecond)
	}
	other := underWay
	other.Subject = "introspect" // subjects may take turns many times a second
	p.Show(other)
	p.Done()
	require.Equal(t, 3, strings.Count(out.String(), "\n"), "three in twelve seconds")
	require.NotContains(t, out.String(), "\x1b")
	require.NotContains(t, out.String(), "\r")
}

func TestMessagesAndTheLineDoNotRunIntoEachOther(t *testing.T) {
	var out strings.Builder
	p := NewProgress(&out, 200, (&manualClock{}).now)
	p.Show(underWay)
	p.Event("node-2 %s", "killed")
	line := underWay.line()
	require.Equal(t, clearLine+line+clearLine+"node-2 killed\n"+line, out.String())
}

func TestTheLineNeverWraps(t *testing.T) {
	for width := 1; width < 120; width++ {
		var out strings.Builder
		NewProgress(&out, width, (&manualClock{}).now).Show(underWay)
		require.Less(t, utf8.RuneCountInString(strings.TrimPrefix(out.String(), clearLine)), width)
	}
}

func TestWhatAServerSaysCanNotMoveTheCursor(t *testing.T) {
	var out strings.Builder
	p := NewProgress(&out, 0, (&manualClock{}).now)
	p.Event("%s", "node\x1b[2J\rok\n")
	require.Equal(t, "node\uFFFD[2J\uFFFDok\uFFFD\n", out.String())
}

func TestNoProgressIsSilent(t *testing.T) {
	var p *Progress
	p.Show(underWay)
	p.Event("x")
	_, err := p.Write([]byte("x"))
	require.NoError(t, err)
	p.Done()
}

func TestProgressMayBeShownBySeveral(t *testing.T) {
	var out strings.Builder
	clock := &manualClock{}
	p := NewProgress(&out, 80, clock.now)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				p.Show(underWay)
				clock.pass(redrawEvery)
				p.Event("x")
			}
		})
	}
	all.Wait()
	require.Equal(t, 800, strings.Count(out.String(), "x\n"))
}

func TestFiguresAreSpelledWithThreeDigits(t *testing.T) {
	for us, want := range map[float64]string{0: "0 µs", 4.25: "4.25 µs", 999.4: "999 µs", 1000: "1 ms", 1302: "1.3 ms", 24_960: "25 ms", 200_100: "200 ms", 1_500_000: "1.5 s", 61e6: "61 s"} {
		require.Equal(t, want, Latency(us))
	}
	for f, want := range map[float64]string{0: "0", 0.5: "0.5", 12: "12", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		require.Equal(t, want, Count(f))
	}
	for f, want := range map[float64]string{0: "0 %", 0.0001: "0.01 %", 0.000001: "<0.001 %", 0.5: "50 %", 1: "100 %"} {
		require.Equal(t, want, Percent(f))
	}
	require.Equal(t, "1.5 GiB", Bytes(3<<29))
}

func TestACommandLineReadsBackInAShell(t *testing.T) {
	require.Equal(t, `deputy bench mint --slo 'p99<2ms' 'it'\''s' ''`, CommandLine([]string{"deputy", "bench", "mint", "--slo", "p99<2ms", "it's", ""}))
}
