package bench

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/internal/testbinary"
)

// workshop is where the binary is built, for all tests of this run.
var workshop string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "deputy-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	workshop = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// built is the deputy binary that runs start their processes with. It is built without the race detector, whatever the
// tests are: a run loads it, and each package that it is made of has tests of its own.
var built = sync.OnceValues(func() (string, error) { return testbinary.In(workshop) })

func deputy(t *testing.T) string {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	return path
}

func get(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: test.invalid\r\n\r\n", path)
}

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
