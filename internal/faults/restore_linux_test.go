package faults

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// replayBatch is how many handles one request replays.
const replayBatch = 100

// What was stopped after a backup was made does not come back to life with it: not when it is restored, not when the
// later stops are replayed, and not when minting is opened.
func TestRestoreBringsNothingStoppedBackToLife(t *testing.T) {
	needsRobustness(t)
	old := newFleetOn(t, loopback{}, 3)
	application, admin := old.cast(t).application, old.client(t)
	count := promised(t, 20, 100)
	var subjects []*subject
	for i := range count {
		subjects = append(subjects, newSubject(t, admin, application, stopKinds[i%len(stopKinds)], fmt.Sprintf("backed-up-%d", i), admin))
	}
	control := newSubject(t, admin, application, stopAgent, "never-stopped", admin)

	backup := old.saveSnapshot(t)
	at := old.nodes[0].asker(t)
	for _, s := range subjects {
		requireFenced(t, s, at, old.token)
	}
	handles := old.revokedHandles(t)
	for _, n := range old.nodes {
		n.kill(t)
	}

	restored := newFleetOn(t, loopback{}, 3)
	var closed, open tally
	askAll := func(c *tally) {
		for _, n := range restored.nodes {
			a := n.asker(t)
			for _, s := range subjects {
				c.ask(t.Context(), s, a)
			}
		}
	}
	restored.restoreSnapshot(t, backup)
	askAll(&closed)
	for i := 0; i < len(handles); i += replayBatch {
		restored.manage(t, http.MethodPost, "/api/v1/revocations", map[string]any{
			"handles": handles[i:min(i+replayBatch, len(handles))], "reason": "stopped after the backup",
		})
	}
	askAll(&closed)
	restored.manage(t, http.MethodPost, "/api/v1/cluster/open", nil)
	// Only a cluster that says yes to others proves anything by its no.
	for _, n := range restored.nodes {
		a := n.asker(t)
		require.Equal(t, refused, control.introspect(within(t, requestWait), a).verdict, "a token that an old key signed is good")
		eventually(t, readyWait, n.id+" to mint again", func() error {
			if got := a.mint(within(t, requestWait), control.agent); got.verdict != accepted {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	askAll(&open)
	t.Logf("== restore: %d tokens stopped after the backup of %d bytes, %d handles replayed; while minting was closed: %s; after it was opened: %s; VIOLATIONS %d",
		count, len(backup), len(handles), &closed, &open, closed.counts[accepted]+open.counts[accepted])
	require.Empty(t, closed.wrong)
	require.Empty(t, open.wrong)
}

func (f *fleet) saveSnapshot(t *testing.T) []byte {
	t.Helper()
	return f.transfer(t, f.nodes[0], http.MethodGet, nil)
}

func (f *fleet) restoreSnapshot(t *testing.T, backup []byte) {
	t.Helper()
	f.transfer(t, f.leader(t), http.MethodPost, backup) // nobody passes it on
}

func (f *fleet) transfer(t *testing.T, n *node, method string, body []byte) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(within(t, readyWait), method, n.url()+"/api/v1/cluster/snapshot", bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/octet-stream")
	bearer(f.token)(request)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, "%.500s", text)
	return text
}

// revokedHandles is what a cluster has in its revocation set.
func (f *fleet) revokedHandles(t *testing.T) []identity.Handle {
	t.Helper()
	c, ctx := f.client(t), within(t, requestWait)
	var handles []identity.Handle
	for r, err := range client.All(ctx, client.List{Limit: 1000}, c.Revocations) {
		require.NoError(t, err)
		handles = append(handles, r.Handle)
	}
	return handles
}
