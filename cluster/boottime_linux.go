package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is the time since boot on CLOCK_BOOTTIME. Go's own monotonic clock stands still while the machine
// is suspended, and a lease must not.
func BootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("BUG: CLOCK_BOOTTIME is there since Linux 2.6.39: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
