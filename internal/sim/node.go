package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/revocation"
	"github.com/deputy-id/deputy/tokens"
)

// machine is what a node has beyond the life of one process: a name, a disk, clocks, and the key it signs with.
type machine struct {
	id     string
	disk   *disk
	clock  *clock
	signer *tokens.Signer

	mu   sync.Mutex
	node *node // nil while it is down
}

func (m *machine) running() *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// node is one process: the parts that package server wires, wired the same way.
type node struct {
	*machine
	lab       *lab
	port      *port
	transport *transport
	raft      *raft.Raft

	revoked  *revocation.Set
	fsm      *fsm.FSM
	applying sync.Mutex // of the state machine: see serialFSM
	keys     keyring
	engine   *policy.Engine
	minter   *tokens.Minter
	verifier *tokens.Verifier
	guard    *cluster.ClockGuard
	lease    *cluster.Lease
	ticks    *cluster.Ticks
	grants   *cluster.Grants
	fences   *cluster.Fences
	denials  denials

	settled  atomic.Uint64
	settling atomic.Bool
	up       chan struct{} // closed once raft runs: until then nobody is listened to

	seen      atomic.Uint64 // the highest index that its state was seen at
	proposing sync.RWMutex  // held while a command is handed to raft, and alone by the end
	proposals sync.WaitGroup
}

// What a node answers to another one; of the callers' errors only these are told apart.
var (
	errNotLeading = errors.New("this node does not lead")
	errUnknown    = errors.New("the outcome is unknown")
)

// cachedTokens is enough for all tokens of a schedule.
const cachedTokens = 512

// start runs a new process on a machine.
func (l *lab) start(m *machine) (*node, error) {
	n := &node{machine: m, lab: l, transport: newTransport(), revoked: revocation.NewSet(), engine: policy.NewEngine(), up: make(chan struct{})}
	discard := slog.New(slog.DiscardHandler)
	n.fsm = fsm.New(fsm.Options{
		Revocations: n.revoked, Logger: discard,
		Halt: func(err error) { l.ledger.broken("%s: the state machine halted: %v", m.id, err) },
	})
	n.guard = n.newClockGuard()
	n.grants = cluster.NewGrants(m.clock.boot)
	n.fences = n.newFences()
	n.ticks = cluster.NewTicks(n.tick)
	n.lease = cluster.NewLease(n.leaseOptions())
	n.denials = denials{node: n, said: make(map[*said]struct{})}
	if err := n.newTokens(); err != nil {
		return nil, err
	}
	n.port = l.net.open(m.id, n.serve)
	n.transport.port = n.port
	r, err := raft.NewRaft(l.raftConfig(m.id), &serialFSM{FSM: n.fsm, mu: &n.applying}, m.disk, m.disk, m.disk, n.transport)
	if err != nil {
		n.port.close()
		return nil, fmt.Errorf("starting raft at %s: %w", m.id, err)
	}
	n.raft = r
	close(n.up)
	m.mu.Lock()
	m.node = n
	m.mu.Unlock()
	go func() { _ = n.lease.Run(n.port.ctx) }()
	go n.denials.run(n.port.ctx)
	go n.announceKey(n.port.ctx)
	go n.yieldLeadership(n.port.ctx)
	return n, nil
}

// newTokens mirrors the second half of server.Server.wire.
func (n *node) newTokens() (err error) {
	issuer := func() string { return n.fsm.View().Settings().Issuer }
	cache := tokens.NewCache(cachedTokens)
	if n.minter, err = tokens.NewMinter(tokens.MinterOptions{Issuer: issuer, Checker: n.revoked, Cache: cache}); err != nil {
		return err
	}
	n.verifier, err = tokens.NewVerifier(tokens.VerifierOptions{
		Keys: func() *tokens.Keyring { return n.keys.of(n.fsm.View()) }, Checker: n.revoked, Issuer: issuer, Cache: cache,
		Now: func() identity.Instant { return identity.InstantOf(n.clock.wall()) },
	})
	return err
}

