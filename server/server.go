// Package server is the composition root: the only place that knows every room and wires them together.
//
// New binds every listener, so that addresses with port 0 can be read before anything runs; Start brings the
// node into its cluster and returns once it really is in; Stop takes it down in the reverse order. Several
// servers live in one process without sharing anything.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/proofs"
	"github.com/deputy-id/deputy/revocation"
	"github.com/deputy-id/deputy/tokens"
)

// Options are what a server needs besides its configuration; each has a default.
type Options struct {
	Config   Config
	Dev      bool // one node in memory: bootstrapped, nothing kept on disk but for a temporary key folder
	Logger   *slog.Logger
	Registry *prometheus.Registry
	Clock    func() time.Time
	Version  string         // of the binary, for metrics and the OpenAPI document
	Tuning   cluster.Tuning // zero: production values

	LeaseRenewal time.Duration // zero: once a second

	// RecoverQuorum makes this node the only one of its cluster before it starts, where the others are lost for
	// good; see docs/operations.md for what that risks.
	RecoverQuorum bool

	FreeBytes func(path string) (uint64, error) // of a file system; nil: as the kernel says
}

// Server is one node.
type Server struct {
	config   Config
	dev      bool
	logger   *slog.Logger
	registry *prometheus.Registry
	clock    func() time.Time
	version  string

	nodeKey   cluster.NodeKey
	tokenKeys *tokenKeys

	fsm      *fsm.FSM
	node     *cluster.Node
	proposer *proposer
	keys     *keyrings
	minter   *tokens.Minter
	revoked  *revocation.Set
	journal  *revocation.Journal // of revoked
	lease    *cluster.Lease
	ticks    *cluster.Ticks
	grants   *cluster.Grants
	fences   *cluster.Fences
	denials  *denials
	pending  *pendingStops
	disk     *diskReserve
	sessions *startedSessions
	audit    *auditTrail
	api      *api.API

	outbound   *outbound.Client
	remoteKeys *outbound.KeySource[*proofs.Keys]
	webhooks   *outbound.Webhooks

	gossip   gossipKeys
	rekeying gossipRotation
	restores restores

	public     net.Listener
	ops        net.Listener
	httpServer httpServer
	opsHTTP    *http.Server

	rootToken  atomic.Pointer[string]
	running    *errgroup.Group
	background context.Context // of everything that runs; its cause says why it ended
	cancel     context.CancelCauseFunc
	closers    []io.Closer // of New, closed in reverse by Stop
	stopped    atomic.Bool
}

// httpServer is what this room needs of the public surface's server.
type httpServer interface {
	Serve(l net.Listener) error
	ShutdownWithContext(ctx context.Context) error
}

// Bounds of the verified-token cache: an entry is 1.3 kB once its token was verified, so this is some 90 MB.
const cachedTokens = 1 << 16

// stopWait bounds each step of a graceful stop.
const stopWait = 10 * time.Second

