package api

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/proofs"
	"github.com/deputy-id/deputy/revocation"
	"github.com/deputy-id/deputy/tokens"
)

const testIssuer = "https://deputy.example.com"

// group is a cluster whose log is a function call: every proposed command is encoded and applied to all nodes
// at once, as Raft would in the end. All else is the real thing.
type group struct {
	mu       sync.Mutex
	index    uint64
	leader   int // -1: none
	nodes    []*node
	now      time.Time
	interval time.Duration // that the clock moves at each proposal
	// onPropose may fail a proposal before (committed false) or after (true) it is applied.
	onPropose func(committed bool) error
	lag       map[int]bool // nodes that hear of nothing new
	held      map[int][]*raft.Log
}

// node is one node's surface, and a client for it.
type node struct {
	t        *testing.T
	group    *group
	number   int
	api      *API
	fsm      *fsm.FSM
	revoked  *revocation.Set
	journal  *revocation.Journal
	minter   *tokens.Minter
	registry *prometheus.Registry
	logs     *syncBuffer
	client   *http.Client
	server   *HTTPServer
	listener *fasthttputil.InmemoryListener
	document *document
	stale    bool        // Freshness says no
	lapsed   atomic.Bool // it says so from some moment on
	hiccup   atomic.Bool // the next request is held up, right after it looks at the lease, until that one has ended
	lease    atomic.Int64
	// onIsLeader runs before the node is asked whether it leads.
	onIsLeader func()
	root       string

	cluster  *stubCluster
	denials  *stubDenials
	sessions *stubSessions
	hits     *stubHits

	log    *audit.Log
	key    nodeKey
	silent bool // it answers no question about its log
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (n *node) Propose(_ context.Context, c fsm.Command) (fsm.Result, error) {
	return n.group.propose(n, c)
}

func (n *node) IsLeader() bool {
	if n.onIsLeader != nil {
		n.onIsLeader()
	}
	n.group.mu.Lock()
	defer n.group.mu.Unlock()
	return n.group.leader == n.number
}

func (n *node) Forward(ctx context.Context, request []byte) ([]byte, error) {
	n.group.mu.Lock()
	leader := n.group.leader
	n.group.mu.Unlock()
	if leader < 0 {
		return nil, errNoLeader()
	}
	return n.group.nodes[leader].api.ServeForwarded(ctx, request)
}

func (n *node) Lease() time.Duration {
	noted := n.lease.Load()
	if n.hiccup.Swap(false) {
		n.lease.Add(1) // ended, and renewed
	}
	return time.Duration(noted)
}

func (n *node) Fresh(lease time.Duration) error {
	if n.stale || n.lapsed.Load() || int64(lease) != n.lease.Load() {
		return identity.Errorf(identity.CodeNotFresh, "this node holds no lease")
	}
	return nil
}

func (n *node) Remaining(lease time.Duration) time.Duration {
	if n.Fresh(lease) != nil {
		return 0
	}
	return 9 * time.Second
}

func (g *group) propose(n *node, c fsm.Command) (fsm.Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n != nil && g.leader != n.number {
		return fsm.Result{}, errNoLeader()
	}
	if g.onPropose != nil {
		if err := g.onPropose(false); err != nil {
			return fsm.Result{}, err
		}
	}
	encoded, err := fsm.Encode(c)
	if err != nil {
		return fsm.Result{}, err
	}
	g.index++
	g.now = g.now.Add(g.interval)
	entry := &raft.Log{Index: g.index, Term: 1, Type: raft.LogCommand, Data: encoded}
	var result fsm.Result
	for i, node := range g.nodes {
		if g.lag[i] {
			g.held[i] = append(g.held[i], entry)
			continue
		}
		r := node.fsm.Apply(entry).(fsm.Result)
		if n == nil || i == n.number {
			result = r
		}
	}
	if g.onPropose != nil {
		if err := g.onPropose(true); err != nil {
			return fsm.Result{}, err
		}
	}
	return result, nil
}

// release lets a lagging node catch up.
func (g *group) release(i int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lag[i] = false
	for _, entry := range g.held[i] {
		g.nodes[i].fsm.Apply(entry)
	}
	g.held[i] = nil
}

// setUp commits a command that no client asked for.
func (g *group) setUp(t testing.TB, body fsm.Body) fsm.Result {
	t.Helper()
	result, err := g.propose(nil, fsm.Command{Time: identity.InstantOf(g.time()), By: "test", Body: body})
	require.NoError(t, err)
	if result.Err != nil {
		require.NoError(t, result.Err)
	}
	return result
}

func (g *group) time() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *group) advance(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

// newGroup makes nodes, of which the first leads, with an issuer and an admin's token.
func newGroup(t testing.TB, size int, tune ...func(*Options)) *group {
	t.Helper()
	g := &group{now: time.Date(2026, 4, 17, 8, 0, 0, 0, time.UTC), lag: map[int]bool{}, held: map[int][]*raft.Log{}}
	for i := range size {
		g.nodes = append(g.nodes, newNode(t, g, i, tune...))
	}
	g.setUp(t, fsm.PutSettings{Settings: identity.Settings{
		ClusterID: "test", Issuer: testIssuer, OfflineTTLSeconds: identity.DefaultOfflineTTLSeconds, LeaseMillis: identity.DefaultLeaseMillis,
	}})
	root := "dpt_root-token-of-the-tests"
	g.addToken(t, root, identity.APIToken{Name: "root", Roles: []identity.Role{identity.RoleAdmin}})
	for _, n := range g.nodes {
		n.root = root
		signer, err := tokens.GenerateSigner()
		require.NoError(t, err)
		g.setUp(t, fsm.PublishKey{Key: signer.SigningKey(n.name(), identity.InstantOf(g.time()))})
		member := identity.Member{
			ID: n.name(), Key: n.key.Public(), ClusterAddr: "127.0.0.1:1" + n.name()[1:], GossipAddr: "127.0.0.1:2" + n.name()[1:],
			Joined: identity.InstantOf(g.time()),
		}
		if n.number == 0 {
			g.setUp(t, fsm.AdmitMember{Member: member})
		}
		n.minter.SetSigner(signer)
	}
	return g
}

func (g *group) addToken(t testing.TB, secret string, token identity.APIToken) *identity.APIToken {
	t.Helper()
	hash := identity.HashSecret(secret)
	token.Hash = hash[:]
	token.ID = identity.NewID(identity.PrefixAPIToken, identity.InstantOf(g.time()), [10]byte(hash[:10]))
	token.Created = identity.InstantOf(g.time())
	return g.setUp(t, fsm.CreateAPIToken{APIToken: token}).Value.(*identity.APIToken)
}

func (n *node) name() string { return "n" + string(rune('1'+n.number)) }

// newcomer is a node that has heard of nothing and hears of nothing: one that restarted alone, or was removed.
func (g *group) newcomer(t *testing.T) *node {
	t.Helper()
	n := newNode(t, g, len(g.nodes))
	n.root, n.stale = g.nodes[0].root, true
	return n
}

func (g *group) lead(number int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leader = number
}

func (g *group) holdBack(number int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lag[number] = true
}

func newNode(t testing.TB, g *group, number int, tune ...func(*Options)) *node {
	t.Helper()
	set := revocation.NewSet()
	n := &node{group: g, number: number, revoked: set, registry: prometheus.NewRegistry(), logs: &syncBuffer{}}
	n.t, _ = t.(*testing.T)
	n.journal = revocation.NewJournal(set)
	n.fsm = fsm.New(fsm.Options{Revocations: set, Journal: n.journal})
	issuer := func() string { return n.fsm.View().Settings().Issuer }
	cache := tokens.NewCache(4096)
	keys := sync.OnceValue(func() *tokens.Keyring {
		ring, err := tokens.NewKeyring(n.fsm.View().SigningKeys())
		require.NoError(t, err)
		return ring
	})
	var err error
	n.minter, err = tokens.NewMinter(tokens.MinterOptions{Issuer: issuer, Checker: set, Cache: cache})
	require.NoError(t, err)
	clock := func() time.Time { return g.time() }
	verifier, err := tokens.NewVerifier(tokens.VerifierOptions{
		Keys: keys, Checker: set, Issuer: issuer, Cache: cache, Now: func() identity.Instant { return identity.InstantOf(clock()) },
	})
	require.NoError(t, err)
	n.cluster = &stubCluster{n: n, servers: []Server{{ID: "n1", Suffrage: "voter", Leader: true, Alive: true, Applied: 1}}}
	n.denials = &stubDenials{n: n}
	remote, err := outbound.New(outbound.Options{
		AllowPrivate:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		AllowPlaintext: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	require.NoError(t, err)
	t.Cleanup(remote.Close)
	remoteKeys, err := outbound.NewKeySource(outbound.KeySourceOptions[*proofs.Keys]{
		Client: remote, Parse: proofs.ParsePublishedKeys, Logger: slog.New(slog.DiscardHandler), Clock: g.time,
	})
	require.NoError(t, err)
	n.sessions, n.hits = newStubSessions(n), &stubHits{n: n}
	n.log = openLog(t, n)
	o := Options{
		NodeID: n.name(), Proposer: n, RemoteKeys: remoteKeys, FSM: n.fsm, Policy: policy.NewEngine(), Minter: n.minter, Verifier: verifier,
		Revocations: set, Journal: n.journal, Keys: keys, Freshness: n, Cluster: n.cluster, Denials: n.denials, Sessions: n.sessions, PolicyHits: n.hits, Audit: n.log, Trail: stubTrail{n}, Clock: clock, Registerer: n.registry,
		Logger: slog.New(slog.NewTextHandler(n.logs, nil)),
	}
	for _, f := range tune {
		f(&o)
	}
	n.api, err = New(o)
	require.NoError(t, err)
	n.listener = fasthttputil.NewInmemoryListener()
	server := n.api.Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(n.listener) }()
	n.server = server
	n.client = &http.Client{
		Transport: &http.Transport{
			DialContext:        func(context.Context, string, string) (net.Conn, error) { return n.listener.Dial() },
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		n.client.CloseIdleConnections()
		require.NoError(t, server.ShutdownWithContext(context.Background()))
		_ = n.listener.Close() // for a test that ends before Serve has begun; closed already after any other
		<-served
	})
	n.document = documentOf(t, n.api)
	return n
}
