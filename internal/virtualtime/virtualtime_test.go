package virtualtime

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Without Test's care this dies within a hundred bubbles or so, under the race detector on two cores.
func TestGoroutinesThatSetTimersWhichAreDueDoNotEndTheProcess(t *testing.T) {
	before := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(before)
	for range 100 {
		Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 200 {
						<-time.NewTimer(0).C
						fired := make(chan struct{})
						time.AfterFunc(0, func() { close(fired) })
						<-fired
					}
				})
			}
			all.Wait()
		})
	}
	require.Equal(t, 4, runtime.GOMAXPROCS(0), "the processors are back")
}

func TestProcessorsComeBackAfterTheLastOfSeveralBubbles(t *testing.T) {
	before := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(before)
	var p processors
	p.enter()
	p.enter()
	p.leave()
	require.Equal(t, 1, runtime.GOMAXPROCS(0))
	p.leave()
	require.Equal(t, 4, runtime.GOMAXPROCS(0))
	p.enter()
	require.Equal(t, 1, runtime.GOMAXPROCS(0))
	p.leave()
	require.Equal(t, 4, runtime.GOMAXPROCS(0))
}
