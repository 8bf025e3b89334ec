package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// speak serves connections with a function of the test's own until the test ends.
func speak(t *testing.T, with func(c net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				with(c)
			})
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		serving.Wait()
	})
	return listener.Addr().String()
}

// eachRequest reads one request after the other, and has them answered.
func eachRequest(c net.Conn, answer func(c net.Conn, body []byte)) {
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		answer(c, body)
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestAnswersThatComeInPiecesAreWaitedFor(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		address := speak(t, func(c net.Conn) {
			eachRequest(c, func(c net.Conn, _ []byte) {
				for i := range okAnswer {
					fmt.Fprint(c, okAnswer[i:i+1])
				}
			})
		})

		result := w.run(t, planOf(t, address), 2, OpenOptions{Shape: Constant(100, 300*time.Millisecond)})

		require.EqualValues(t, 30, result.Succeeded(), "%v", result.Failures())
	})
}

// Far more than a socket takes at once.
func TestLargeRequestsAreSentWholly(t *testing.T) {
	const size = 2 << 20
	inEachWay(t, func(t *testing.T, w way) {
		var wrong atomic.Int64
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		address := speak(t, func(c net.Conn) {
			eachRequest(c, func(c net.Conn, got []byte) {
				if !bytes.Equal(got, body) {
					wrong.Add(1)
				}
				fmt.Fprint(c, okAnswer)
			})
		})
		plan := planOf(t, address)
		request := append(fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: test.invalid\r\nContent-Length: %d\r\n\r\n", size), body...)
		plan.Work = func(int, int) Work { return &spelled{request: request} }

		result := w.run(t, plan, 2, OpenOptions{Shape: Constant(20, 300*time.Millisecond)})

		require.EqualValues(t, 6, result.Succeeded(), "%v", result.Failures())
		require.Zero(t, wrong.Load())
	})
}

// spelled is work that sends one request again and again.
type spelled struct{ request []byte }

func (s *spelled) Next(call *Call) { call.Request = s.request }

func (*spelled) Judge(_ *Call, status int, body []byte) Failure {
	if status != 200 || string(body) != "ok" {
		return FailureAnswer
	}
	return ""
}

func TestAnAnswerThatDoesNotComeIsATimeoutAndItsConnectionIsReplaced(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		var connections atomic.Int64
		release := make(chan struct{})
		address := speak(t, func(c net.Conn) {
			first := connections.Add(1) == 1
			eachRequest(c, func(c net.Conn, _ []byte) {
				if first {
					<-release
				}
				fmt.Fprint(c, okAnswer)
			})
		})
		defer close(release)
		g := w.generator(t, planOf(t, address), 1)
		g.SetTimeout(400 * time.Millisecond)

		// The connections that wait for the first answer are set a deadline to the second, so the load lasts longer than that.
		result := runOf(t, g, OpenOptions{Shape: Constant(10, 2*time.Second)})

		op := result.Operations[0]
		require.EqualValues(t, 20, op.Sent+op.Skipped)
		require.Positive(t, op.Failures[FailureTimeout], "%v", op.Failures)
		require.Positive(t, op.Succeeded)
		require.GreaterOrEqual(t, connections.Load(), int64(2))
	})
}

func TestARefusedConnectionIsAFailureOfEachRequest(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	inEachWay(t, func(t *testing.T, w way) {
		result := w.run(t, planOf(t, address), 4, OpenOptions{Shape: Constant(200, 200*time.Millisecond)})

		require.EqualValues(t, 40, result.Failures()[FailureDial], "%v", result.Failures())
		require.Zero(t, result.Succeeded())
	})
}

func TestFailuresOfAnOpenLoadAreCountedByKind(t *testing.T) {
	say := func(text string) func(net.Conn, []byte) { return func(c net.Conn, _ []byte) { fmt.Fprint(c, text) } }
	for name, a := range map[string]struct {
		answer func(net.Conn, []byte)
		kind   Failure
	}{
		"status":         {say("HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"), "http 503"},
		"closed":         {func(c net.Conn, _ []byte) { c.Close() }, FailureClosed},
		"not understood": {say("HTTP/1.1 200 OK\r\n\r\n"), FailureMalformed},
		"too much":       {say(okAnswer + "more"), FailureMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			inEachWay(t, func(t *testing.T, w way) {
				address := speak(t, func(c net.Conn) { eachRequest(c, a.answer) })

				result := w.run(t, planOf(t, address), 2, OpenOptions{Shape: Constant(100, 100*time.Millisecond)})

				require.EqualValues(t, 10, result.Failures()[a.kind], "%v", result.Failures())
				require.Zero(t, result.Succeeded())
			})
		})
	}
}

func TestAnOpenLoadKeepsItsConnectionsFromRunToRun(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		var connections atomic.Int64
		address := serve(t, func(ctx *fasthttp.RequestCtx) {
			if ctx.ConnRequestNum() == 1 {
				connections.Add(1)
			}
		})
		g := w.generator(t, planOf(t, address), 4)

		for range 3 {
			require.Zero(t, runOf(t, g, OpenOptions{Shape: Constant(400, 100*time.Millisecond)}).Failed())
		}

		require.EqualValues(t, 4, connections.Load())
	})
}
