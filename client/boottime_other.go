//go:build !linux

package client

import (
	"sync"
	"time"
)

// newBootTime returns a clock that goes on while the machine is suspended, where there is no CLOCK_BOOTTIME. From one
// reading to the next it goes on by what the monotonic or the wall clock did, whichever is more: the one stands still
// during suspend, the other may be set back. A wall clock that is set ahead ends leases early.
func newBootTime() func() time.Duration {
	var mu sync.Mutex
	last, since := time.Now(), time.Duration(0)
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		since += max(0, now.Sub(last), now.Round(0).Sub(last.Round(0)))
		last = now
		return since
	}
}
