package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// maxRequestBytes bounds a request to what an idle socket's send buffer takes in one write: the request is
// written where it can't wait for room.
const maxRequestBytes = 8 << 10

// errShortWrite means that the kernel took only part of a request.
var errShortWrite = errors.New("socket took only part of the request")

// dialTimeout bounds one connect.
const dialTimeout = 5 * time.Second

// conn is one keep-alive connection that has at most one request under way.
//
// An exchange costs two system calls: net.Conn would first read, find nothing, wait, and read again. The
// request is written from inside the wait for readability, which is safe because the runtime arms the wait
// before it calls back, and the answer can't come before the request has left: no wake-up is lost.
type conn struct {
	tcp    *net.TCPConn
	raw    syscall.RawConn
	onTurn func(fd uintptr) bool // the method value, made once: a closure per exchange would allocate

	request []byte // nil once written
	buf     []byte
	filled  int
	answer  response
	parsed  bool
	err     error
}

// dial opens a connection to host:port.
func dial(ctx context.Context, address string) (*conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	tcp := c.(*net.TCPConn) // what the network "tcp" gives
	raw, err := tcp.SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("reaching the socket of %s: %w", address, err)
	}
	opened := &conn{tcp: tcp, raw: raw, buf: make([]byte, maxResponseBytes)}
	opened.onTurn = opened.turn
	return opened, nil
}

// exchange sends one request and waits for its whole answer. The body is valid until the next exchange. After
// an error the connection is of no more use.
func (c *conn) exchange(request []byte) (status int, body []byte, err error) {
	c.request, c.filled, c.parsed, c.err = request, 0, false, nil
	if err := c.raw.Read(c.onTurn); err != nil {
		return 0, nil, err
	}
	if c.err != nil {
		return 0, nil, c.err
	}
	return c.answer.status, c.buf[c.answer.head:c.answer.size], nil
}

// turn is called with the socket until it returns true; after each false the runtime waits for readability.
func (c *conn) turn(fd uintptr) bool {
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
		c.filled += n
		if !c.parsed {
			c.answer, c.parsed, c.err = parseHead(c.buf[:c.filled])
			if c.err != nil {
				return true
			}
		}
		if c.parsed && c.filled >= c.answer.size {
			if c.filled > c.answer.size {
				c.err = errResponse // nobody asked for more
			}
			return true
		}
	}
}

// ignoringEINTR repeats a system call that a signal interrupted, as the standard library does.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// until makes every exchange fail once the deadline has passed.
func (c *conn) until(deadline time.Time) error { return c.tcp.SetDeadline(deadline) }

func (c *conn) close() { c.tcp.Close() }
