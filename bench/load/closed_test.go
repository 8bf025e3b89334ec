package load

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// serve answers with the handler on a loopback port until the test ends.
func serve(t *testing.T, handler fasthttp.RequestHandler) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &fasthttp.Server{Handler: handler, CloseOnShutdown: true, Logger: log.New(io.Discard, "", 0)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown())
		require.NoError(t, <-done)
	})
	return listener.Addr().String()
}

func get(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: test.invalid\r\n\r\n", path)
}

func runOnce(t *testing.T, target Target, connections int, duration time.Duration) *Sample {
	t.Helper()
	g, err := NewTargetGenerator(target, connections)
	require.NoError(t, err)
	t.Cleanup(g.Close)
	result, err := g.RunClosed(t.Context(), duration)
	require.NoError(t, err)
	return result
}

func TestGeneratorCountsWhatTheServerServed(t *testing.T) {
	var served atomic.Int64
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		served.Add(1)
		ctx.SetBodyString(`{"ok":true}`)
	})

	result := runOnce(t, Target{Addresses: []string{address}, Requests: [][]byte{get("/")}, Expect: []byte(`"ok"`)}, 8, 100*time.Millisecond)

	require.Positive(t, result.Succeeded())
	require.Equal(t, served.Load(), result.Succeeded())
	require.Equal(t, result.Succeeded(), result.Operations[0].Latency.TotalCount())
	require.Zero(t, result.Failed())
	require.GreaterOrEqual(t, result.Elapsed, 100*time.Millisecond)
	require.Positive(t, result.GeneratorCPU)
}

func TestGeneratorKeepsItsConnectionsFromRoundToRound(t *testing.T) {
	var connections atomic.Int64
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		if ctx.ConnRequestNum() == 1 {
			connections.Add(1)
		}
	})
	g, err := NewTargetGenerator(Target{Addresses: []string{address}, Requests: [][]byte{get("/")}}, 4)
	require.NoError(t, err)
	defer g.Close()

	for range 3 {
		_, err := g.RunClosed(t.Context(), 20*time.Millisecond)
		require.NoError(t, err)
	}

	require.EqualValues(t, 4, connections.Load())
}

func TestGeneratorGoesRoundItsRequestsAndAddresses(t *testing.T) {
	var first, second atomic.Int64
	paths := func(seen *atomic.Int64) fasthttp.RequestHandler {
		return func(ctx *fasthttp.RequestCtx) { seen.Or(1 << (ctx.Path()[1] - '0')) }
	}
	addresses := []string{serve(t, paths(&first)), serve(t, paths(&second))}

	runOnce(t, Target{Addresses: addresses, Requests: [][]byte{get("/0"), get("/1"), get("/2")}}, 4, 50*time.Millisecond)

	require.EqualValues(t, 0b111, first.Load())
	require.EqualValues(t, 0b111, second.Load())
}

func TestFailuresAreCountedByKind(t *testing.T) {
	for name, c := range map[string]struct {
		handler fasthttp.RequestHandler
		kind    Failure
	}{
		"status":       {func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(429) }, "http 429"},
		"wrong answer": {func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString(`{"active":false}`) }, FailureAnswer},
		"closed":       {func(ctx *fasthttp.RequestCtx) { ctx.Conn().Close() }, FailureClosed},
		"not understood": {func(ctx *fasthttp.RequestCtx) {
			ctx.HijackSetNoResponse(true)
			ctx.Hijack(func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n") })
		}, FailureMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, c.handler)

			result := runOnce(t, Target{Addresses: []string{address}, Requests: [][]byte{get("/")}, Expect: []byte(`"active":true`)}, 2, 30*time.Millisecond)

			require.Zero(t, result.Succeeded())
			require.Positive(t, result.Failures()[c.kind], "%v", result.Failures())
			require.Len(t, result.Failures(), 1, "%v", result.Failures())
		})
	}
}

func TestADeadServerIsAFailureAndNotATightLoop(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	result := runOnce(t, Target{Addresses: []string{address}, Requests: [][]byte{get("/")}}, 1, 5*redialPause)

	require.Positive(t, result.Failures()[FailureDial])
	require.LessOrEqual(t, result.Failures()[FailureDial], int64(6))
}

func TestAnAnswerMayComeInPieces(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		for len(answer) > 0 {
			n := min(97, len(answer))
			if _, err := c.Write([]byte(answer[:n])); err != nil {
				return
			}
			answer = answer[n:]
		}
		_, _ = c.Read(buf) // until the client is done
	}()
	c, err := Dial(t.Context(), listener.Addr().String(), nil)
	require.NoError(t, err)
	defer c.Close()

	status, body, err := c.Exchange(get("/"))

	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, strings.Repeat("x", 2000), string(body))
}

func TestASilentServerIsATimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	c, err := Dial(t.Context(), listener.Addr().String(), nil)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Until(time.Now().Add(20*time.Millisecond)))

	_, _, err = c.Exchange(get("/"))

	require.Equal(t, FailureTimeout, FailureOf(err))
}

func TestARunThatIsCalledOffEndsEarly(t *testing.T) {
	address := serve(t, func(*fasthttp.RequestCtx) {})
	g, err := NewTargetGenerator(Target{Addresses: []string{address}, Requests: [][]byte{get("/")}}, 2)
	require.NoError(t, err)
	defer g.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()

	_, err = g.RunClosed(ctx, time.Minute)

	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestRequestsThatDoNotFitOneWriteAreRefused(t *testing.T) {
	_, err := NewTargetGenerator(Target{Addresses: []string{"127.0.0.1:1"}, Requests: [][]byte{make([]byte, MaxRequestBytes+1)}}, 1)
	require.ErrorContains(t, err, "8192")
}

func TestAnExchangeDoesNotAllocate(t *testing.T) {
	address := serve(t, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") })
	c, err := Dial(t.Context(), address, nil)
	require.NoError(t, err)
	defer c.Close()
	request := get("/")

	// The server is in the same process and allocates a little now and then: the average stays below one.
	require.Less(t, testing.AllocsPerRun(500, func() {
		if _, _, err := c.Exchange(request); err != nil {
			t.Fatal(err)
		}
	}), 1.0)
}
