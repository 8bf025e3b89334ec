package client_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

func TestWatchGoesOnAtAnotherNode(t *testing.T) {
	first, second := newFakeNode(t), newFakeNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var seen []string
	enough := errors.New("enough")
	err := clientFor(t, first, second).Watch(ctx, client.WatchOptions{}, func(e *client.RevocationEvent) error {
		switch {
		case e.Type == wire.EventSynced:
			go first.commit("ses_a")
		case e.Type == wire.EventCommit && e.Index == 11:
			second.set(func() { second.index, second.applied = 11, 11 })
			go first.CloseClientConnections()
		case e.Type == wire.EventOpen && e.Resumed:
			go second.commit("ses_b")
		case e.Type == wire.EventCommit:
			seen = append(seen, e.Type)
			return enough
		}
		if e.Type != client.EventHeartbeat {
			seen = append(seen, e.Type)
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, []string{"open", "snapshot", "synced", "commit", "open", "commit"}, seen)
	require.Equal(t, []string{"11"}, second.from)
}

func TestWatchEndsWhereItIsRefused(t *testing.T) {
	n := newFakeNode(t)
	n.refuse = http.StatusForbidden
	err := clientFor(t, n).Watch(t.Context(), client.WatchOptions{}, func(*client.RevocationEvent) error { return nil })
	require.Equal(t, identity.CodeForbidden, identity.CodeOf(err))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	err = clientFor(t, n).Watch(over, client.WatchOptions{}, func(*client.RevocationEvent) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
}

// Indexes of another log say nothing: whoever has followed one begins anew with the other.
func TestWatchBeginsAnewWithAnotherLog(t *testing.T) {
	first, second := newFakeNode(t), newFakeNode(t)
	second.log, second.index, second.applied = "clu_2.0", 500, 500
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	enough := errors.New("enough")
	var logs []string
	err := clientFor(t, first, second).Watch(ctx, client.WatchOptions{}, func(e *client.RevocationEvent) error {
		switch {
		case e.Type == wire.EventOpen:
			logs = append(logs, e.Log)
		case e.Type == wire.EventSynced && e.Index == 10:
			first.set(func() { first.refuse = http.StatusServiceUnavailable })
			go first.CloseClientConnections()
		case e.Type == wire.EventSynced:
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, []string{"clu_1.0", "clu_2.0", "clu_2.0"}, logs)
	require.Equal(t, []string{"10", ""}, second.from)
}

func TestStreamThatIsNoneIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"not JSON":      "event: open\ndata: {\n\n",
		"an odd index":  "id: x\n\n",
		"a line of 2MB": "data: " + string(make([]byte, 2<<20)) + "\n\n",
		"cut off":       "event: open\ndata: {}\n",
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			n.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := clientFor(t, n).Watch(ctx, client.WatchOptions{}, func(e *client.RevocationEvent) error {
				t.Errorf("it passed on %+v", e)
				return nil
			})
			require.Error(t, err)
		})
	}
}
