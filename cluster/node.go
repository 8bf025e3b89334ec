package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Node is this process's place in the cluster.
type Node struct {
	o       Options
	tuning  Tuning
	logger  *slog.Logger
	metrics *metrics

	dir    *dataDir
	stores *stores
	roster *roster
	port   *port
	server *rpcServer
	client *rpcClient
	gossip *gossip
	self   Member

	raft      atomic.Pointer[raft.Raft] // nil before Start
	transport *raft.NetworkTransport
	pilot     *pilot

	joinHandler JoinHandler
	joins       chan struct{} // join requests being served
	proposals   chan struct{} // commands that wait to be applied
	urgent      lane
	ordinary    lane
	committing  sync.WaitGroup // entries that lanes have on their way
	ended       chan struct{}  // closed when nothing of raft runs any more
	sharing     atomic.Bool    // all servers read entries of several commands
	kick        chan struct{}  // the table has changed

	hasState atomic.Bool
	started  atomic.Bool
	stopping atomic.Bool
	stopOnce sync.Once
	stopErr  error
	cancel   context.CancelFunc
	running  sync.WaitGroup // everything that Start began and the port still serves
	serving  sync.WaitGroup // the port, which ends last
}

// New takes the data folder and the addresses. Nothing runs yet. On error nothing is left behind, except that
// Options.ClusterListener stays open: it is the caller's until New succeeds.
func New(o Options) (_ *Node, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		o: o, tuning: o.Tuning.withDefaults(),
		logger:    o.Logger.With("component", "cluster"),
		joins:     make(chan struct{}, MaxJoins),
		proposals: make(chan struct{}, MaxProposals),
		kick:      make(chan struct{}, 1),
		ended:     make(chan struct{}),
	}
	n.urgent.node, n.ordinary.node = n, n
	defer func() {
		if err != nil {
			n.release()
		}
	}()
	if err := n.openData(); err != nil {
		return nil, err
	}
	n.metrics = newMetrics(n)
	if err := n.bind(); err != nil {
		return nil, err
	}
	n.server = &rpcServer{roster: n.roster, logger: n.logger, handlers: make(map[string]Handler)}
	n.client = newRPCClient(n.port)
	n.port.rpc, n.port.join = n.server.serve, n.serveJoin
	n.builtins()
	n.self = Member{ID: o.NodeID, Key: o.Key.Public(), ClusterAddr: n.ClusterAddr(), GossipAddr: n.GossipAddr()}
	return n, n.metrics.register(o.Registerer)
}

func (n *Node) openData() (err error) {
	if !n.o.InMemory {
		if n.dir, err = openDataDir(n.o.DataDir, nodeIdentity{NodeID: n.o.NodeID, Key: n.o.Key.Public()}); err != nil {
			return err
		}
	}
	if n.roster, err = newRoster(&n.o, n.dir); err != nil {
		return err
	}
	stall := &stallWatch{limit: n.tuning.DiskStall, hook: n.diskStalled}
	if n.stores, err = openStores(n.dir, stall, newHclog(n.o.Logger, "raft")); err != nil {
		return err
	}
	state, err := raft.HasExistingState(n.stores.logs, n.stores.stable, n.stores.snapshots)
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	n.hasState.Store(state || n.roster.seed.Load().Index > 0)
	return nil
}

func (n *Node) bind() error {
	certificate, err := selfSigned(n.o.NodeID, n.o.Key)
	if err != nil {
		return err
	}
	if n.gossip, err = bindGossip(&n.o, n.tuning, n.roster, n.o.Logger); err != nil {
		return err
	}
	n.gossip.carry(newDenials(&n.o, n.roster, n.metrics, n.o.Logger, n.gossip.send))
	listener := n.o.ClusterListener
	if listener == nil {
		if listener, err = net.Listen("tcp", n.o.ClusterBind); err != nil {
			return fmt.Errorf("binding the cluster address %s: %w", n.o.ClusterBind, err)
		}
	}
	n.port = newPort(listener, certificate, n.roster, n.logger, n.metrics)
	return nil
}

// release undoes whatever New has done.
func (n *Node) release() {
	if n.port != nil && n.o.ClusterListener == nil {
		_ = n.port.listener.Close()
	}
	if n.gossip != nil {
		n.gossip.unbind()
	}
	if n.metrics != nil {
		n.metrics.unregister()
	}
	if n.stores != nil {
		_ = n.stores.close()
	}
	if n.dir != nil {
		_ = n.dir.close()
	}
}

func (n *Node) diskStalled(elapsed time.Duration) {
	n.metrics.stalls.Inc()
	n.logger.Error("one write to the log has not ended; the disk is stalled", "after", elapsed)
	if n.o.OnDiskStall != nil {
		n.o.OnDiskStall(elapsed)
	}
}

// ID is this node's name.
func (n *Node) ID() string { return n.o.NodeID }

