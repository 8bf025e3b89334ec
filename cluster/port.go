package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// port is the one TCP port. It proves keys, checks them against the roster, and hands each connection to the
// protocol that ALPN names. Strangers cost one handshake, bounded in number and time.
type port struct {
	listener    net.Listener
	certificate tls.Certificate
	server      *tls.Config
	roster      *roster
	conns       *conns
	logger      *slog.Logger
	metrics     *metrics

	patience   time.Duration // for a handshake
	handshakes chan struct{}
	mu         sync.Mutex
	perIP      map[string]int

	raft chan net.Conn // to raft's transport
	rpc  func(ctx context.Context, conn *peerConn)
	join func(ctx context.Context, conn *peerConn)
}

func newPort(listener net.Listener, certificate tls.Certificate, r *roster, logger *slog.Logger, m *metrics) *port {
	p := &port{
		listener: listener, certificate: certificate, roster: r, conns: newConns(r), logger: logger, metrics: m,
		patience:   handshakeTimeout,
		handshakes: make(chan struct{}, MaxHandshakes),
		perIP:      make(map[string]int),
		raft:       make(chan net.Conn),
	}
	p.server = serverTLS(certificate, p.admit)
	return p
}

// admit decides during the handshake.
func (p *port) admit(protocol string, key ed25519.PublicKey) error {
	switch protocol {
	case protocolRaft, protocolRPC:
		if _, ok := p.roster.memberByKey(key); !ok {
			return errNotMember
		}
		return nil
	case protocolJoin:
		return nil // possession of the key is all that is asked; the join handler asks for a secret
	default:
		return errors.New("the peer names no protocol of this port")
	}
}

// run accepts until the listener is closed, then waits for the connections' goroutines. The owner closes the
// connections themselves.
func (p *port) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	pause := time.Duration(0)
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of file descriptors, most likely: wait rather than spin.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.logger.Warn("accepting a cluster connection", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		release := p.reserve(ctx, conn)
		if release == nil {
			p.metrics.rejected.WithLabelValues(rejectedBusy).Inc()
			_ = conn.Close()
			continue
		}
		wg.Go(func() { p.serve(ctx, conn, release) })
	}
}

// reserve takes a place for a handshake. Waiting for one holds up the accept loop, which is meant: the kernel
// queues what it can, and every place is free again within handshakeTimeout.
func (p *port) reserve(ctx context.Context, conn net.Conn) (release func()) {
	ip := remoteIP(conn)
	p.mu.Lock()
	if p.perIP[ip] >= MaxHandshakesIP {
		p.mu.Unlock()
		return nil
	}
	p.perIP[ip]++
	p.mu.Unlock()
	leave := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.perIP[ip]--; p.perIP[ip] == 0 {
			delete(p.perIP, ip)
		}
	}
	select {
	case p.handshakes <- struct{}{}:
		return func() { <-p.handshakes; leave() }
	case <-ctx.Done():
		leave()
		return nil
	}
}

func remoteIP(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return host
}

func (p *port) serve(ctx context.Context, raw net.Conn, release func()) {
	conn, protocol := p.handshake(ctx, raw)
	release()
	if conn == nil {
		return
	}
	switch protocol {
	case protocolRaft:
		timer := time.NewTimer(handshakeTimeout)
		defer timer.Stop()
		select {
		case p.raft <- conn: // raft's goroutine owns it now
		case <-ctx.Done():
			_ = conn.Close()
		case <-timer.C: // raft is not there to take it
			_ = conn.Close()
		}
	case protocolRPC:
		defer conn.Close() //nolint:errcheck // nothing is lost with it
		p.rpc(ctx, conn)
	case protocolJoin:
		defer conn.Close() //nolint:errcheck // nothing is lost with it
		p.join(ctx, conn)
	}
}

func (p *port) handshake(ctx context.Context, raw net.Conn) (*peerConn, string) {
	tune(raw)
	conn := tls.Server(raw, p.server)
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		reason := rejectedHandshake
		if errors.Is(err, errNotMember) {
			reason = rejectedStranger
		}
		p.metrics.rejected.WithLabelValues(reason).Inc()
		p.logger.Debug("refused a cluster connection", "from", raw.RemoteAddr().String(), "error", err)
		return nil, ""
	}
	state := conn.ConnectionState()
	key, err := peerKey(&state)
	if err != nil {
		_ = raw.Close()
		return nil, ""
	}
	peer := p.conns.add(&peerConn{Conn: conn, key: key, inbound: true, checked: state.NegotiatedProtocol != protocolJoin})
	if peer == nil {
		p.metrics.rejected.WithLabelValues(rejectedBusy).Inc()
		return nil, ""
	}
	return peer, state.NegotiatedProtocol
}

// dial connects to a member and makes sure that it is that member who answers.
func (p *port) dial(ctx context.Context, id, protocol string) (*peerConn, error) {
	m, ok := p.roster.member(id)
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownMember, id)
	}
	conn, err := dialTLS(ctx, m.ClusterAddr, clientTLS(p.certificate, protocol, m.Key))
	if err != nil {
		return nil, fmt.Errorf("%w: %s at %s: %w", ErrUnreachable, id, m.ClusterAddr, err)
	}
	peer := p.conns.add(&peerConn{Conn: conn, key: m.Key, dialled: m.ClusterAddr, checked: true})
	if peer == nil {
		return nil, ErrStopped
	}
	return peer, nil
}

func dialTLS(ctx context.Context, addr string, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tune(raw)
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// tune makes a dead peer show within seconds rather than the kernel's quarter of an hour.
func tune(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3})
	setUserTimeout(tcp, 10*time.Second)
}
