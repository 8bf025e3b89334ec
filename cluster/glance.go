package cluster

import (
	"sync/atomic"
	"time"
)

const (
	// glanceFor is how long one reading of the boot clock carries. In that time, on the monotonic clock, a suspend
	// and a step of the wall clock would have to cancel out for the suspend to go unseen.
	glanceFor = 10 * time.Millisecond

	// glanceError is how far the wall clock may seem to move against the monotonic one before the boot clock is
	// read again; what Glance returns is ahead by as much. The two are read one after the other.
	glanceError = 50 * time.Microsecond
)

// NewGlance returns a clock that is never behind BootTime and seldom more than a tenth of a millisecond ahead of it, at a
// tenth of the cost: BootTime is a system call, and who answers from state has to look at a clock every time. It serves to
// see whether something has ended. What is to begin is timed by BootTime.
//
// The boot clock differs from the monotonic one by the time that the machine was suspended. The kernel adds that to the
// wall clock and to the boot clock in one step, so while the wall clock keeps its distance from the monotonic one, the
// boot clock does, too; and both of those are read without a system call.
func NewGlance() func() time.Duration {
	base := time.Now()
	return newGlance(func() (wall, monotonic time.Duration) {
		now := time.Now()
		return time.Duration(now.UnixNano()), now.Sub(base)
	}, BootTime)
}

// sighting is one reading of all three clocks. The boot clock is read last, so that ahead is never too small.
type sighting struct {
	at       time.Duration // on the monotonic clock
	distance time.Duration // of the wall clock from it
	ahead    time.Duration // of the boot clock before it
}

func newGlance(clocks func() (wall, monotonic time.Duration), boot func() time.Duration) func() time.Duration {
	var last atomic.Pointer[sighting]
	return func() time.Duration {
		wall, monotonic := clocks()
		distance := wall - monotonic
		if s := last.Load(); s != nil && monotonic-s.at < glanceFor && (distance-s.distance).Abs() <= glanceError {
			return monotonic + s.ahead + glanceError
		}
		now := boot()
		last.Store(&sighting{at: monotonic, distance: distance, ahead: now - monotonic})
		return now
	}
}
