package client

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// queries is a node that notes what it is asked.
func queries(t *testing.T, body string) (*node, *[]string) {
	t.Helper()
	var asked []string
	return newNode(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		_, _ = io.WriteString(w, body)
	}), &asked
}

func TestStopsAreFencedOnDemand(t *testing.T) {
	n, asked := queries(t, `{"fenced":true,"nodes":[{"id":"n1","state":"fenced","after_ms":1.5}],"denied":{"nodes":3,"of":3,"after_ms":4}}`)
	c, _ := newClient(t, n.URL)
	kill, err := c.KillAgent(t.Context(), "a", wire.KillRequest{Reason: "r"}, false, Fenced(0))
	require.NoError(t, err)
	require.True(t, kill.Fenced)
	require.Equal(t, 3, kill.Denied.Nodes)
	require.InDelta(t, 1.5, kill.Nodes[0].After, 0)
	_, err = c.WithdrawDelegation(t.Context(), "dlg_x", "why", Fenced(1500*time.Millisecond))
	require.NoError(t, err)
	_, err = c.RevokeHandles(t.Context(), []identity.Handle{"agt_a#1"}, "replayed")
	require.NoError(t, err)
	_, err = c.RemoveMember(t.Context(), "n4", "", Force(), Compromised())
	require.NoError(t, err)
	require.Equal(t, []string{
		"POST /api/v1/agents/a/revoke?wait=fenced",
		"DELETE /api/v1/delegations/dlg_x?reason=why&timeout_seconds=2&wait=fenced",
		"POST /api/v1/revocations",
		"DELETE /api/v1/cluster/members/n4?compromised=true&force=true",
	}, *asked)
}

// A fence may take longer than any other answer does.
func TestFencedWritesAreWaitedForAsLongAsTheNodeDoes(t *testing.T) {
	var left time.Duration
	deadline := func(r *http.Request) (*http.Response, error) {
		at, bounded := r.Context().Deadline()
		require.True(t, bounded)
		left = time.Until(at)
		return nil, context.DeadlineExceeded
	}
	c, err := New(Options{Addresses: []string{"http://127.0.0.1:1"}, Transport: transport(deadline)})
	require.NoError(t, err)
	c.pause = func(context.Context, time.Duration) error { return nil }
	for _, w := range []struct {
		want    time.Duration
		options []Option
	}{
		{attemptTimeout, nil},
		{attemptTimeout, []Option{Fenced(0)}}, // which is less
		{time.Minute + fenceGrace, []Option{Fenced(time.Minute)}},
	} {
		_, err := c.DeleteAgent(t.Context(), "a", "", w.options...)
		require.Error(t, err)
		require.InDelta(t, w.want.Seconds(), left.Seconds(), 2)
	}
	_, err = c.RemoveMember(t.Context(), "n4", "", Fenced(time.Second))
	require.Error(t, err)
	require.InDelta(t, removalPatience.Seconds(), left.Seconds(), 2)
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRevocationsAreExportedPageByPage(t *testing.T) {
	n := newNode(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "1000", r.URL.Query().Get("limit"))
		if r.URL.Query().Get("after") == "" {
			w.Header().Set("Link", `</api/v1/revocations?after=a%231&limit=1000>; rel="next"`)
			_, _ = io.WriteString(w, `[{"handle":"a#1"}]`)
			return
		}
		_, _ = io.WriteString(w, `[{"handle":"b#2"}]`)
	})
	c, _ := newClient(t, n.URL)
	var handles []identity.Handle
	for r, err := range c.ExportRevocations(t.Context()) {
		require.NoError(t, err)
		handles = append(handles, r.Handle)
	}
	require.Equal(t, []identity.Handle{"a#1", "b#2"}, handles)
}

func TestOperationsHaveTheirPaths(t *testing.T) {
	n, asked := queries(t, `{}`)
	c, _ := newClient(t, n.URL)
	ctx := t.Context()
	_, err := c.DrainMember(ctx, "n2", true)
	require.NoError(t, err)
	_, err = c.RotateKey(ctx, "n2")
	require.NoError(t, err)
	_, err = c.RotateKey(ctx, "")
	require.NoError(t, err)
	_, err = c.RotateGossipKey(ctx)
	require.NoError(t, err)
	_, err = c.Freshness(ctx)
	require.NoError(t, err)
	_, err = c.OpenMinting(ctx)
	require.NoError(t, err)
	_, err = c.PatchSettings(ctx, map[string]any{"lease_milliseconds": 2000}, Fenced(time.Second))
	require.NoError(t, err)
	require.Equal(t, []string{
		"POST /api/v1/cluster/members/n2/drain", "POST /api/v1/cluster/members/n2/rotate-key", "POST /api/v1/cluster/rotate-keys",
		"POST /api/v1/cluster/rotate-gossip-key", "GET /api/v1/cluster/freshness", "POST /api/v1/cluster/open",
		"PATCH /api/v1/settings?timeout_seconds=1&wait=fenced",
	}, *asked)
}
