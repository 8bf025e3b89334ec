package cluster

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stream is raft's view of the port. Its addresses are members' ids, not host:port: the table knows where a
// member is now and which key it must have, while raft's own configuration may be as old as the log.
type stream struct {
	port   *port
	local  net.Addr
	closed chan struct{}
	close  sync.Once
}

var (
	_ raft.StreamLayer           = (*stream)(nil)
	_ raft.ServerAddressProvider = byID{}
)

func newStream(p *port, self string) *stream {
	return &stream{port: p, local: memberAddr(self), closed: make(chan struct{})}
}

func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.port.raft:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *stream) Close() error {
	s.close.Do(func() { close(s.closed) })
	return nil
}

func (s *stream) Addr() net.Addr { return s.local }

func (s *stream) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.port.dial(ctx, string(id), protocolRaft)
}

// memberAddr is a member's id where a net.Addr is wanted.
type memberAddr string

func (memberAddr) Network() string  { return "deputy" }
func (a memberAddr) String() string { return string(a) }

// byID has raft's transport dial ids.
type byID struct{}

func (byID) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}
