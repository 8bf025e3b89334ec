package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// MaxRequestBytes bounds a request that is written where it can't wait for room: it is what an idle socket's send buffer
// takes in one write. Larger ones cost more system calls.
const MaxRequestBytes = 8 << 10

// errShortWrite means that the kernel took only part of a request.
var errShortWrite = errors.New("socket took only part of the request")

// errHandshake means that TLS could not be agreed on.
var errHandshake = errors.New("TLS handshake")

// dialTimeout bounds one connect.
const dialTimeout = 5 * time.Second

// Conn is one keep-alive connection that has at most one request under way.
//
// An exchange costs two system calls: net.Conn would first read, find nothing, wait, and read again. The
// request is written from inside the wait for readability, which is safe because the runtime arms the wait
// before it calls back, and the answer can't come before the request has left: no wake-up is lost. TLS goes through
// the standard library, which makes more of them.
type Conn struct {
	tcp    *net.TCPConn
	raw    syscall.RawConn
	onTurn func(fd uintptr) bool // the method value, made once: a closure per exchange would allocate
	secure *tls.Conn             // nil: plain
	exchange
}

// Dial opens a connection to host:port, by TLS where a configuration is given.
func Dial(ctx context.Context, address string, secure *tls.Config) (*Conn, error) {
	tcp, err := dialTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	opened := &Conn{tcp: tcp, exchange: newExchange()}
	if secure != nil {
		if err := opened.secureBy(ctx, address, secure); err != nil {
			tcp.Close()
			return nil, err
		}
		return opened, nil
	}
	if opened.raw, err = tcp.SyscallConn(); err != nil {
		tcp.Close()
		return nil, fmt.Errorf("reaching the socket of %s: %w", address, err)
	}
	opened.onTurn = opened.turn
	return opened, nil
}

func dialTCP(ctx context.Context, address string) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	return c.(*net.TCPConn), nil // what the network "tcp" gives
}

func (c *Conn) secureBy(ctx context.Context, address string, config *tls.Config) error {
	if config.ServerName == "" && !config.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("connecting to %s: %w", address, err)
		}
		config = config.Clone()
		config.ServerName = host
	}
	c.secure = tls.Client(c.tcp, config)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := c.secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w with %s: %w", errHandshake, address, err)
	}
	return nil
}

// Exchange sends one request and waits for its whole answer. The body is valid until the next exchange. After
// an error the connection is of no more use.
func (c *Conn) Exchange(request []byte) (status int, body []byte, err error) {
	c.begin(request)
	if c.secure != nil {
		return c.exchangeSecurely()
	}
	if len(request) > MaxRequestBytes {
		if _, err := c.tcp.Write(request); err != nil {
			return 0, nil, err
		}
		c.request = nil
	}
	if err := c.raw.Read(c.onTurn); err != nil {
		return 0, nil, err
	}
	if c.err != nil {
		return 0, nil, c.err
	}
	return c.answer.status, c.body(), nil
}

// turn is called with the socket until it returns true; after each false the runtime waits for readability.
func (c *Conn) turn(fd uintptr) bool {
	if len(c.request) == 0 {
		return c.read(int(fd), syscall.Read)
	}
	c.write(int(fd), syscall.Write)
	if c.err == nil && len(c.request) > 0 {
		c.err = errShortWrite
	}
	return c.err != nil
}

func (c *Conn) exchangeSecurely() (status int, body []byte, err error) {
	if _, err := c.secure.Write(c.request); err != nil {
		return 0, nil, err
	}
	for {
		n, err := c.secure.Read(c.buf[c.filled:])
		if n > 0 && c.received(n) {
			if c.err != nil {
				return 0, nil, c.err
			}
			return c.answer.status, c.body(), nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

// ResponseBytes is how large the last answer was, with its head.
func (c *Conn) ResponseBytes() int { return c.answer.size }

// Until makes every exchange fail once the deadline has passed.
func (c *Conn) Until(deadline time.Time) error { return c.tcp.SetDeadline(deadline) }

// Close drops it.
func (c *Conn) Close() { c.tcp.Close() }
