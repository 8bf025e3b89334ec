package bench

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/internal/testbinary"
)

// workshop makes the binary that runs start their processes with.
var workshop testbinary.Workshop

func TestMain(m *testing.M) { os.Exit(workshop.Run(m.Run)) }

func deputy(t *testing.T) string {
	t.Helper()
	path, err := workshop.Binary()
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
