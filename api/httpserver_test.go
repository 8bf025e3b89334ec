package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/identity"
)

func TestShutdownIsNotHeldUpByWhoSendsNothing(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	server := n.api.Server()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	dial := func(text string) net.Conn {
		c, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = io.WriteString(c, text)
		require.NoError(t, err)
		return c
	}
	const whole = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
	idle := dial(whole)
	response := make([]byte, 12)
	_, err = io.ReadFull(idle, response)
	require.NoError(t, err)
	dial("")
	dial("GET /openapi.json HT")
	dial("POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	require.Eventually(t, func() bool { return server.http.GetOpenConnectionsCount() == 4 }, 5*time.Second, time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	started := time.Now()
	require.NoError(t, server.ShutdownWithContext(ctx))
	require.Less(t, time.Since(started), defaultRead/2)
	require.NoError(t, <-served)
	require.Eventually(t, func() bool { // fasthttp tells that a connection is closed after it stops counting it
		server.mu.Lock()
		defer server.mu.Unlock()
		return len(server.conns) == 0
	}, 5*time.Second, time.Millisecond)
}

func TestShutdownLetsARequestEnd(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	server := n.api.Server()
	entered := make(chan struct{})
	server.http.Handler = func(ctx *fasthttp.RequestCtx) {
		close(entered)
		<-time.After(arrivalGrace + 4*hurryEvery) // longer than a request may still take to arrive
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	status := make(chan int, 1)
	go func() {
		response, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			status <- 0
			return
		}
		_ = response.Body.Close()
		status <- response.StatusCode
	}()
	<-entered
	require.NoError(t, server.ShutdownWithContext(t.Context()))
	require.Equal(t, http.StatusNoContent, <-status)
	require.NoError(t, <-served)
}

func TestTransferOfLeadershipIsNotRepeatedBlindly(t *testing.T) {
	t.Parallel()
	unknown := identity.Errorf(identity.CodeOutcomeUnknown, "no answer came")
	for name, lost := range map[string]error{"unknown": unknown, "leadership lost meanwhile": errNoLeader()} {
		for where, number := range map[string]int{"at the leader": 0, "forwarded": 1} {
			t.Run(name+" "+where, func(t *testing.T) {
				g := newGroup(t, 2)
				stub := g.nodes[0].cluster
				stub.lost = lost
				g.nodes[number].send("POST", "/api/v1/cluster/transfer-leadership", nil).refused(identity.CodeOutcomeUnknown)
				require.Equal(t, 1, stub.handing)
			})
		}
	}
}