// endOnce takes the process away, as kill -9 does: from now on nobody hears of it. What runs of it ends meanwhile.
// It reports false where somebody else has done so before.
func (n *node) endOnce() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machine.node != n {
		return false
	}
	n.machine.node = nil
	n.machine.disk = n.machine.disk.crash()
	n.proposing.Lock()
	n.port.close()
	n.proposing.Unlock()
	go func() {
		// Raft forgets the commands in its queue when it shuts down. It answers them before, as it loses its leadership
		// off the network.
		n.proposals.Wait()
		n.raft.Shutdown()
	}()
	return true
}

// alive reports whether the process has not ended: what a dead one says reaches nobody.
func (n *node) alive() bool { return n.port.ctx.Err() == nil }

// raftConfig mirrors cluster.Node.raftConfig, with times that let a schedule see some elections and snapshots.
func (l *lab) raftConfig(id string) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.Logger = hclog.NewNullLogger()
	c.ProtocolVersion = 3
	c.PreVoteDisabled = false
	c.BatchApplyCh = true
	c.MaxAppendEntries = 64
	c.HeartbeatTimeout = l.tuning.election
	c.ElectionTimeout = l.tuning.election
	c.LeaderLeaseTimeout = l.tuning.election / 2
	c.CommitTimeout = l.tuning.commit
	c.SnapshotThreshold = l.tuning.snapshotEvery
	c.SnapshotInterval = l.tuning.snapshotLook
	c.TrailingLogs = l.tuning.trailing
	c.ShutdownOnRemove = false
	return c
}

// The requests between nodes.
type (
	tickRequest  struct{}
	fenceRequest struct {
		index   uint64
		entries []revocation.Entry
	}
	denyRequest  struct{ handles []identity.Handle }
	clockRequest struct{}
	// writeRequest is server.Server.ServeForwarded: the leader commits, and raises a fence where one is asked for.
	writeRequest struct {
		command fsm.Command
		fence   bool
	}
	writeAnswer struct {
		result fsm.Result
		fenced bool
	}
)

// serve mirrors server.Server.handlers.
func (n *node) serve(ctx context.Context, from string, request any) (any, error) {
	select {
	case <-n.up:
	default:
		return nil, errRefused
	}
	switch r := request.(type) {
	case raftCall:
		return n.transport.serve(r)
	case tickRequest:
		return n.serveTick(ctx, from)
	case fenceRequest:
		return nil, n.serveFence(ctx, r)
	case clockRequest:
		return n.clock.wall(), nil
	case denyRequest:
		n.denials.add(r.handles)
		return nil, nil
	case writeRequest:
		return n.serveWrite(ctx, r)
	}
	return nil, fmt.Errorf("BUG: a request of type %T", request)
}

// announceKey mirrors server.Server.publishKey: the key signs once its public half is in the log and applied here.
func (n *node) announceKey(ctx context.Context) {
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
		if n.lease.Check() != nil {
			continue
		}
		if n.keys.of(n.fsm.View()).Has(n.signer.KID()) {
			n.minter.SetSigner(n.signer)
			return
		}
		key := n.signer.SigningKey(n.id, identity.InstantOf(n.clock.wall()))
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, _ = n.callLeader(try, writeRequest{command: fsm.Command{ID: n.lab.commandID(), By: n.id, Body: fsm.PublishKey{Key: key}}})
		cancel()
	}
}

// keyring mirrors server.keyrings.
type keyring struct {
	mu       sync.Mutex
	revision uint64
	ring     *tokens.Keyring
}

func (k *keyring) of(view *fsm.View) *tokens.Keyring {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ring == nil || view.KeysRevision() != k.revision {
		k.revision = view.KeysRevision()
		k.ring, _ = tokens.NewKeyring(view.SigningKeys()) // one that can't be used is left out
	}
	return k.ring
}

// content is the node's snapshot, byte for byte.
func (n *node) content() ([]byte, error) {
	n.applying.Lock()
	defer n.applying.Unlock()
	snapshot, err := n.fsm.Snapshot()
	if err != nil {
		return nil, err
	}
	var b memorySink
	if err := snapshot.Persist(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type memorySink struct{ bytes.Buffer }

func (*memorySink) ID() string    { return "memory" }
func (*memorySink) Close() error  { return nil }
func (*memorySink) Cancel() error { return nil }
