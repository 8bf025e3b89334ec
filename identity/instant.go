package identity

import (
	"fmt"
	"time"
)

// Instant is a point in time in milliseconds since the Unix epoch, UTC. The zero Instant means "not set".
//
// It is an integer rather than a time.Time because it is stored by the million and because a replicated
// state machine must not depend on a location or a monotonic reading.
type Instant int64

// instantLayout is RFC 3339 in UTC with exactly three fractional digits.
const instantLayout = "2006-01-02T15:04:05.000Z07:00"

// InstantOf truncates t to milliseconds.
func InstantOf(t time.Time) Instant { return Instant(t.UnixMilli()) }

// Time returns the instant in UTC.
func (i Instant) Time() time.Time { return time.UnixMilli(int64(i)).UTC() }

// Unix returns whole seconds since the epoch, rounded down.
func (i Instant) Unix() int64 { return int64(i) / 1000 }

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Milliseconds()) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i-j) * time.Millisecond }

// IsZero reports whether the instant was never set.
func (i Instant) IsZero() bool { return i == 0 }

func (i Instant) String() string {
	if i == 0 {
		return ""
	}
	return i.Time().Format(instantLayout)
}

// MarshalText writes RFC 3339 with milliseconds, and nothing at all for the zero Instant.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads any RFC 3339 time; the empty text is the zero Instant.
func (i *Instant) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*i = 0
		return nil
	}
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%q is not an RFC 3339 time such as 2026-04-17T08:00:00.000Z", text)
	}
	*i = InstantOf(t)
	return nil
}
