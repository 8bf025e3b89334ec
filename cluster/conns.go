package cluster

import (
	"crypto/ed25519"
	"crypto/tls"
	"net"
	"sync"
)

// peerConn is a connection whose other end has proved its key. Every read checks that the key still belongs to
// a member, so that nothing a removed member says is heard once the removal is applied here.
type peerConn struct {
	*tls.Conn
	key      ed25519.PublicKey
	conns    *conns
	inbound  bool
	dialled  string // the address of an outbound one
	checked  bool   // false for joins
	closing  sync.Once
	closeErr error
}

func (c *peerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.checked {
		if _, ok := c.conns.roster.memberByKey(c.key); !ok {
			_ = c.Close()
			return 0, errNotMember
		}
	}
	return n, err
}

func (c *peerConn) Close() error {
	c.closing.Do(func() {
		c.conns.forget(c)
		// Not tls.Conn.Close: its farewell waits for up to five seconds on a peer that doesn't read.
		c.closeErr = c.NetConn().Close()
	})
	return c.closeErr
}

// conns knows every open connection, in both directions, to close those whose member was removed, and all of
// them at the end.
type conns struct {
	roster *roster

	mu     sync.Mutex
	open   map[*peerConn]struct{}
	counts map[string]int // inbound, by key
	joins  int            // connections of strangers, each of whom may have any number of keys
	closed bool
}

func newConns(r *roster) *conns {
	return &conns{roster: r, open: make(map[*peerConn]struct{}), counts: make(map[string]int)}
}

// add registers a connection, or closes it and returns nil where there are too many or the node is stopping.
func (c *conns) add(p *peerConn) *peerConn {
	p.conns = c
	c.mu.Lock()
	defer c.mu.Unlock()
	full := (p.inbound && c.counts[string(p.key)] >= MaxConnsPerPeer) || (!p.checked && c.joins >= MaxJoinConns)
	if c.closed || full {
		_ = p.NetConn().Close()
		return nil
	}
	c.open[p] = struct{}{}
	if p.inbound {
		c.counts[string(p.key)]++
	}
	if !p.checked {
		c.joins++
	}
	return p
}

func (c *conns) forget(p *peerConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[p]; !ok {
		return
	}
	delete(c.open, p)
	if !p.checked {
		c.joins--
	}
	if !p.inbound {
		return
	}
	if c.counts[string(p.key)]--; c.counts[string(p.key)] == 0 {
		delete(c.counts, string(p.key))
	}
}

// sweep closes connections whose other end is no member any more or has moved to another address, and returns
// their number. Reads check for themselves; this is for connections on which nobody says anything.
func (c *conns) sweep() int {
	closed := 0
	for _, p := range c.list() {
		if !p.checked {
			continue
		}
		if m, ok := c.roster.memberByKey(p.key); !ok || (!p.inbound && p.dialled != m.ClusterAddr) {
			_ = p.Close()
			closed++
		}
	}
	return closed
}

func (c *conns) list() []*peerConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*peerConn, 0, len(c.open))
	for p := range c.open {
		list = append(list, p)
	}
	return list
}

func (c *conns) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

func (c *conns) closeAll() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, p := range c.list() {
		_ = p.Close()
	}
}

var _ net.Conn = (*peerConn)(nil)
