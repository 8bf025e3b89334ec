package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// What a client does that keeps connections: one that the node has closed in the meantime is no failure.
func TestAConnectionThatTheNodeHasClosedWhileItWasIdleIsMadeAnew(t *testing.T) {
	var connections atomic.Int64
	address := speak(t, func(c net.Conn) {
		connections.Add(1)
		eachRequest(c, func(c net.Conn, _ []byte) {
			fmt.Fprint(c, okAnswer)
			c.Close()
		})
	})

	result := way{}.run(t, planOf(t, address), 1, OpenOptions{Shape: Constant(5, time.Second)})

	require.EqualValues(t, 5, result.Succeeded(), "%v", result.Failures())
	require.EqualValues(t, 5, connections.Load())
}

// Each loop has connections of each node, and between them they offer what one would.
func TestSeveralLoopsShareALoadAmongThem(t *testing.T) {
	before := runtime.GOMAXPROCS(6)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	var served [2]atomic.Int64
	addresses := make([]string, len(served))
	for i := range served {
		addresses[i] = serve(t, func(*fasthttp.RequestCtx) { served[i].Add(1) })
	}
	plan := planOf(t, addresses...)
	g := way{}.generator(t, plan, 3*2*laneWidth)
	require.Equal(t, 3, g.loops())

	result := runOf(t, g, OpenOptions{Shape: Constant(1000, 300*time.Millisecond)})

	require.EqualValues(t, 300, result.Operations[0].Offered)
	require.EqualValues(t, 300, result.Succeeded())
	require.EqualValues(t, 150, served[0].Load())
	require.EqualValues(t, 150, served[1].Load())
}

func TestLoopsAreForPlainConnectionsOnly(t *testing.T) {
	plan := planOf(t, "127.0.0.1:1", "127.0.0.1:2")
	plan.Nodes[1].TLS = &tls.Config{}
	require.Zero(t, way{}.generator(t, plan, 2).loops())
}

// A node that refuses every connection answers a backlog as fast as it is asked, and must not keep the others from theirs.
func TestANodeThatRefusesDoesNotHoldUpTheOthers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := listener.Addr().String()
	require.NoError(t, listener.Close())
	var served atomic.Int64
	good := serve(t, func(*fasthttp.RequestCtx) { served.Add(1) })

	result := way{}.run(t, planOf(t, dead, good), 4, OpenOptions{Shape: Constant(2000, 500*time.Millisecond)})

	op := result.Operations[0]
	require.EqualValues(t, 1000, op.Offered)
	require.EqualValues(t, 500, served.Load())
	require.EqualValues(t, 500, op.Succeeded)
	require.EqualValues(t, 500, op.Failures[FailureDial], "%v", op.Failures)
}

func TestARunThatIsCalledOffAccountsForAllThatItOffered(t *testing.T) {
	release := make(chan struct{})
	address := serve(t, func(*fasthttp.RequestCtx) { <-release })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	time.AfterFunc(300*time.Millisecond, func() { close(release) })

	result, err := way{}.generator(t, planOf(t, address), 2).RunOpen(ctx, OpenOptions{Shape: Constant(500, time.Minute)})

	require.ErrorIs(t, err, context.Canceled)
	op := result.Operations[0]
	require.EqualValues(t, 2, op.Sent)
	require.Positive(t, op.Skipped)
	require.Equal(t, op.Offered, op.Sent+op.Skipped)
}

func TestAHalfWrittenRequestTimesOut(t *testing.T) {
	release := make(chan struct{})
	address := speak(t, func(net.Conn) { <-release }) // reads nothing
	defer close(release)
	plan := planOf(t, address)
	request := append(fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: test.invalid\r\nContent-Length: %d\r\n\r\n", 16<<20), bytes.Repeat([]byte("x"), 16<<20)...)
	plan.Work = func(int, int) Work { return &spelled{request: request} }
	g := way{}.generator(t, plan, 1)
	g.SetTimeout(200 * time.Millisecond)

	result := runOf(t, g, OpenOptions{Shape: Constant(10, 100*time.Millisecond)})

	require.EqualValues(t, 1, result.Failures()[FailureTimeout], "%v", result.Failures())
}

func TestLoopsGiveBackAllTheirFiles(t *testing.T) {
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		if ctx.ConnRequestNum()%3 == 0 {
			ctx.SetConnectionClose()
		}
	})
	open := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(files)
	}
	before := open()
	g, err := NewGenerator(planOf(t, address), 8)
	require.NoError(t, err)
	for range 3 {
		require.Zero(t, runOf(t, g, OpenOptions{Shape: Constant(500, 100*time.Millisecond)}).Failed())
	}
	g.Close()

	require.Eventually(t, func() bool { return open() <= before }, 5*time.Second, 10*time.Millisecond, "the server's side closes a little later")
}

func TestALoopSaysHowBusyItWas(t *testing.T) {
	address := serve(t, func(*fasthttp.RequestCtx) {})
	result := way{}.run(t, planOf(t, address), 2, OpenOptions{Shape: Constant(100, 200*time.Millisecond)})
	require.Positive(t, result.Busiest)
	require.Less(t, result.Busiest, result.Elapsed)
}
