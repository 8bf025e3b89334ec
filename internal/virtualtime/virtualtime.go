// Package virtualtime runs a test in a bubble of testing/synctest, in which an hour takes no time.
//
// All bubbles of the project begin here and not in that package, because of a defect of Go 1.25 and 1.26 (golang/go#78156). The race detector
// keeps a shadow of the call stack for each goroutine, and one for all timers of a bubble. A timer that is due when it
// is set, or when somebody looks at its channel, runs on the goroutine that did so; two goroutines that do so on two
// processors write to that one shadow at the same time, and the process dies of a signal inside the detector, or of
// its CHECK, now and then and with the stack of an innocent. On one processor no two timers run at the same time.
package virtualtime

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/deputy-id/deputy/internal/racedetector"
)

// Test runs f in a bubble of its own, as synctest.Test does. Under the race detector the whole process has one
// processor meanwhile. Tests with bubbles may run in parallel with each other and with any other test.
func Test(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if racedetector.Enabled {
		bubbles.enter()
		defer bubbles.leave() // also where the bubble deadlocks, which is a panic
	}
	synctest.Test(t, f)
}

// Wait returns once every other goroutine of the bubble waits for something in it, as synctest.Wait does.
func Wait() { synctest.Wait() }

// processors is how many the process had before the first of so many bubbles.
type processors struct {
	mu     sync.Mutex
	inside int
	before int
}

// bubbles is a variable of the package as the number of processors is one of the process.
var bubbles processors

func (p *processors) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inside == 0 {
		p.before = runtime.GOMAXPROCS(1)
	}
	p.inside++
}

func (p *processors) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside--
	if p.inside == 0 {
		runtime.GOMAXPROCS(p.before)
	}
}
