package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

// While a node reads its snapshot, nearly all that it allocates is there to stay. The collector would go through it at each
// doubling, beside both of two processors that have enough to do. So it is put off until the heap has come to a bound. A store
// takes one and a half to three times its snapshot, by what is in it, and what lies in the log behind that comes on top: one
// that reaches the bound is collected as usual from there on.
const (
	// loadingHeap is how many times the snapshot the heap may grow to before it is collected all the same.
	loadingHeap = 3
	// leastLoading is the snapshot below which it is not worth it: a second's work.
	leastLoading = 64 << 20
)

// putOffCollecting lets the heap grow while a snapshot of so many bytes is read; done puts everything back as it was, and
// gives back to the system what reading has left. These settings are the process's own, so this is for the command that is
// the process, and not for a server that may be one of several in it. It does nothing where the operator has set the
// collector by GOGC, or a limit by GOMEMLIMIT that leaves no room, or where the machine has too little memory to spare.
func putOffCollecting(snapshot, available int64) (done func()) {
	bound := loadingHeap * snapshot
	limit := debug.SetMemoryLimit(-1)
	if snapshot < leastLoading || bound > available-available/4 || bound > limit || os.Getenv("GOGC") != "" {
		return func() {}
	}
	percent := debug.SetGCPercent(-1)
	debug.SetMemoryLimit(bound)
	var once sync.Once
	restore := func() {
		once.Do(func() {
			debug.SetGCPercent(percent)
			debug.SetMemoryLimit(limit)
		})
	}
	// The first collection says that the bound was reached. With more alive than that, one would follow another.
	runtime.AddCleanup(new([64]byte), func(restore func()) { restore() }, restore)
	return func() {
		restore()
		go debug.FreeOSMemory() // it collects, too, and whoever is served need not wait
	}
}
