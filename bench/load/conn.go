package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

	request []byte // nil once written
	buf     []byte
	filled  int
	answer  response
	parsed  bool
	err     error
}

// Dial opens a connection to host:port, by TLS where a configuration is given.
func Dial(ctx context.Context, address string, secure *tls.Config) (*Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	tcp := c.(*net.TCPConn) // what the network "tcp" gives
	opened := &Conn{tcp: tcp, buf: make([]byte, MaxResponseBytes)}
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
	c.request, c.filled, c.parsed, c.err = request, 0, false, nil
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
	return c.answer.status, c.buf[c.answer.head:c.answer.size], nil
}

// turn is called with the socket until it returns true; after each false the runtime waits for readability.
func (c *Conn) turn(fd uintptr) bool {
	if c.request != nil {
		n, err := ignoringEINTR(func() (int, error) { return syscall.Write(int(fd), c.request) })
		switch {
		case err != nil:
			c.err = err
		case n < len(c.request):
			c.err = errShortWrite
		}
		c.request = nil
		return c.err != nil
	}
	for {
		n, err := ignoringEINTR(func() (int, error) { return syscall.Read(int(fd), c.buf[c.filled:]) })
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			c.err = err
			return true
		}
		if c.received(n) {
			return true
		}
	}
}

// received takes note of so many more bytes and reports whether the answer is whole, or c.err.
func (c *Conn) received(n int) bool {
	c.filled += n
	if !c.parsed {
		c.answer, c.parsed, c.err = parseHead(c.buf[:c.filled])
		if c.err != nil {
			return true
		}
	}
	if !c.parsed || c.filled < c.answer.size {
		return false
	}
	if c.filled > c.answer.size {
		c.err = errResponse // nobody asked for more
	}
	return true
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
			return c.answer.status, c.buf[c.answer.head:c.answer.size], nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

// ResponseBytes is how large the last answer was, with its head.
func (c *Conn) ResponseBytes() int { return c.answer.size }

// ignoringEINTR repeats a system call that a signal interrupted, as the standard library does.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// Until makes every exchange fail once the deadline has passed.
func (c *Conn) Until(deadline time.Time) error { return c.tcp.SetDeadline(deadline) }

// Close drops it.
func (c *Conn) Close() { c.tcp.Close() }
