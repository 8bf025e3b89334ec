//go:build !linux

package bench

import (
	"os/exec"
	"time"
)

var started = time.Now()

// allowedCPUs lists none: only Linux pins processes here, and a run then says that it pinned nothing.
func allowedCPUs() ([]int, error) { return nil, nil }

func startPinned(cmd *exec.Cmd, _ []int) error { return cmd.Start() }

func pinSelf([]int) error { return nil }

func scheduling() string { return "" }

// threadCPU is the time of day, for want of better: what else runs is not told apart.
func threadCPU() time.Duration { return time.Since(started) }

func freeDisk(string) int64 { return 0 }
