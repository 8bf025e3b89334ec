package load

import (
	"errors"
	"io"
	"syscall"
)

// exchange is one request and its answer on a keep-alive connection, whoever waits for its socket.
type exchange struct {
	request []byte // what of it is not written yet
	buf     []byte
	filled  int
	answer  response
	parsed  bool
	err     error
}

func newExchange() exchange { return exchange{buf: make([]byte, MaxResponseBytes)} }

func (x *exchange) begin(request []byte) {
	x.request, x.filled, x.parsed, x.err = request, 0, false, nil
}

// copier is read(2) or write(2).
type copier func(socket int, p []byte) (int, error)

// write gives the socket what it takes of the request; the rest, if any, is left in x.request, and an error in x.err.
func (x *exchange) write(socket int, write copier) {
	n, err := ignoringEINTR(func() (int, error) { return write(socket, x.request) })
	switch {
	case errors.Is(err, syscall.EAGAIN):
	case err != nil:
		x.err = err
	default:
		x.request = x.request[n:]
	}
}

// read takes what the socket has, and reports whether the exchange is over: the answer is whole, or x.err says why not.
func (x *exchange) read(socket int, read copier) bool {
	for {
		n, err := ignoringEINTR(func() (int, error) { return read(socket, x.buf[x.filled:]) })
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			x.err = err
			return true
		}
		if x.received(n) {
			return true
		}
	}
}

// received takes note of so many more bytes and reports whether the answer is whole, or x.err.
func (x *exchange) received(n int) bool {
	x.filled += n
	if !x.parsed {
		x.answer, x.parsed, x.err = parseHead(x.buf[:x.filled])
		if x.err != nil {
			return true
		}
	}
	if !x.parsed || x.filled < x.answer.size {
		return false
	}
	if x.filled > x.answer.size {
		x.err = errResponse // nobody asked for more
	}
	return true
}

// body of a whole answer; valid until the next exchange begins.
func (x *exchange) body() []byte { return x.buf[x.answer.head:x.answer.size] }

// ignoringEINTR repeats a system call that a signal interrupted, as the standard library does.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}
