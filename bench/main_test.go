package bench

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/server"
)

// TestMain lets the test binary stand in for the deputy binary where a run starts processes of its own.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "bench" && os.Args[1] != "server" {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[2] {
	case "--config":
		err = serverProcess(os.Args[3])
	case "ceiling-server":
		err = ceilingProcess(os.Args[3:])
	case "self-server":
		err = ServeSelf(context.Background(), os.Stdin, os.Stdout)
	case "node-server":
		err = ServeNode(context.Background(), os.Stdin, os.Stdout)
	case "raft-server":
		err = ServeRaft(context.Background(), os.Stdin, os.Stdout)
	default:
		err = fmt.Errorf("unknown command %s", os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serverProcess is deputy server --config.
func serverProcess(file string) error {
	config, err := server.LoadConfig(file)
	if err != nil {
		return err
	}
	node, err := server.New(server.Options{Config: config, Logger: config.Logger(os.Stderr)})
	if err != nil {
		return err
	}
	if err := node.Start(context.Background()); err != nil {
		return err
	}
	return node.Wait(context.Background()) // until it is killed
}

// ceilingProcess reads the flags that startCeilings writes.
func ceilingProcess(args []string) error {
	var o CeilingOptions
	for pair := range slices.Chunk(args, 2) {
		if len(pair) < 2 {
			return fmt.Errorf("flag %s lacks its value", pair[0])
		}
		var err error
		switch pair[0] {
		case "--kind":
			o.Kinds = append(o.Kinds, Ceiling(pair[1]))
		case "--body-bytes":
			o.BodyBytes, err = strconv.Atoi(pair[1])
		case "--token-bytes":
			o.TokenBytes, err = strconv.Atoi(pair[1])
		case "--verify-key":
			o.VerifyKey = pair[1]
		default:
			err = fmt.Errorf("unknown flag %s", pair[0])
		}
		if err != nil {
			return err
		}
	}
	return ServeCeilings(context.Background(), o, os.Stdin, os.Stdout)
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
