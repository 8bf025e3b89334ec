package testcluster

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ports below those that kernels give to outgoing connections: a node that is down for a moment must find its
// ports free again.
const (
	lowestPort = 20_000
	ranges     = 24
	// rangeSize is how many ports a process has to itself before it takes another range. The first of them is listened at
	// for as long as the process lives, which tells the others that the range is taken.
	rangeSize = 500
	// ownRanges is how many a process has before it comes round to its first: tests that run again and again would have
	// them all in the end. It is several times what all that run at the same time hold.
	ownRanges = 4
)

// handedOut knows the ports of this process, of which none is soon handed out again: the node whose port it was may only
// be down for a moment.
var handedOut ports

type ports struct {
	mu        sync.Mutex
	own       []guarded
	turn      int // the next of own to use again
	next, end int
}

// guarded is a range of this process, and what tells the others.
type guarded struct {
	guard net.Listener
	first int
}

// take returns a port that no other process hands out.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.end {
		if err := p.claim(); err != nil {
			return 0, err
		}
	}
	p.next++
	return p.next - 1, nil
}

// claim takes a range that no process has, or one of its own again.
func (p *ports) claim() error {
	if len(p.own) == ownRanges {
		p.use(p.own[p.turn].first)
		p.turn = (p.turn + 1) % ownRanges
		return nil
	}
	for i := range ranges {
		first := lowestPort + (os.Getpid()+i)%ranges*rangeSize
		guard, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first))
		if err != nil {
			continue
		}
		p.own = append(p.own, guarded{guard, first})
		p.use(first)
		return nil
	}
	return fmt.Errorf("all %d ranges of ports from %d on are taken by other test processes", ranges, lowestPort)
}

func (p *ports) use(first int) { p.next, p.end = first+1, first+rangeSize }

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
		port, err := handedOut.take()
		require.NoError(t, err)
		address := fmt.Sprintf("127.0.0.1:%d", port)
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
