package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dialling is how many connections are made at a time before a run.
const dialling = 64

// noSocket is that of a line without a connection.
const noSocket = -1

// line is one connection of a loop.
type line struct {
	*worker // whose work and call are the line's in an open run
	socket  int
	exchange

	calling     bool
	ended       bool    // the node sends no more: what has come is the last
	arrival     arrival // of the call under way
	taken, sent time.Time
	done        time.Time
}

func (l *line) address() string { return l.generator.plan.Nodes[l.call.Node].Address }

func (l *line) drop() {
	if l.socket != noSocket {
		unix.Close(l.socket)
		l.socket = noSocket
	}
	l.ended = false
}

// openLines makes the connections that aren't there.
func (g *Generator) openLines(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if g.lines == nil {
		g.lines = make([]line, len(g.workers))
		for i := range g.lines {
			g.lines[i] = line{worker: &g.workers[i], socket: noSocket, exchange: newExchange()}
		}
	}
	var making sync.WaitGroup
	turns := make(chan struct{}, dialling)
	for i := range g.lines {
		l := &g.lines[i]
		if l.calling { // a run broke off: an answer may still come
			l.calling = false
			l.drop()
		}
		if l.socket != noSocket {
			continue
		}
		turns <- struct{}{}
		making.Go(func() {
			defer func() { <-turns }()
			if socket, err := connect(ctx, l.address()); err == nil {
				l.socket = socket
			}
		})
	}
	making.Wait()
}

// connect opens a socket that the runtime doesn't wait for.
func connect(ctx context.Context, address string) (socket int, err error) {
	tcp, err := dialTCP(ctx, address)
	if err != nil {
		return noSocket, err
	}
	defer tcp.Close() // ends the runtime's interest in it; the connection lives on in the copy
	raw, err := tcp.SyscallConn()
	if err != nil {
		return noSocket, fmt.Errorf("reaching the socket of %s: %w", address, err)
	}
	var copying error
	err = raw.Control(func(fd uintptr) { socket, copying = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, copying); err != nil {
		return noSocket, fmt.Errorf("copying the socket of %s: %w", address, err)
	}
	return socket, nil
}

// made is a connection, or why there is none.
type made struct {
	line   *line
	socket int
	err    error
}

// dial makes the connection that a call waits for, beside the loop.
func (l *loop) dial(ctx context.Context, at *line) {
	l.dials.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, l.generator.timeout)
		defer cancel()
		socket, err := connect(ctx, at.address())
		l.made <- made{at, socket, err} // there is room for each line's
		_, _ = unix.Write(l.wake, oneMore)
	})
}

// oneMore is what adds one to an event's count, of which there is room for 2^64-2.
var oneMore = binary.NativeEndian.AppendUint64(nil, 1)

// connected goes on with the calls whose connections were made.
func (l *loop) connected(ctx context.Context) {
	for range len(l.made) { // those that come meanwhile have an event of their own
		m := <-l.made
		m.line.socket, m.line.err = m.socket, m.err
		if m.err == nil {
			m.line.err = l.listen(m.line)
		}
		if m.line.err != nil {
			l.end(ctx, m.line)
			continue
		}
		l.write(ctx, m.line)
	}
}
