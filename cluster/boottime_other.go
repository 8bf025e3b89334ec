//go:build !linux

package cluster

import "time"

var processStart = time.Now()

// BootTime counts from the start of the process where there is no CLOCK_BOOTTIME. The Unix clock is used for
// the difference as it moves on through suspend; a step of it backwards would lengthen a lease, which is why
// Linux is the platform to run on.
func BootTime() time.Duration { return time.Duration(time.Now().UnixNano() - processStart.UnixNano()) }
