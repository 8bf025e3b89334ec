package testcluster

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/server"
)

// Link is the way by which the other nodes reach one node: a relay in front of its cluster port and of its gossip
// port, whose addresses are the ones that the node tells them. It needs no rights.
//
// A link that is cut is a one-way partition at the level of who dials whom: nothing moves on connections that were
// made to the node, in either direction, and no datagram reaches it. Bytes on connections are held and go on when
// the link is mended, as TCP does it; datagrams are gone. Connections that the node itself has made go on: who sent
// them can't be told apart on one machine. Without what is sent to it a follower applies nothing, so it falls behind
// and must fall silent; a leader whose link is cut goes on leading, and the others fall silent, who can't ask it.
type Link struct {
	cluster net.Listener
	streams net.Listener
	packets net.PacketConn

	clusterTo string // where the node really listens
	gossipTo  string

	open    gate
	losing  atomic.Int64 // so many of 100 datagrams
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// NewBehindLinks starts a cluster of n nodes as New does, each behind a link of its own.
func NewBehindLinks(t testing.TB, n int) *Cluster {
	t.Helper()
	return start(t, n, nil, func(config *server.Config) *Link {
		real := Addresses(t, 2)
		l := newLink(t, real[0], real[1])
		config.Cluster = server.AddressConfig{Listen: real[0], Advertise: l.cluster.Addr().String()}
		config.Gossip = server.AddressConfig{Listen: real[1], Advertise: l.streams.Addr().String()}
		return l
	})
}

// Cut stops whatever is sent to the node.
func (l *Link) Cut() { l.open.shut() }

// Mend ends a cut and a loss.
func (l *Link) Mend() {
	l.losing.Store(0)
	l.open.unshut()
}

// Lose drops so many of 100 datagrams.
func (l *Link) Lose(percent int) { l.losing.Store(int64(percent)) }

func newLink(t testing.TB, clusterTo, gossipTo string) *Link {
	t.Helper()
	l := &Link{clusterTo: clusterTo, gossipTo: gossipTo}
	l.open.unshut()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	var err error
	l.cluster, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.streams, err = net.Listen("tcp", Addresses(t, 1)[0])
	require.NoError(t, err)
	l.packets, err = net.ListenPacket("udp", l.streams.Addr().String())
	require.NoError(t, err)
	l.running.Go(func() { l.accept(l.cluster, l.clusterTo) })
	l.running.Go(func() { l.accept(l.streams, l.gossipTo) })
	l.running.Go(l.relayPackets)
	return l
}

// close takes the link down, for which it need not be open.
func (l *Link) close() {
	l.cancel()
	l.cluster.Close()
	l.streams.Close()
	l.packets.Close()
	l.running.Wait()
}

func (l *Link) accept(from net.Listener, to string) {
	for {
		in, err := from.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() { l.relay(in, to) })
	}
}

// relay joins a connection to the node until either end hangs up or the link is taken down.
func (l *Link) relay(in net.Conn, to string) {
	defer in.Close()
	if l.open.wait(l.ctx) != nil {
		return
	}
	out, err := (&net.Dialer{}).DialContext(l.ctx, "tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	done := context.AfterFunc(l.ctx, func() {
		in.Close()
		out.Close()
	})
	defer done()
	var both sync.WaitGroup
	both.Go(func() { l.copy(out, in) })
	both.Go(func() { l.copy(in, out) })
	both.Wait()
}

// copy moves bytes while the link is open, and hangs up on the reader when the writer did.
func (l *Link) copy(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if l.open.wait(l.ctx) != nil {
				break
			}
			if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
				break
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				break
			}
			if half, ok := to.(*net.TCPConn); ok && l.open.wait(l.ctx) == nil {
				_ = half.CloseWrite()
			}
			return
		}
	}
	to.Close()
	from.Close()
}

// relayPackets sends what arrives on to the node, and its answers back: one socket for each of the others.
func (l *Link) relayPackets() {
	back := map[string]net.Conn{}
	defer func() {
		for _, c := range back {
			c.Close()
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, sender, err := l.packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		if l.open.isShut() || rand.Int64N(100) < l.losing.Load() {
			continue
		}
		out, ok := back[sender.String()]
		if !ok {
			if out, err = net.Dial("udp", l.gossipTo); err != nil {
				continue
			}
			back[sender.String()] = out
			l.running.Go(func() { l.answer(out, sender) })
		}
		_, _ = out.Write(buffer[:n]) // a datagram may get lost
	}
}

func (l *Link) answer(from net.Conn, to net.Addr) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && !l.open.isShut() {
			_, _ = l.packets.WriteTo(buffer[:n], to)
		}
		if l.ctx.Err() != nil {
			return
		}
	}
}

// gate lets pass, or makes wait.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
		g.opened = make(chan struct{})
	default:
	}
}

func (g *gate) unshut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
		return false
	default:
		return true
	}
}
