package testcluster

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ports below those that kernels give to outgoing connections: a node that is down for a moment must find its
// ports free again.
const (
	lowestPort = 20_000
	portRange  = 10_000
	// portsEach is what one process hands out before it comes to those of the next one.
	portsEach = 500
)

// handedOut counts the ports of this process, of which none is handed out twice: the node whose port it was may only
// be down for a moment. Processes that run at the same time begin at places of their own.
var handedOut atomic.Int64

func nextPort() int {
	return lowestPort + (os.Getpid()*portsEach+int(handedOut.Add(1)))%portRange
}

// Addresses returns n free addresses on loopback, each free for TCP and UDP.
func Addresses(t testing.TB, n int) []string {
	t.Helper()
	var free []string
	var held []interface{ Close() error }
	defer func() {
		for _, h := range held {
			_ = h.Close()
		}
	}()
	for range 1000 {
		if len(free) == n {
			return free
		}
		address := fmt.Sprintf("127.0.0.1:%d", nextPort())
		stream, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		held = append(held, stream)
		packets, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		held = append(held, packets)
		free = append(free, address)
	}
	require.FailNow(t, "no free ports on loopback")
	return nil
}
