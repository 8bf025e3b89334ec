package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// connsPerPeer keeps a large answer from holding up everything behind it.
const connsPerPeer = 2

// rpcClient calls other members. Every member has a few connections, each carrying many calls at a time, so
// that a broken connection is noticed when it breaks and not by the next call.
type rpcClient struct {
	port  *port
	mu    sync.Mutex
	peers map[string]*peerCalls
	wg    sync.WaitGroup
	ended bool
}

func newRPCClient(p *port) *rpcClient { return &rpcClient{port: p, peers: make(map[string]*peerCalls)} }

// peerCalls is what goes to one member.
type peerCalls struct {
	id     string
	client *rpcClient
	places chan struct{}

	mu      sync.Mutex
	conns   []*rpcConn
	dialing *dialAttempt
}

// dialAttempt is shared by all who wait for a connection.
type dialAttempt struct {
	done chan struct{}
	conn *rpcConn
	err  error
}

func (c *rpcClient) peer(id string) *peerCalls {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[id]
	if !ok {
		p = &peerCalls{id: id, client: c, places: make(chan struct{}, MaxCallsPerPeer)}
		c.peers[id] = p
	}
	return p
}

// call makes one call. Without a deadline in ctx it takes at most MaxRPCTime.
func (c *rpcClient) call(ctx context.Context, id, method string, body []byte) ([]byte, error) {
	if len(method) == 0 || len(method) > MaxMethodLength {
		return nil, fmt.Errorf("BUG: a method name of %d characters", len(method))
	}
	if len(body) > MaxBody {
		return nil, fmt.Errorf("%w: %d bytes for %s; at most %d are allowed", ErrTooLarge, len(body), method, MaxBody)
	}
	if _, ok := c.port.roster.member(id); !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownMember, id)
	}
	ctx, cancel := context.WithTimeout(ctx, MaxRPCTime)
	defer cancel()
	p := c.peer(id)
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		return nil, fmt.Errorf("%w to member %s", ErrOverloaded, id)
	}
	conn, err := p.connection(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := conn.call(ctx, method, body)
	if err != nil {
		return nil, fmt.Errorf("calling %s at member %s: %w", method, id, err)
	}
	if answer.status != statusOK {
		return nil, &RemoteError{Member: id, Method: method, Message: string(answer.body), cause: answer.status.err()}
	}
	return answer.body, nil
}

// connection returns the least busy connection, dialling where there is none, or where all are busy and there
// may be more.
func (p *peerCalls) connection(ctx context.Context) (*rpcConn, error) {
	p.mu.Lock()
	var best *rpcConn
	least := 0
	for _, c := range p.conns {
		if n := c.load(); best == nil || n < least {
			best, least = c, n
		}
	}
	if best != nil && (least == 0 || len(p.conns) >= connsPerPeer) {
		p.mu.Unlock()
		return best, nil
	}
	attempt := p.dialing
	if attempt == nil {
		attempt = &dialAttempt{done: make(chan struct{})}
		if !p.client.spawn(func() { p.dial(attempt) }) {
			p.mu.Unlock()
			return nil, ErrStopped
		}
		p.dialing = attempt
	}
	p.mu.Unlock()
	if best != nil {
		return best, nil // the new one is for the next call
	}
	select {
	case <-attempt.done:
		return attempt.conn, attempt.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: connecting to member %s: %w", ErrUnreachable, p.id, ctx.Err())
	}
}

// spawn runs f unless the client has ended.
func (c *rpcClient) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.wg.Go(f)
	return true
}

func (p *peerCalls) dial(attempt *dialAttempt) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := p.client.port.dial(ctx, p.id, protocolRPC)
	p.mu.Lock()
	p.dialing = nil
	if err != nil {
		attempt.err = err
	} else {
		attempt.conn = newRPCConn(conn)
		p.conns = append(p.conns, attempt.conn)
	}
	p.mu.Unlock()
	close(attempt.done)
	if err == nil {
		attempt.conn.read() // this goroutine becomes the reader
		p.drop(attempt.conn)
	}
}

