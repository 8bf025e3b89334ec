package main

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

const watched = `event: open
data: {"node":"n1","log":"clu_1.0","heartbeat_milliseconds":3000}

event: snapshot
data: {"entries":[{"handle":"ses_a","expires_at":"2026-04-17T08:00:00.000Z"}]}

event: synced
id: 7
data: {"index":7,"count":1}

: heartbeat
id: 8

event: deny
data: {"entries":[{"handle":"agt_mailer#3","expires_at":"2026-04-17T08:00:00.000Z","provisional":true}]}

event: commit
id: 9
data: {"index":9,"entries":[{"handle":"agt_mailer#3","expires_at":"2026-04-18T08:00:00.000Z"},{"handle":"ses_b","expires_at":"2026-04-18T08:00:00.000Z"}]}

event: purge
id: 10
data: {"index":10,"before":"2026-04-17T08:00:00.000Z"}

event: end
data: {"code":"shutting-down","detail":"this node shuts down; follow another"}

`

// watchedOnce serves the stream, and refuses whoever comes for it again.
func watchedOnce(t *testing.T) *fakeNode {
	t.Helper()
	var served atomic.Bool
	return newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/revocations/stream": func(w http.ResponseWriter, r *http.Request) {
			if served.Swap(true) {
				problem(http.StatusForbidden, identity.CodeForbidden, "the token has lost its role", "")(w, r)
				return
			}
			_, _ = io.WriteString(w, watched)
		},
	})
}

func TestWatchPrintsWhatIsRevoked(t *testing.T) {
	n := watchedOnce(t)
	got := deputy(t, "", "revocation", "watch", "--from", "3")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "the token has lost its role")
	require.Regexp(t, `^\S+  open              following n1
\S+  synced         7  1 handles are revoked so far
\S+  deny              agt_mailer#3
\S+  commit         9  agt_mailer#3 ses_b
\S+  purge         10  forgotten: what expired by 2026-04-17T08:00:00.000Z
\S+  end               this node shuts down; follow another
$`, got.out)
	require.Equal(t, "from=3", n.calls[0].query)
	require.Equal(t, "from=10", n.calls[1].query)
}

func TestWatchPrintsJSONLines(t *testing.T) {
	watchedOnce(t)
	require.Equal(t, `{"event":"open","node":"n1","log":"clu_1.0","heartbeat_milliseconds":3000}
{"event":"snapshot","entries":[{"handle":"ses_a","expires_at":"2026-04-17T08:00:00.000Z"}]}
{"event":"synced","index":7,"count":1}
{"event":"deny","entries":[{"handle":"agt_mailer#3","expires_at":"2026-04-17T08:00:00.000Z","provisional":true}]}
{"event":"commit","index":9,"entries":[{"handle":"agt_mailer#3","expires_at":"2026-04-18T08:00:00.000Z"},{"handle":"ses_b","expires_at":"2026-04-18T08:00:00.000Z"}]}
{"event":"purge","index":10,"before":"2026-04-17T08:00:00.000Z"}
{"event":"end","code":"shutting-down","detail":"this node shuts down; follow another"}
`, deputy(t, "", "revocation", "watch", "-o", "json").out)
	watchedOnce(t)
	require.Contains(t, deputy(t, "", "revocation", "watch", "-o", "yaml").out, "---\nevent: synced\nindex: 7\n")
}

func TestWatchEndsWellWhereItIsAskedTo(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/revocations/stream": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "event: open\ndata: {\"node\":\"n1\"}\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	a := &app{in: http.NoBody, out: io.Discard, err: io.Discard, now: time.Now}
	require.Equal(t, exitDone, a.run(ctx, []string{"revocation", "watch"}))
}
