package faults

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// setLease changes how long a node may speak without having heard from the others, and waits until every node lives
// by it.
func (f *fleet) setLease(t *testing.T, lease time.Duration) {
	t.Helper()
	setLease(t, f.nodes[0].asker(t), f.token, lease)
	for _, n := range f.nodes {
		eventually(t, requestWait, n.id+" to have the new lease", func() error {
			state, err := n.readiness()
			if err == nil && state.Remaining > lease {
				err = fmt.Errorf("its lease still lasts %s", state.Remaining)
			}
			return err
		})
	}
}

func setLease(t *testing.T, a *asker, token string, lease time.Duration) {
	t.Helper()
	body := map[string]any{"lease_milliseconds": lease.Milliseconds()}
	_, err := a.command(within(t, requestWait), token, http.MethodPatch, "/api/v1/settings", body, nil)
	require.NoError(t, err)
}
