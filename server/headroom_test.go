package server

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASmallHeapIsCollectedOnceItHasGrownByItsHeadroom(t *testing.T) {
	const room = 256 << 20
	percentOf := func(living, room uint64) int { return nextGCPercent(ordinaryGCPercent, living, room) }
	require.Equal(t, mostGCPercent, percentOf(5<<20, room))
	require.Equal(t, 400, percentOf(64<<20, room))
	require.Equal(t, 100, percentOf(room, room))
	require.Equal(t, 100, percentOf(10<<30, room))
	require.Equal(t, 100, percentOf(64<<20, 0), "no memory to spare")
	for living := uint64(1); living < 1<<40; living *= 3 {
		grown := living * uint64(percentOf(living, room)) / 100
		require.LessOrEqual(t, grown, max(living, room), "with %d bytes alive", living)
	}
}

// The percent changes in steps, but what is beyond the headroom is under Go's own rule to the point.
func TestAHeapThatGrowsSlowlyComesBackToGosOwnRule(t *testing.T) {
	const room = 256 << 20
	percent, changes := ordinaryGCPercent, 0
	for living := uint64(20 << 20); living < 300<<20; living += 1 << 20 {
		next := nextGCPercent(percent, living, room)
		if next != percent {
			changes++
		}
		percent = next
		grown := living * uint64(percent) / 100
		require.LessOrEqual(t, grown, max(living, room)*12/10, "with %d bytes alive", living)
	}
	require.Equal(t, ordinaryGCPercent, percent)
	require.Less(t, changes, 30)
}

// Go adds stacks to what lives, and so do ten thousand connections.
func TestHeadroomCountsStacks(t *testing.T) {
	t.Setenv("GOGC", "")
	const available = 1 << 30 // a room of 64 MiB
	park, parked, over := make(chan struct{}), new(sync.WaitGroup), new(sync.WaitGroup)
	defer over.Wait()
	defer close(park)
	for range 8000 {
		parked.Add(1)
		over.Go(func() { deep(16, func() { parked.Done(); <-park }) })
	}
	parked.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	defer kept.Wait()
	defer cancel()
	kept.Go(func() { KeepHeadroom(ctx, available) })

	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	alive := newLiving()
	within := func() bool {
		runtime.GC()
		metrics.Read(goal)
		return goal[0].Value.Uint64() <= alive.of(sampleLive)+max(alive.bytes(), available/headroomShare)*12/10
	}
	require.Eventually(t, within, 10*time.Second, headroomLook)
	require.Greater(t, alive.of(sampleStacks), uint64(available/headroomShare/2), "there is something to count")
}

// deep parks a goroutine with a stack of some kilobytes.
func deep(n int, park func()) byte {
	var frame [256]byte
	frame[n] = byte(n)
	if n > 0 {
		return deep(n-1, park) + frame[n]
	}
	park()
	return frame[0]
}

func TestHeadroomEndsAsItBegan(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	KeepHeadroom(ctx, 0)
	require.Equal(t, 77, debug.SetGCPercent(before))
}
