package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// parentPoll is how often the parent is looked at: soon enough for who waits for Ctrl-C to take effect.
const parentPoll = 250 * time.Millisecond

// parentInterrupted calls interrupt when the make that runs this process has got an interrupt of its own. A
// terminal sends Ctrl-C to both, but a signal sent to make alone is not passed on: make stops catching it and
// waits for its children, for ever. It returns when ctx ends or after it has called interrupt.
func parentInterrupted(ctx context.Context, interrupt func()) {
	parent := os.Getppid()
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent))
	if err != nil || !bytes.Equal(bytes.TrimSpace(name), []byte("make")) {
		return
	}
	ticker := time.NewTicker(parentPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", parent))
		if err != nil {
			return // make is gone
		}
		if signalIn(status, "SigBlk:", syscall.SIGINT) && !signalIn(status, "SigCgt:", syscall.SIGINT) {
			interrupt()
			return
		}
	}
}

// signalIn looks a signal up in one of the masks of /proc/PID/status, see proc(5).
func signalIn(status []byte, mask string, signal syscall.Signal) bool {
	for line := range bytes.Lines(status) {
		value, ok := bytes.CutPrefix(line, []byte(mask))
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
		return err == nil && bits&(1<<(signal-1)) != 0
	}
	return false
}
