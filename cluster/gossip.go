package cluster

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	rejoinAtOnce  = 8               // members contacted in one round; each may take the TCP timeout
	gossipTimeout = 2 * time.Second // also what Stop may have to wait
)

// gossip knows who is alive. Memberlist finds a dead node within seconds without asking the leader, and costs
// every node the same however many there are. Nothing is decided by it that must be right: it may take a
// live node for dead, and the other way round.
//
// What passes through it is encrypted with a key that all members share, so whoever holds the key can forge
// anything: a name that is not in the roster is refused, and that is all it is trusted with. What denials send
// through it bears a signature of its own.
type gossip struct {
	self      string
	roster    *roster
	transport *memberlist.NetTransport
	advertise *net.TCPAddr
	probe     time.Duration
	rejoin    time.Duration
	logger    *slog.Logger
	list      atomic.Pointer[memberlist.Memberlist]
	keyring   *memberlist.Keyring
	denials   *denials
	delegate  memberlist.Delegate
	kick      chan struct{}
	rekeying  sync.Mutex // serialises the ring's changes, its making among them, with those of the roster's keys
}

// bindGossip takes the address. Nothing that arrives is looked at before start.
func bindGossip(o *Options, t Tuning, r *roster, logger *slog.Logger) (*gossip, error) {
	bind, err := net.ResolveTCPAddr("tcp", o.GossipBind)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", o.GossipBind, err)
	}
	ip := bind.IP
	if ip == nil {
		ip = net.IPv4zero
	}
	g := &gossip{
		self: o.NodeID, roster: r, probe: t.GossipProbe, rejoin: t.GossipRejoin,
		logger: logger.With("component", "gossip"), kick: make(chan struct{}, 1),
	}
	// With port 0 the kernel picks a free TCP port, whose UDP twin may be taken.
	tries := 1
	if bind.Port == 0 {
		tries = 10
	}
	for range tries {
		g.transport, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{ip.String()}, BindPort: bind.Port, Logger: g.standardLogger(),
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("binding the gossip address %s: %w", o.GossipBind, err)
	}
	if g.advertise, err = gossipAdvertise(o.GossipAdvertise, g.transport); err != nil {
		g.unbind()
		return nil, err
	}
	return g, nil
}

func gossipAdvertise(configured string, transport *memberlist.NetTransport) (*net.TCPAddr, error) {
	if configured == "" {
		ip, port, err := transport.FinalAdvertiseAddr("", 0)
		if err != nil {
			return nil, fmt.Errorf("finding an address to gossip from; set GossipAdvertise: %w", err)
		}
		return &net.TCPAddr{IP: ip, Port: port}, nil
	}
	addr, err := net.ResolveTCPAddr("tcp", configured)
	if err != nil {
		return nil, fmt.Errorf("gossip advertise address %q: %w", configured, err)
	}
	if addr.Port == 0 {
		addr.Port = transport.GetAutoBindPort()
	}
	return addr, nil
}

func (g *gossip) standardLogger() *log.Logger {
	return log.New(&quietWriter{to: &lineWriter{logger: g.logger}, logger: g.logger}, "", 0)
}

func (g *gossip) addr() string {
	return net.JoinHostPort(g.advertise.IP.String(), strconv.Itoa(g.advertise.Port))
}

// start begins to gossip under keys, the first of which encrypts.
func (g *gossip) start(keys [][]byte) error {
	keyring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	config := memberlist.DefaultLANConfig()
	config.Name = g.self
	config.Transport = g.transport
	config.BindPort = g.transport.GetAutoBindPort()
	config.AdvertiseAddr = g.advertise.IP.String()
	config.AdvertisePort = g.advertise.Port
	config.ProbeInterval = g.probe
	config.ProbeTimeout = g.probe / 2
	config.TCPTimeout = gossipTimeout
	config.EnableCompression = false // messages are small, and nothing that is encrypted should be compressed
	config.DeadNodeReclaimTime = 30 * time.Second
	config.Keyring = keyring
	config.Alive = aliveDelegate{g}
	config.Delegate = g.delegate
	config.Logger = g.standardLogger()
	list, err := memberlist.Create(config)
	if err != nil {
		return fmt.Errorf("starting gossip: %w", err)
	}
	g.keyring = keyring
	g.list.Store(list)
	return nil
}

// carry has denies travel by this gossip.
func (g *gossip) carry(d *denials) { g.denials, g.delegate = d, denyDelegate{d} }

// send sends one datagram, which memberlist encrypts.
func (g *gossip) send(addr string, message []byte) error {
	return g.list.Load().SendToAddress(memberlist.Address{Addr: addr}, message)
}

// aliveDelegate refuses names that are no members. It is called from memberlist's receive loop and must not
// block; the roster doesn't.
type aliveDelegate struct{ g *gossip }

func (d aliveDelegate) NotifyAlive(peer *memberlist.Node) error {
	if peer.Name == d.g.self {
		return nil
	}
	if _, ok := d.g.roster.member(peer.Name); !ok {
		return fmt.Errorf("%w: %s", ErrUnknownMember, peer.Name)
	}
	return nil
}

// run contacts the members that gossip has lost, because memberlist never heals a long partition by itself.
func (g *gossip) run(ctx context.Context) {
	ticker := time.NewTicker(g.rejoin)
	defer ticker.Stop()
	for {
		g.contactMissing(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-g.kick:
		}
	}
}

func (g *gossip) contactMissing(ctx context.Context) {
	alive := g.alive()
	var missing []Member
	for _, m := range g.roster.members() {
		if m.ID != g.self && m.GossipAddr != "" && !alive[m.ID] {
			missing = append(missing, m)
		}
	}
	mathrand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	for _, m := range missing[:min(len(missing), rejoinAtOnce)] {
		if ctx.Err() != nil {
			return
		}
		if _, err := g.list.Load().Join([]string{m.GossipAddr}); err != nil {
			g.logger.Debug("contacting a member", "member", m.ID, "addr", m.GossipAddr, "error", err)
		}
	}
}

// nudge has missing members contacted now.
func (g *gossip) nudge() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// alive returns the members that gossip holds for alive, this node among them once it gossips.
func (g *gossip) alive() map[string]bool {
	alive := make(map[string]bool)
	list := g.list.Load()
	if list == nil {
		return alive
	}
	for _, node := range list.Members() {
		_, member := g.roster.member(node.Name) // a removed one may be as alive as ever
		alive[node.Name] = member || node.Name == g.self
	}
	maps.DeleteFunc(alive, func(_ string, member bool) bool { return !member })
	return alive
}

// stop says farewell, so that the others need not find out by probing, and releases the address.
func (g *gossip) stop(ctx context.Context) error {
	list := g.list.Load()
	if list == nil {
		g.unbind()
		return nil
	}
	patience := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(min(patience, time.Until(deadline)), time.Millisecond)
	}
	if err := list.Leave(patience); err != nil {
		g.logger.Debug("saying farewell", "error", err)
	}
	return list.Shutdown()
}

// unbind releases the address of a transport that nobody listens to: its receivers block on handing over what
// has arrived meanwhile, and Shutdown waits for them.
func (g *gossip) unbind() {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-g.transport.PacketCh():
			case conn := <-g.transport.StreamCh():
				_ = conn.Close()
			case <-done:
				return
			}
		}
	}()
	_ = g.transport.Shutdown()
	close(done)
}
