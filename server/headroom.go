package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects garbage when the heap has grown by as much as lives, stacks and globals included, and a collection costs by
// that, not by what it frees. A node whose tables have a few dozen megabytes would collect several times a second under load,
// on all processors, to save less memory than anybody would miss. So where less than headroom lives, the heap is collected once
// it has grown by that much, and by Go's own rule where more does.
const (
	headroom = 256 << 20
	// headroomShare keeps it to a part of the memory that is to be had when the server has started.
	headroomShare = 16

	ordinaryGCPercent = 100 // Go's own
	// mostGCPercent and headroomLook bound how far the heap may overshoot where what lives grows many times over: the percent
	// of before counts until the next look.
	mostGCPercent = 1000
	headroomLook  = 100 * time.Millisecond
	// headroomStep is the part by which the percent must change for the world to be stopped, some tens of microseconds.
	headroomStep = 10
)

// KeepHeadroom has this process collect garbage seldom while little of its memory lives, until ctx ends. The setting is the
// process's own, so this is for a process that is one server and nothing else. It does nothing where the operator has set
// GOGC; a limit by GOMEMLIMIT holds whatever is done here. Available is the memory that is to be had; 0 where nobody tells.
func KeepHeadroom(ctx context.Context, available int64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	room := uint64(headroom)
	if available > 0 {
		room = min(room, uint64(available)/headroomShare)
	}
	before := debug.SetGCPercent(ordinaryGCPercent)
	defer func() { debug.SetGCPercent(before) }()
	ticker := time.NewTicker(headroomLook)
	defer ticker.Stop()
	alive := newLiving()
	for percent := ordinaryGCPercent; ; {
		if next := nextGCPercent(percent, alive.bytes(), room); next != percent {
			debug.SetGCPercent(next)
			percent = next
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// nextGCPercent is the GOGC after percent, by which the heap is collected once it has grown by room, or by what lives where that
// is more.
func nextGCPercent(percent int, living, room uint64) int {
	if living >= room {
		return ordinaryGCPercent
	}
	next := int(min(room*ordinaryGCPercent/max(living, 1), mostGCPercent)) //nolint:gosec // at most mostGCPercent
	if step := percent / headroomStep; next >= percent-step && next <= percent+step {
		return percent
	}
	return next
}

// living reads what of the memory lives, as Go counts it to tell when to collect.
type living struct {
	samples []metrics.Sample
	cycles  uint64 // of collections, before the first look
}

const (
	sampleLive = iota
	sampleStacks
	sampleGlobals
	sampleCycles
	sampleObjects
)

func newLiving() *living {
	l := &living{samples: []metrics.Sample{
		sampleLive:    {Name: "/gc/heap/live:bytes"},
		sampleStacks:  {Name: "/gc/scan/stack:bytes"},
		sampleGlobals: {Name: "/gc/scan/globals:bytes"},
		sampleCycles:  {Name: "/gc/cycles/total:gc-cycles"},
		sampleObjects: {Name: "/memory/classes/heap/objects:bytes"},
	}}
	metrics.Read(l.samples)
	l.cycles = l.of(sampleCycles)
	return l
}

func (l *living) of(sample int) uint64 { return l.samples[sample].Value.Uint64() }

// bytes is what lived at the last collection. Until there is one that is the most it can be: a start may have loaded all that
// there is without any.
func (l *living) bytes() uint64 {
	metrics.Read(l.samples)
	heap := l.of(sampleLive)
	if l.of(sampleCycles) == l.cycles {
		heap = l.of(sampleObjects)
	}
	return heap + l.of(sampleStacks) + l.of(sampleGlobals)
}
