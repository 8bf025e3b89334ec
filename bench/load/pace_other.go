//go:build !linux

package load

import "time"

// pacer waits as exactly as the runtime's timers do.
type pacer struct{}

func newPacer() (*pacer, error) { return &pacer{}, nil }

func (*pacer) wait(d time.Duration) { time.Sleep(d) }

func (*pacer) close() {}
