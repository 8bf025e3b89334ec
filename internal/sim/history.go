package sim

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// history is what happened in one schedule, with virtual times.
type history struct {
	mu    sync.Mutex
	began time.Time
	lines []event
}

type event struct {
	at   time.Duration
	text string
}

// maxEvents bounds a history; a schedule has some hundreds.
const maxEvents = 50_000

func newHistory() *history { return &history{began: time.Now()} }

func (h *history) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.lines) < maxEvents {
		h.lines = append(h.lines, event{time.Since(h.began), fmt.Sprintf(format, args...)})
	}
}

// elapsed is the virtual time since the beginning.
func (h *history) elapsed() time.Duration { return time.Since(h.began) }

func (h *history) writeTo(w io.Writer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.lines {
		if _, err := fmt.Fprintf(w, "%10.4f  %s\n", e.at.Seconds(), e.text); err != nil {
			return err
		}
	}
	return nil
}