// New makes a node and binds its listeners. On an error nothing is left behind.
func New(o Options) (_ *Server, err error) {
	s := &Server{config: o.Config, dev: o.Dev, logger: o.Logger, registry: o.Registry, clock: o.Clock, version: o.Version}
	if s.logger == nil {
		s.logger = o.Config.Logger(os.Stderr)
	}
	if s.registry == nil {
		s.registry = prometheus.NewRegistry()
		s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	s.background, s.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if s.dev {
		if err := s.prepareDev(); err != nil {
			return nil, err
		}
		if o.Tuning == (cluster.Tuning{}) {
			o.Tuning = devTuning() // nobody to wait for
		}
	}
	if err := s.config.Validate(); err != nil {
		return nil, fmt.Errorf("the configuration is not valid: %w", err)
	}
	if err := s.openData(); err != nil {
		return nil, err
	}
	if err := s.openDisk(o.FreeBytes); err != nil {
		return nil, err
	}
	if o.RecoverQuorum {
		if err := s.recoverQuorum(o); err != nil {
			return nil, err
		}
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, s.wire(o)
}

// openData makes the data folder and this node's two keys: one that the node is, one that it signs with.
func (s *Server) openData() (err error) {
	if err := os.MkdirAll(s.config.DataDir, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if s.nodeKey, err = cluster.LoadOrCreateNodeKey(s.config.path("node.key")); err != nil {
		return err
	}
	if err := s.dropSpools(); err != nil {
		return err
	}
	return s.openKeys()
}

func (s *Server) listen() (err error) {
	if s.public, err = listen("public.listen", s.config.Public.Listen); err != nil {
		return err
	}
	s.closers = append(s.closers, s.public)
	if s.config.Public.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(s.config.Public.TLSCert, s.config.Public.TLSKey)
		if err != nil {
			return fmt.Errorf("public.tls_cert: %w", err)
		}
		s.public = tls.NewListener(s.public, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	if s.ops, err = listen("ops.listen", s.config.Ops.Listen); err != nil {
		return err
	}
	s.closers = append(s.closers, s.ops)
	return nil
}

func listen(key, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; another process may have the port: choose another or stop it", key, err)
	}
	return l, nil
}

// wire makes every room and passes each the two or three things that it needs.
func (s *Server) wire(o Options) (err error) {
	s.revoked = revocation.NewSet()
	s.journal = revocation.NewJournal(s.revoked)
	s.fsm = fsm.New(fsm.Options{Revocations: s.revoked, Journal: s.journal, Halt: s.cancel, Logger: s.logger, Registerer: s.registry})
	s.node, err = cluster.New(cluster.Options{
		NodeID: s.config.NodeID, DataDir: s.config.DataDir, InMemory: s.dev, Key: s.nodeKey,
		ClusterBind: s.config.Cluster.Listen, ClusterAdvertise: s.config.Cluster.Advertise,
		GossipBind: s.config.Gossip.Listen, GossipAdvertise: s.config.Gossip.Advertise,
		FSM: s.fsm, Directory: directory{s.fsm}, Applied: s.fsm, OnDiskStall: s.diskStalled,
		Packing: cluster.Packing{Pack: fsm.Pack, Seen: s.fsm.Packed},
		OnDeny:  func(origin string, payload []byte) { s.denials.onDeny(origin, payload) },
		Tuning:  o.Tuning, Logger: s.logger, Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	s.grants = cluster.NewGrants(cluster.BootTime)
	s.proposer = &proposer{node: s.node, clock: s.newClockGuard(), leads: s.grants.Lead, admit: s.disk.admit}
	s.fences = s.newFences()
	s.registry.MustRegister(s.fences)
	s.denials = newDenials(s.config.NodeID, s.journal, s.node, s.clock, func() time.Duration { return s.fsm.View().LeaseBound() }, s.logger, s.registry)
	if s.pending, err = openPending(s.config.path("pending"), s.denials.deny, s.settlePending, s.logger); err != nil {
		return err
	}
	s.keys = &keyrings{fsm: s.fsm, logger: s.logger}
	s.ticks = cluster.NewTicks(func(ctx context.Context) (uint64, error) {
		result, err := s.proposer.commit(ctx, s.config.NodeID, fsm.Tick{})
		return result.Index, err
	})
	s.lease = cluster.NewLease(s.leaseOptions(o.LeaseRenewal))
	s.exposeState()
	s.sessions = s.newSessions()
	issuer := func() string { return s.fsm.View().Settings().Issuer }
	cache := tokens.NewCache(cachedTokens)
	if s.minter, err = tokens.NewMinter(tokens.MinterOptions{Issuer: issuer, Checker: s.revoked, Cache: cache}); err != nil {
		return err
	}
	verifier, err := tokens.NewVerifier(tokens.VerifierOptions{
		Keys: s.keys.Keyring, Checker: s.revoked, Issuer: issuer, Cache: cache,
		Now: func() identity.Instant { return identity.InstantOf(s.clock()) },
	})
	if err != nil {
		return err
	}
	if err := s.openOutbound(); err != nil {
		return err
	}
	if err := s.openAudit(); err != nil {
		return err
	}
	s.api, err = api.New(api.Options{
		NodeID: s.config.NodeID, Proposer: s.proposer, FSM: s.fsm, Policy: policy.NewEngine(),
		Minter: s.minter, Verifier: verifier, Revocations: s.revoked, Journal: s.journal, Keys: s.keys.Keyring,
		Freshness: freshness{s}, Cluster: clusterAdmin{s}, Denials: stops{s.denials, s.pending}, RemoteKeys: s.remoteKeys, Sessions: s.sessions, Clock: s.clock,
		PolicyHits: policyHits{s},
		Audit:      s.audit, Trail: s.audit, Introspections: api.Introspections(s.config.Audit.Introspections),
		UnrecordedAnswers: s.config.Audit.Full == string(audit.FullDropAndCount),
		Logger:            s.logger, Registerer: s.registry, Version: s.version,
		TrustedProxies: s.config.Public.TrustedProxies,
		Limits: api.Limits{
			RequestsPerSecond: s.config.Limits.RequestsPerSecond, ConnectionsPerAddress: s.config.Limits.ConnectionsPerAddress,
		},
	})
	if err != nil {
		return err
	}
	s.httpServer, s.opsHTTP = s.api.Server(), s.opsServer()
	s.handlers()
	return nil
}

// handlers puts the domain behind the methods of the cluster port.
func (s *Server) handlers() {
	s.node.HandleJoin(s.serveJoin)
	s.node.Handle(methodJoin, s.serveAdmit)
	s.node.Handle(methodReadmit, s.serveReadmit)
	s.node.Handle(methodPublishKey, s.servePublishKey)
	s.node.Handle(methodRetireKey, s.serveRetireKey)
	s.node.Handle(methodTick, s.serveTick)
	s.node.Handle(methodDeny, s.denials.serveDeny)
	s.node.Handle(methodSettle, s.serveSettle)
	s.node.Handle(methodFence, s.serveFence)
	s.node.Handle(methodStatus, s.serveStatus)
	s.node.Handle(methodClock, s.serveClock)
	s.node.Handle(methodGossipKeys, s.serveGossipKeys)
	s.node.Handle(methodMayLead, s.serveMayLead)
	s.node.Handle(methodSessions, s.serveSessions)
	s.node.Handle(methodPolicyHits, s.serveHits)
	s.node.Handle(methodAudit, s.serveAudit)
	s.node.Handle(methodAuditCheckpoint, s.serveAuditCheckpoint)
	s.node.Handle(methodForward, func(ctx context.Context, _ cluster.Member, request []byte) ([]byte, error) {
		return s.api.ServeForwarded(ctx, request)
	})
}

// SnapshotBytes is the size of the snapshot that Start reads; 0 where there is none.
func (s *Server) SnapshotBytes() int64 { return s.node.SnapshotBytes() }

// Start brings the node up. It returns nil once the node is in its cluster, has caught up and may speak; an
// error leaves everything stopped.
func (s *Server) Start(ctx context.Context) (err error) {
	s.running, s.background = errgroup.WithContext(s.background)
	begun := context.WithoutCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop(begun))
		}
	}()
	// What fails in the background, such as the news that this node was removed, ends the start.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.background, func() { cancel(context.Cause(s.background)) })()
	s.running.Go(func() error { return ignoreClosed(s.opsHTTP.Serve(s.ops)) })
	s.running.Go(func() error { return s.watchStanding(s.background) })
	if err := s.enter(ctx); err != nil {
		return err
	}
	if err := s.endRecovery(ctx); err != nil {
		return err
	}
	s.running.Go(func() error { return s.lease.Run(s.background) })
	s.running.Go(func() error { return s.denials.run(s.background) })
	s.running.Go(func() error { return s.pending.run(s.background) })
	s.running.Go(func() error { return s.purge(s.background) })
	s.running.Go(func() error { return s.watchSettings(s.background) })
	s.running.Go(func() error { return s.keepGossipKeys(s.background) })
	s.running.Go(func() error { return s.yieldLeadership(s.background) })
	s.running.Go(func() error { return s.disk.run(s.background) })
	s.running.Go(func() error { return s.remoteKeys.Run(s.background) })
	s.running.Go(func() error { return s.sessions.run(s.background) })
	s.running.Go(func() error { return s.audit.run(s.background) })
	s.running.Go(func() error { return s.webhooks.Run(s.background) })
	s.running.Go(func() error { return s.tellApprovers(s.background) })
	s.running.Go(func() error { return ignoreClosed(s.httpServer.Serve(s.public)) })
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.running.Go(func() error { return s.rotateKeys(s.background) })
	s.logger.Info("serving", "public", s.PublicAddr(), "cluster", s.ClusterAddr(), "gossip", s.GossipAddr(), "ops", s.OpsAddr())
	return nil
}

// enter starts the consensus from the data folder, as a new cluster's first node, or by joining.
func (s *Server) enter(ctx context.Context) error {
	known := s.node.HasState()
	s.sessions.first.Store(!known)
	switch {
	case known, s.config.Bootstrap:
		if err := s.node.Start(ctx); err != nil {
			return err
		}
		if !s.config.Bootstrap {
			return nil
		}
		if known {
			// What a crash may have left undone is done once there is a leader. Nobody waits for that: a node that is
			// cut off says so to whoever asks.
			s.running.Go(func() error { return s.finishBootstrap(s.background) })
			return nil
		}
		return s.ensureBootstrapped(ctx)
	case s.config.JoinToken != "":
		answer, err := s.join(ctx)
		if err != nil {
			return fmt.Errorf("joining the cluster: %w", err)
		}
		if err := s.node.Seed(answer.peers()); err != nil {
			return err
		}
		if err := s.node.Start(ctx); err != nil {
			return err
		}
		s.logger.Info("admitted; catching up", "index", answer.Index)
		return s.fsm.WaitApplied(ctx, answer.Index)
	}
	return identity.Errorf(identity.CodeInvalid, "the data folder %s is empty, and neither bootstrap nor join_token is set", s.config.DataDir).
		WithHint("set bootstrap: true on the first node of a new cluster, or run `deputy cluster join-token` on a running one and give the token to this node")
}

// settle waits until this node may speak: caught up, known at its addresses, its token key in use.
func (s *Server) settle(ctx context.Context) error {
	if err := s.until(ctx, "catching up with the cluster", func(context.Context) error { return s.lease.Check() }); err != nil {
		return err
	}
	if err := s.readmit(ctx); err != nil {
		return err
	}
	if err := s.adoptGossipKeys(); err != nil {
		return err
	}
	return s.beginSigning(ctx)
}
