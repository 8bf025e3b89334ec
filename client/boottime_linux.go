package client

import (
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// clockBoottime is CLOCK_BOOTTIME, which goes on while the machine is suspended; see clock_gettime(2).
const clockBoottime = 7

// newBootTime returns a clock of the time since boot. Go's own monotonic clock stands still while the machine is
// suspended, and a lease must not.
func newBootTime() func() time.Duration {
	// What a system call writes to is on the heap, whatever the caller does.
	room := sync.Pool{New: func() any { return new(syscall.Timespec) }}
	return func() time.Duration {
		ts := room.Get().(*syscall.Timespec)
		defer room.Put(ts)
		// Lifetime rule of the pointer: the kernel writes to it during the call, and keeps nothing.
		_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(ts)), 0)
		if errno != 0 {
			panic("BUG: CLOCK_BOOTTIME is there since Linux 2.6.39: " + errno.Error())
		}
		return time.Duration(ts.Nano())
	}
}
