package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects garbage when the heap has doubled, and a collection costs by what lives, not by what it frees. A node whose
// tables have a few dozen megabytes would collect several times a second under load, on all processors, to save less
// memory than anybody would miss. So a heap of which less than headroom lives is collected once it has grown by that much; a
// larger one when it has doubled, as ever. It is never more than headroom beyond Go's own rule.
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

// KeepHeadroom has this process collect garbage seldom while little of its heap lives, until ctx ends. The setting is the
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
	defer func() { debug.SetGCPercent(ordinaryGCPercent) }()
	ticker := time.NewTicker(headroomLook)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for percent := ordinaryGCPercent; ; {
		metrics.Read(live)
		if next := gcPercent(live[0].Value.Uint64(), room); next > percent+percent/headroomStep || next < percent-percent/headroomStep {
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

// gcPercent is the GOGC by which a heap is collected once it has grown by room, or doubled where more of it lives.
func gcPercent(live, room uint64) int {
	if live >= room {
		return ordinaryGCPercent
	}
	return int(min(room*ordinaryGCPercent/max(live, 1), mostGCPercent)) //nolint:gosec // at most mostGCPercent
}
