package load

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of a loop, of which the runtime is not told. It would take the thread's processor away and give it back,
// and keep its monitor thread awake for that, some tens of thousand times a second: a tenth of what a loop costs, and in
// the way of servers that share its CPUs. None of them waits but the first, and that for tidyEvery at most: so long the
// processor runs nothing else, unless a collection stops the world, which interrupts the wait by a signal.
//
// Lifetime rule of the pointers: the kernel reads or writes there during the call, and keeps nothing.

func rawEpollWait(poll int, events []unix.EpollEvent, timeout int) (int, error) {
	n, _, err := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(poll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(timeout), 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

func rawRead(socket int, p []byte) (int, error) { return rawCopy(unix.SYS_READ, socket, p) }

func rawWrite(socket int, p []byte) (int, error) { return rawCopy(unix.SYS_WRITE, socket, p) }

func rawCopy(call uintptr, socket int, p []byte) (int, error) {
	n, _, err := syscall.RawSyscall(call, uintptr(socket), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}
