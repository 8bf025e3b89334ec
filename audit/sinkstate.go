package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
)

// cursor is the file of a sink.
type cursor struct {
	Log       string `json:"log"`
	Confirmed uint64 `json:"confirmed"`
}

func (c *courier) load() (at cursor, err error) {
	text, err := os.ReadFile(c.path)
	if err != nil {
		return at, err
	}
	if err := json.Unmarshal(text, &at); err != nil {
		return at, fmt.Errorf("%s is damaged: %w; remove it, and the sink gets everything that is kept once more", c.path, err)
	}
	return at, nil
}

// save keeps how far the sink has got, at most once a second unless it must be.
func (c *courier) save(now bool) error {
	confirmed := c.confirmed.Load()
	if !now && (confirmed == c.saved || time.Since(c.savedAt) < cursorEvery) {
		return nil
	}
	text, err := json.Marshal(cursor{Log: c.log.id, Confirmed: confirmed})
	if err == nil {
		err = privatefile.Replace(c.path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keeping where sink %s stands: %w", c.Name, err)
	}
	c.saved, c.savedAt = confirmed, time.Now()
	return nil
}

// SinkStatus is where a sink stands.
type SinkStatus struct {
	Name      string
	Confirmed uint64        // the last record that is known to have arrived
	Behind    uint64        // records that were not delivered yet
	Lag       time.Duration // age of the oldest of those
	Lost      uint64        // since the start: removed before they were delivered
	Failures  uint64        // since the start
	Err       error         // of the last delivery; nil: it went well
}

// Sinks returns where the sinks stand.
func (l *Log) Sinks() []SinkStatus {
	all := make([]SinkStatus, len(l.sinks))
	for i, c := range l.sinks {
		all[i] = c.status()
	}
	return all
}

func (c *courier) status() SinkStatus {
	last, _ := c.log.catalog.last()
	s := SinkStatus{Name: c.Name, Confirmed: c.confirmed.Load(), Lost: c.lost.Load(), Failures: c.failures.Load()}
	if delivered := c.delivered.Load(); delivered < last {
		s.Behind = last - delivered
		if at := identity.Instant(c.behind.Load()); at != 0 {
			s.Lag = max(0, c.log.options.Now().Sub(at.Time()))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Err = c.trouble
	return s
}
