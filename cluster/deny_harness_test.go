package cluster

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// ear records what a node's OnDeny was called with.
type ear struct {
	mu    sync.Mutex
	times map[string]int       // by origin and payload
	first map[string]time.Time // by payload
}

func newEar() *ear { return &ear{times: map[string]int{}, first: map[string]time.Time{}} }

func (e *ear) hear(origin string, payload []byte) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.times[origin+" says "+string(payload)]++
	if _, ok := e.first[string(payload)]; !ok {
		e.first[string(payload)] = now
	}
}

func (e *ear) heard(origin, payload string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.times[origin+" says "+payload]
}

func (e *ear) len() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.times)
}

func (e *ear) when(payload string) (time.Time, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.first[payload]
	return at, ok
}

// denyNode is a node that gossips with a table of members that the test writes. It is in nobody's log.
type denyNode struct {
	*Node
	table *table
	ear   *ear
	proxy *proxy // nil: others reach it directly
}

func (n *denyNode) member() Member { return n.self }

// newDenyNode makes a node that hasn't started and knows nobody.
func newDenyNode(tb testing.TB, id string, gossipKey []byte, change ...func(*Options)) *denyNode {
	tb.Helper()
	key, err := NewNodeKey()
	require.NoError(tb, err)
	n := &denyNode{table: newTable(), ear: newEar()}
	o := Options{
		NodeID: id, InMemory: true, ClusterBind: "127.0.0.1:0", GossipBind: "127.0.0.1:0", Key: key,
		FSM: n.table, Directory: n.table, Applied: n.table, GossipKeys: [][]byte{gossipKey}, OnDeny: n.ear.hear,
		Tuning: testTuning(), Logger: testLogger().With("node", id), Registerer: prometheus.NewPedanticRegistry(),
	}
	// These nodes are no servers of a log, so none of them need look for a leader.
	o.Tuning.HeartbeatTimeout, o.Tuning.ElectionTimeout = time.Hour, time.Hour
	for _, f := range change {
		f(&o)
	}
	n.Node, err = New(o)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(tb, n.Stop(ctx))
	})
	return n
}

// newProxiedDenyNode is one that others reach through a proxy only.
func newProxiedDenyNode(tb testing.TB, id string, gossipKey []byte, change ...func(*Options)) *denyNode {
	tb.Helper()
	p := newProxy(tb)
	n := newDenyNode(tb, id, gossipKey, append(change, func(o *Options) { o.GossipAdvertise = p.addr() })...)
	n.proxy = p
	p.serve(net.JoinHostPort("127.0.0.1", strconv.Itoa(n.socket())))
	return n
}

// socket is the port that its datagrams come from.
func (n *denyNode) socket() int { return n.gossip.transport.GetAutoBindPort() }

// calmTuning is that of an operator: probes of a second.
func calmTuning(o *Options) {
	o.Tuning.GossipProbe, o.Tuning.GossipRejoin = time.Second, 15*time.Second
}

// paddedDeny is a payload of the usual full size with a name.
func paddedDeny(name string) []byte {
	payload := make([]byte, MaxDenyPayload)
	copy(payload, name)
	return payload
}

func gossipKeyFor(tb testing.TB) []byte {
	tb.Helper()
	key, err := newGossipKey()
	require.NoError(tb, err)
	return key
}

// fiveDenyNodes are not started.
func fiveDenyNodes(tb testing.TB, change ...func(*Options)) []*denyNode {
	tb.Helper()
	key := gossipKeyFor(tb)
	var nodes []*denyNode
	for i := range 5 {
		nodes = append(nodes, newDenyNode(tb, fmt.Sprintf("n%d", i+1), key, change...))
	}
	return nodes
}

// introduce writes all nodes into each other's tables.
func introduce(nodes ...*denyNode) {
	for _, n := range nodes {
		for _, m := range nodes {
			n.admit(m.member())
		}
	}
}

func (n *denyNode) admit(m Member) {
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	n.table.state.Members[m.ID] = m
}

func (n *denyNode) expel(id string) {
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	delete(n.table.state.Members, id)
}

// run introduces the nodes, starts them and waits until memberlist knows them all.
func run(tb testing.TB, nodes ...*denyNode) {
	tb.Helper()
	introduce(nodes...)
	for _, n := range nodes {
		require.NoError(tb, n.Start(tb.Context()))
	}
	for _, n := range nodes {
		require.Eventually(tb, func() bool { return len(n.gossip.alive()) == len(nodes) }, patience, 5*time.Millisecond)
	}
}

// events is how often something happened to deny messages at a node.
func (n *denyNode) events(tb testing.TB, event string) int {
	tb.Helper()
	return counterValue(tb, n.metrics.denies.WithLabelValues(event))
}

func (n *denyNode) overflowed(tb testing.TB, queue string) int {
	tb.Helper()
	return counterValue(tb, n.metrics.denyOverflow.WithLabelValues(queue))
}

func counterValue(tb testing.TB, c prometheus.Counter) int {
	tb.Helper()
	var m dto.Metric
	require.NoError(tb, c.Write(&m))
	return int(m.GetCounter().GetValue())
}

func (m *denyMemory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.younger, m.older = map[denyHash]struct{}{}, nil
}

// proxy stands before a node's gossip port: datagrams pass its filter, connections pass.
type proxy struct {
	udp    *net.UDPConn
	tcp    net.Listener
	target string

	mu     sync.Mutex
	filter func(from *net.UDPAddr) bool
	open   map[net.Conn]struct{}
	ended  bool
	wg     sync.WaitGroup
}

func newProxy(tb testing.TB) *proxy {
	tb.Helper()
	p := &proxy{open: map[net.Conn]struct{}{}}
	for range 10 { // the UDP twin of a free TCP port may be taken
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(tb, err)
		port := tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			require.NoError(tb, tcp.Close())
			continue
		}
		p.tcp, p.udp = tcp, udp
		break
	}
	require.NotNil(tb, p.udp, "no port is free for both TCP and UDP")
	require.NoError(tb, p.udp.SetReadBuffer(2<<20))
	tb.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.tcp.Addr().String() }

// drop sets which datagrams are lost, by where they come from.
func (p *proxy) drop(filter func(from *net.UDPAddr) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filter = filter
}

// lose has a proxy lose so many datagrams of 100, whosever they are.
func (p *proxy) lose(percent int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	p.drop(func(*net.UDPAddr) bool { return random.IntN(100) < percent })
}

func (p *proxy) serve(target string) {
	p.target = target
	p.wg.Go(p.serveUDP)
	p.wg.Go(p.serveTCP)
}

func (p *proxy) serveUDP() {
	to, err := net.ResolveUDPAddr("udp", p.target)
	if err != nil {
		panic(err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.udp.ReadFromUDP(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		lost := p.filter != nil && p.filter(from)
		p.mu.Unlock()
		if !lost {
			_, _ = p.udp.WriteToUDP(buf[:n], to)
		}
	}
}

func (p *proxy) serveTCP() {
	for {
		in, err := p.tcp.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		if !p.track(in, out) {
			return
		}
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			p.wg.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_, _ = pair[0].Close(), pair[1].Close()
			})
		}
	}
}

func (p *proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.ended {
			_ = c.Close()
		}
		p.open[c] = struct{}{}
	}
	return !p.ended
}

func (p *proxy) close() {
	_, _ = p.udp.Close(), p.tcp.Close()
	p.mu.Lock()
	p.ended = true
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// percentile of durations, which it sorts.
func percentile(times []time.Duration, percent int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(len(times)*percent/100, len(times)-1)]
}
