package sim

import (
	"context"
	"errors"
	"sync"
	"time"
)

// What may become of a message. Nobody who gets one of these knows whether the other end has acted.
var (
	errBroken  = errors.New("the connection broke")
	errRefused = errors.New("nobody listens there")
	errClosed  = errors.New("this process has ended")
	errSilence = errors.New("no answer came in time")
)

// network carries messages between nodes. Each takes a time of its own, so that they overtake each other; each
// direction between two nodes can be cut by itself, and a node can be held, which is what a stopped process
// looks like from outside: what it says and what it is told waits.
type network struct {
	random *source
	done   chan struct{}

	mu      sync.Mutex
	ports   map[string]*port
	weather weather
	links   map[route]weather // where it differs
	cuts    map[route]int     // faults that cut this direction
	held    map[string]*hold
}

type route struct{ from, to string }

// weather is how messages fare.
type weather struct {
	loss, duplicate float64
	least, most     time.Duration
	raft            *weather // of raft's own connections; nil: the same
}

// fair is the weather of a network without faults.
func fair() weather { return weather{least: 200 * time.Microsecond, most: 3 * time.Millisecond} }

type hold struct {
	faults int
	over   chan struct{}
}

func newNetwork(random *source) *network {
	return &network{
		random: random, done: make(chan struct{}), weather: fair(),
		ports: make(map[string]*port), links: make(map[route]weather), cuts: make(map[route]int), held: make(map[string]*hold),
	}
}

// close ends the waiting of all messages.
func (n *network) close() { close(n.done) }

func (n *network) cut(routes ...route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range routes {
		n.cuts[r]++
	}
}

func (n *network) mend(routes ...route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range routes {
		if n.cuts[r]--; n.cuts[r] == 0 {
			delete(n.cuts, r)
		}
	}
}

func (n *network) spoil(w weather, routes ...route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range routes {
		n.links[r] = w
	}
}

func (n *network) clear(routes ...route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range routes {
		delete(n.links, r)
	}
}

// hold stops a node as far as others can see.
func (n *network) hold(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.held[id]
	if h == nil {
		h = &hold{over: make(chan struct{})}
		n.held[id] = h
	}
	h.faults++
}

func (n *network) release(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.held[id]
	if h.faults--; h.faults == 0 {
		delete(n.held, id)
		close(h.over)
	}
}

// awake waits until a node is not held, and reports whether there still is a network.
func (n *network) awake(id string) bool {
	for {
		n.mu.Lock()
		h := n.held[id]
		n.mu.Unlock()
		if h == nil {
			return true
		}
		select {
		case <-h.over:
		case <-n.done:
			return false
		}
	}
}

// faring is how a message fares in one direction. The caller holds mu.
func (n *network) faring(r route, request any) weather {
	w, special := n.links[r]
	if !special {
		return n.weather
	}
	if _, rafts := request.(raftCall); rafts && w.raft != nil {
		return *w.raft
	}
	return w
}

// travel takes a request, or the answer to it, in one direction and reports whether it arrived. A direction that is
// cut while the message is under way swallows it.
func (n *network) travel(from, to string, request any) bool {
	if !n.awake(from) {
		return false
	}
	r := route{from, to}
	n.mu.Lock()
	w, cut := n.faring(r, request), n.cuts[r] > 0
	n.mu.Unlock()
	if cut || n.random.chance(w.loss) {
		return false
	}
	time.Sleep(n.random.between(w.least, w.most))
	if !n.awake(to) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[r] == 0
}

func (n *network) repeats(from, to string, request any) bool {
	n.mu.Lock()
	w := n.faring(route{from, to}, request)
	n.mu.Unlock()
	return n.random.chance(w.duplicate)
}

func (n *network) at(id string) *port {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[id]
}

// port is one process's place on the network. A restarted node has another one, and what was meant for the
// process before never reaches it.
type port struct {
	net    *network
	id     string
	serve  func(ctx context.Context, from string, request any) (any, error)
	ctx    context.Context // ends with the process
	cancel context.CancelFunc
}

func (n *network) open(id string, serve func(ctx context.Context, from string, request any) (any, error)) *port {
	p := &port{net: n, id: id, serve: serve}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[id] = p
	return p
}

// close takes the process off the network.
func (p *port) close() {
	p.cancel()
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.ports[p.id] == p {
		delete(p.net.ports, p.id)
	}
}

type reply struct {
	value any
	err   error
}

// call asks another node, or this one without any network.
func (p *port) call(ctx context.Context, to string, request any) (any, error) {
	if to == p.id {
		return p.serve(ctx, p.id, request)
	}
	answer := make(chan reply, 1)
	go p.carry(to, request, answer)
	select {
	case r := <-answer:
		return r.value, r.err
	case <-ctx.Done():
		return nil, errSilence
	case <-p.ctx.Done():
		return nil, errClosed
	}
}

// carry takes a request there and the answer back. A message that is lost may break the connection, which the
// caller notices, or may not.
func (p *port) carry(to string, request any, answer chan<- reply) {
	n := p.net
	if !n.travel(p.id, to, request) {
		p.mayBreak(answer)
		return
	}
	other := n.at(to)
	if other == nil {
		answer <- reply{err: errRefused}
		return
	}
	if n.repeats(p.id, to, request) {
		go func() {
			time.Sleep(n.random.between(0, 300*time.Millisecond))
			if other.ctx.Err() == nil {
				_, _ = other.serve(other.ctx, p.id, request)
			}
		}()
	}
	value, err := other.serve(other.ctx, p.id, request)
	if other.ctx.Err() != nil || !n.travel(to, p.id, request) {
		p.mayBreak(answer)
		return
	}
	answer <- reply{value, err}
}

func (p *port) mayBreak(answer chan<- reply) {
	if p.net.random.chance(0.5) {
		time.Sleep(p.net.random.between(5*time.Millisecond, 200*time.Millisecond))
		answer <- reply{err: errBroken}
	}
}