// ClusterAddr is the address that others dial.
func (n *Node) ClusterAddr() string {
	if n.o.ClusterAdvertise != "" {
		return n.o.ClusterAdvertise
	}
	return n.port.listener.Addr().String()
}

// GossipAddr is the address that others gossip with.
func (n *Node) GossipAddr() string { return n.gossip.addr() }

// GossipKeys are the keys last known, the first of which encrypts. After Start there is always one.
func (n *Node) GossipKeys() [][]byte { return n.roster.seed.Load().GossipKeys }

// HasState reports whether the data folder belongs to a cluster already: it has a log, a snapshot, or the
// members that Seed stored. Such a node only needs Start.
func (n *Node) HasState() bool { return n.hasState.Load() }

// Seed stores the members that the answer to a join named, so that this node lets them in before it has
// replayed the log that says so. Call it between New and Start.
func (n *Node) Seed(p Peers) error {
	if n.started.Load() {
		panic("BUG: Seed after Start")
	}
	if p.Index == 0 {
		return errors.New("peers without the index at which they were members")
	}
	if _, err := n.roster.adopt(p); err != nil {
		return fmt.Errorf("storing the cluster's members: %w", err)
	}
	n.hasState.Store(true)
	return nil
}

// Handle sets the handler of an RPC method. Call it before Start. Names that begin with "cluster." are taken.
func (n *Node) Handle(method string, h Handler) {
	if len(method) > len(builtinPrefix) && method[:len(builtinPrefix)] == builtinPrefix {
		panic("BUG: the method name " + method + " is reserved")
	}
	n.handle(method, h)
}

func (n *Node) handle(method string, h Handler) {
	if n.started.Load() {
		panic("BUG: Handle after Start")
	}
	if _, taken := n.server.handlers[method]; taken || method == "" || len(method) > MaxMethodLength {
		panic("BUG: the method name " + method + " is taken or not usable")
	}
	n.server.handlers[method] = h
}

// Start opens raft, serves the port and begins to gossip. It does not wait for a leader. ctx bounds the
// start, not the node's life. After an error the node is stopped.
func (n *Node) Start(ctx context.Context) error {
	if n.stopping.Load() || !n.started.CompareAndSwap(false, true) {
		return fmt.Errorf("starting node %s: it was started or stopped before", n.o.NodeID)
	}
	if err := n.start(ctx); err != nil {
		return errors.Join(fmt.Errorf("starting node %s: %w", n.o.NodeID, err), n.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

func (n *Node) start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := n.chooseGossipKeys(); err != nil {
		return err
	}
	background, cancel := context.WithCancel(context.Background())
	n.cancel = cancel

	logger := newHclog(n.o.Logger, "raft")
	transport := TransportConfig()
	transport.ServerAddressProvider, transport.Stream, transport.Logger = byID{}, newStream(n.port, n.o.NodeID), logger
	n.transport = raft.NewNetworkTransportWithConfig(transport)
	r, err := n.openRaft()
	if err != nil {
		return err
	}
	n.raft.Store(r)
	n.pilot = newPilot(background, n, r)

	n.serving.Go(func() {
		if err := n.port.run(background); err != nil {
			n.logger.Error("serving the cluster port", "error", err)
		}
	})
	if err := n.startGossip(); err != nil {
		return err
	}
	n.running.Go(func() { n.gossip.run(background) })
	n.running.Go(func() { n.gossip.denials.hear(background) })
	n.running.Go(func() { n.gossip.denials.speak(background) })
	n.running.Go(func() { n.gossip.denials.passOn(background) })
	n.running.Go(n.pilot.run)
	n.running.Go(func() { n.keepHouse(background) })
	n.running.Go(func() { n.findPeers(background) })
	n.running.Go(func() { n.keepTailShort(background) })
	return nil
}

func (n *Node) raftConfig() *raft.Config {
	c := n.tuning.RaftConfig(n.o.NodeID, len(n.roster.members()))
	c.Logger = newHclog(n.o.Logger, "raft")
	return c
}

// Bootstrap makes this node the only voter of a new cluster. It fails with ErrHasState on a node that belongs
// to one. Call it after Start.
func (n *Node) Bootstrap(ctx context.Context) error {
	r, err := n.active()
	if err != nil {
		return err
	}
	if n.HasState() {
		return ErrHasState
	}
	future := r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(n.o.NodeID), Address: raftAddress(n.o.NodeID),
	}}})
	if err := wait(ctx, future); err != nil {
		if errors.Is(err, raft.ErrCantBootstrap) {
			return ErrHasState
		}
		return fmt.Errorf("bootstrapping: %w", err)
	}
	n.hasState.Store(true)
	return nil
}

// active returns raft, or ErrStopped.
func (n *Node) active() (*raft.Raft, error) {
	r := n.raft.Load()
	if r == nil || n.stopping.Load() {
		return nil, ErrStopped
	}
	return r, nil
}
