package cluster

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	quietLines  = 50 // enough to see what is wrong
	quietPeriod = 10 * time.Second
)

// quietWriter passes on so many warnings and errors in a period. memberlist writes one for every datagram that it
// can't decrypt, so anybody who reaches the port could fill the disk.
type quietWriter struct {
	to     io.Writer
	logger *slog.Logger

	mu         sync.Mutex
	began      time.Time
	lines      int
	suppressed int
}

// Write hands a line on or swallows it. The number of those swallowed is told with the first of a later period.
func (w *quietWriter) Write(line []byte) (int, error) {
	if !bytes.HasPrefix(line, []byte("[ERR]")) && !bytes.HasPrefix(line, []byte("[WARN]")) {
		return w.to.Write(line)
	}
	suppressed, pass := w.admit(time.Now())
	if suppressed > 0 {
		w.logger.Warn("too many lines from gossip; some were left out", "lines", suppressed)
	}
	if !pass {
		return len(line), nil
	}
	return w.to.Write(line)
}

func (w *quietWriter) admit(now time.Time) (suppressed int, pass bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.began) >= quietPeriod {
		suppressed = w.suppressed
		w.began, w.lines, w.suppressed = now, 0, 0
	}
	if w.lines >= quietLines {
		w.suppressed++
		return suppressed, false
	}
	w.lines++
	return suppressed, true
}