func (p *peerCalls) drop(c *rpcConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, have := range p.conns {
		if have == c {
			p.conns = append(p.conns[:i], p.conns[i+1:]...)
			return
		}
	}
}

// tidy closes connections that nobody has used for a while, and forgets members that are none any more.
func (c *rpcClient) tidy(now time.Time) {
	c.mu.Lock()
	peers := slices.Collect(maps.Values(c.peers))
	c.mu.Unlock()
	for _, p := range peers { // without c.mu: a peer that dials holds its own lock and takes c.mu
		p.closeIdle(now)
		if _, ok := c.port.roster.member(p.id); !ok {
			c.mu.Lock()
			delete(c.peers, p.id) // what is still under way ends with its connection
			c.mu.Unlock()
		}
	}
}

func (p *peerCalls) closeIdle(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		if conn.load() == 0 && now.Sub(conn.idleSince()) > rpcIdleClient {
			_ = conn.conn.Close()
		}
	}
}

// end refuses new dials and waits for the readers, whose connections the owner has closed.
func (c *rpcClient) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.wg.Wait()
}

// rpcConn is one connection to another member, with the calls that wait for their answers on it.
type rpcConn struct {
	conn    *peerConn
	writing sync.Mutex

	mu      sync.Mutex
	waiting map[uint64]chan response
	last    uint64
	used    time.Time
	broken  error
}

func newRPCConn(conn *peerConn) *rpcConn {
	return &rpcConn{conn: conn, waiting: make(map[uint64]chan response), used: time.Now()}
}

func (c *rpcConn) load() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

func (c *rpcConn) idleSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

func (c *rpcConn) call(ctx context.Context, method string, body []byte) (response, error) {
	deadline, _ := ctx.Deadline() // always there: see rpcClient.call
	timeout := time.Until(deadline)
	if timeout <= 0 {
		return response{}, fmt.Errorf("%w before the call: %w", ErrTimeout, context.DeadlineExceeded)
	}
	answer := make(chan response, 1)
	c.mu.Lock()
	if c.broken != nil {
		err := c.broken
		c.mu.Unlock()
		return response{}, fmt.Errorf("%w: %w", ErrUnreachable, err) // nothing was sent
	}
	c.last++
	id := c.last
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
		c.used = time.Now()
	}()

	frame := appendRequest(make([]byte, 0, lengthSize+requestHeader+len(method)+len(body)), request{id, timeout, method, body})
	if err := c.write(frame); err != nil {
		return response{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return response{}, fmt.Errorf("%w: the connection broke: %w", ErrOutcomeUnknown, c.cause())
		}
		return r, nil
	case <-ctx.Done():
		return response{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

func (c *rpcConn) write(frame []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(dialTimeout))
	if _, err := c.conn.Write(frame); err != nil {
		_ = c.conn.Close() // half a request went out, so nothing after it could be understood
		return err
	}
	return nil
}

func (c *rpcConn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// read hands out answers until the connection breaks, then fails whatever still waits.
func (c *rpcConn) read() {
	defer c.conn.Close() //nolint:errcheck // nothing is lost with it
	reader := bufio.NewReaderSize(c.conn, 16<<10)
	for {
		frame, err := readFrame(reader, maxResponseSize)
		var r response
		if err == nil {
			r, err = parseResponse(frame)
		}
		c.mu.Lock()
		if err != nil {
			c.broken = errors.Join(errConnBroken, err)
			for _, waiting := range c.waiting {
				close(waiting)
			}
			clear(c.waiting)
			c.mu.Unlock()
			return
		}
		waiting, ok := c.waiting[r.id]
		delete(c.waiting, r.id)
		c.mu.Unlock()
		if ok { // else the caller has given up
			waiting <- r
		}
	}
}

var errConnBroken = errors.New("no more answers come")
