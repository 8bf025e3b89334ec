package faults

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// eventually asks again and again until ask returns nil, and fails the test with its last error when the time
// is over, or at once with an error made by final.
func eventually(t *testing.T, within time.Duration, what string, ask func() error) {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		var no *finalError
		if errors.As(err, &no) || time.Since(began) > within {
			require.FailNow(t, "waited in vain for "+what, "after %s: %v", time.Since(began).Round(time.Millisecond), err)
		}
		<-ticker.C
	}
}

// finalError is a failure that no waiting mends.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func final(err error) error { return &finalError{err} }

// pass lets time go by: a fault is to last that long, and nothing is waited for.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
