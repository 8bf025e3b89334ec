package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// machine has the three clocks of a kernel.
type machine struct {
	wall, monotonic, suspended time.Duration
	between                    time.Duration // passes between the reading of one clock and the next
	asked                      int           // how often the boot clock was
}

func (m *machine) pass(d time.Duration)    { m.wall, m.monotonic = m.wall+d, m.monotonic+d }
func (m *machine) suspend(d time.Duration) { m.wall, m.suspended = m.wall+d, m.suspended+d }
func (m *machine) truth() time.Duration    { return m.monotonic + m.suspended }

func (m *machine) clocks() (wall, monotonic time.Duration) {
	wall = m.wall
	m.pass(m.between)
	return wall, m.monotonic
}

func (m *machine) boot() time.Duration {
	m.asked++
	m.pass(m.between)
	return m.truth()
}

// shortestSuspend is far below that of any machine.
const shortestSuspend = 4 * glanceError

// Whatever the machine goes through, a glance is at no time behind the boot clock by more than what passed since the
// clocks were read.
func TestGlanceIsNeverBehindTheBootClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{wall: 1e18, monotonic: time.Hour}
		glance := newGlance(m.clocks, m.boot)
		short := rapid.Int64Range(0, int64(30*time.Millisecond))
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				m.suspend(time.Duration(rapid.Int64Range(int64(shortestSuspend), int64(time.Hour)).Draw(t, "suspended")))
			case 1:
				// Seen before the next suspend: a step and a suspend that cancel out are not told apart.
				m.wall += time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "stepped"))
			case 2:
				m.between = time.Duration(rapid.Int64Range(0, int64(glanceError/2)).Draw(t, "preempted"))
			default:
				m.pass(time.Duration(short.Draw(t, "passed")))
			}
			before := m.truth()
			seen := glance()
			require.GreaterOrEqual(t, seen, before)
			require.LessOrEqual(t, seen, m.truth()+glanceError+glanceError)
		}
	})
}

func TestGlanceSeldomAsksTheBootClock(t *testing.T) {
	m := &machine{wall: 1e18, monotonic: time.Hour}
	glance := newGlance(m.clocks, m.boot)
	for range 1000 {
		glance()
		m.pass(10 * time.Microsecond)
	}
	require.LessOrEqual(t, m.asked, 2)
	m.suspend(time.Second)
	require.Equal(t, m.truth(), glance())
}

func TestGlanceOfThisMachineKeepsUpWithItsBootClock(t *testing.T) {
	glance := NewGlance()
	for range 10_000 {
		before := BootTime()
		require.GreaterOrEqual(t, glance(), before)
	}
}
