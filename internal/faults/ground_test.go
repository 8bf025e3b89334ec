package faults

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// ground is where the processes of a fleet stand.
type ground interface {
	// place gives a new node its addresses, and what has to be in front of its command line.
	place(t *testing.T, n *node)
}

// loopback is the ground that needs no rights.
type loopback struct{}

func (loopback) place(t *testing.T, n *node) {
	t.Helper()
	a := addresses(t, 4)
	n.public, n.cluster, n.gossip, n.ops = a[0], a[1], a[2], a[3]
}

// Ports below those that kernels give to outgoing connections: a node that is down for a moment must find its
// ports free again.
const (
	lowestPort = 20_000
	portRange  = 10_000
)

// addresses returns n free addresses on loopback, each free for TCP and UDP.
func addresses(t *testing.T, n int) []string {
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
		address := fmt.Sprintf("127.0.0.1:%d", lowestPort+rand.IntN(portRange))
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
