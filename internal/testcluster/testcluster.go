// Package testcluster runs a cluster of real servers in one process for tests: their own data folders, their
// own listeners on free loopback ports, raft, mutual TLS, gossip and HTTP as in production. Only the timeouts are
// shorter.
package testcluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/server"
)

// startWait is how long a node may take to come up on a busy machine.
const startWait = 60 * time.Second

// Cluster is a running cluster. It is stopped when the test ends.
type Cluster struct {
	t         testing.TB
	place     func(*server.Config) *Link // finishes a new node's configuration
	adjust    func(*server.Options)      // of every node, at every start; may be nil
	dir       string
	output    *testOutput
	rootToken string
	nodes     []*Node
	links     []*Link // of nodes that did not start as well

	mu      sync.Mutex
	clients []*client.Client // all that were ever handed out
}

// testOutput takes what nodes log until the test ends. Memberlist doesn't wait for its own probes when it is shut
// down, and to log after the end of a test panics.
type testOutput struct {
	mu    sync.Mutex
	to    io.Writer
	ended bool
}

// Write implements io.Writer.
func (o *testOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return len(p), nil
	}
	return o.to.Write(p)
}

func (o *testOutput) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

// Node is one server of the cluster, whether it runs or not.
type Node struct {
	*server.Server
	ID     string
	Link   *Link // nil but in a cluster made by NewBehindLinks
	config server.Config
}

// New starts a cluster of n nodes: the first bootstraps, the others join with tokens of their own.
func New(t testing.TB, n int) *Cluster {
	t.Helper()
	return NewWith(t, n, nil)
}

// NewWith is New with options of each node changed before each of its starts.
func NewWith(t testing.TB, n int, adjust func(*server.Options)) *Cluster {
	t.Helper()
	return start(t, n, adjust, func(*server.Config) *Link { return nil })
}

func start(t testing.TB, n int, adjust func(*server.Options), place func(*server.Config) *Link) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir(), adjust: adjust, place: place, output: &testOutput{to: t.Output()}}
	t.Cleanup(c.output.end)
	t.Cleanup(c.stopAll)
	first := c.configure("n1")
	first.Bootstrap = true
	node, err := c.start(first)
	require.NoError(t, err)
	c.rootToken = node.RootToken()
	require.NotEmpty(t, c.rootToken)
	for range n - 1 {
		c.Join()
	}
	return c
}

// Join adds a node to the cluster and returns once it is in.
func (c *Cluster) Join() *Node {
	c.t.Helper()
	token, err := c.Client().CreateJoinToken(c.t.Context(), wire.JoinTokenRequest{})
	require.NoError(c.t, err)
	require.NoError(c.t, c.TryJoin(fmt.Sprintf("n%d", len(c.nodes)+1), token.Token))
	return c.nodes[len(c.nodes)-1]
}

// TryJoin starts a node with a join token; the error is what its operator would see.
func (c *Cluster) TryJoin(id, token string) error {
	config := c.configure(id)
	config.JoinToken = token
	_, err := c.start(config)
	return err
}

// AwaitVoters waits until n nodes vote: a new node only does once it has been healthy for a while.
func (c *Cluster) AwaitVoters(n int) {
	c.t.Helper()
	admin := c.Client()
	require.Eventually(c.t, func() bool {
		members, err := admin.Members(c.t.Context())
		if err != nil {
			return false
		}
		voters := 0
		for _, m := range members.Items {
			if m.Suffrage == cluster.SuffrageVoter {
				voters++
			}
		}
		return voters == n
	}, startWait, 20*time.Millisecond, "%d voters", n)
}

// Node returns the i-th node, from 0.
func (c *Cluster) Node(i int) *Node { return c.nodes[i] }

// RootToken is the admin token made at bootstrap.
func (c *Cluster) RootToken() string { return c.rootToken }

// URL is where the i-th node serves.
func (c *Cluster) URL(i int) string { return "http://" + c.nodes[i].PublicAddr() }

// Client speaks to the given nodes with the root token, or to all where none is given.
func (c *Cluster) Client(nodes ...int) *client.Client { return c.client(nil, nodes) }

// Hasty is a client for answers that are no for now, and are meant to be: it asks again, but not only when the node
// says.
func (c *Cluster) Hasty(nodes ...int) *client.Client {
	return c.client(hasty{http.DefaultTransport}, nodes)
}

// hasty doesn't hear when it should ask again.
type hasty struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (h hasty) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := h.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Header.Del("Retry-After")
	}
	return response, err
}

func (c *Cluster) client(transport http.RoundTripper, nodes []int) *client.Client {
	c.t.Helper()
	var urls []string
	for _, i := range nodes {
		urls = append(urls, c.URL(i))
	}
	if len(nodes) == 0 {
		for i, n := range c.nodes {
			if n.Server != nil {
				urls = append(urls, c.URL(i))
			}
		}
	}
	cl, err := client.New(client.Options{Addresses: urls, Token: c.rootToken, Transport: transport})
	require.NoError(c.t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients = append(c.clients, cl)
	return cl
}

// Index is the latest that any client of this cluster was answered with. Who observes it sees all that they wrote, at
// whichever node.
func (c *Cluster) Index() (latest uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.clients {
		latest = max(latest, cl.Index())
	}
	return latest
}

// Stop takes the i-th node down gracefully; its data folder stays.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	require.NoError(c.t, c.nodes[i].stop())
}

// Restart brings a stopped node up again from its data folder, at the addresses it had.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	require.NoError(c.t, c.TryRestart(i))
}

// TryRestart is Restart where it may fail; the error is what the node's operator would see.
func (c *Cluster) TryRestart(i int) error { return c.relaunch(c.nodes[i]) }

// StopAll takes every node down.
func (c *Cluster) StopAll() {
	c.t.Helper()
	for i := range c.nodes {
		c.Stop(i)
	}
}

// RestartAll brings every node up again, all at the same time as after a power cut: none can be ready alone.
func (c *Cluster) RestartAll() {
	c.t.Helper()
	var starting errgroup.Group
	for _, n := range c.nodes {
		starting.Go(func() error { return c.relaunch(n) })
	}
	require.NoError(c.t, starting.Wait())
}

// Recover brings a stopped node up as the only one of its cluster, the others being lost.
func (c *Cluster) Recover(i int) error {
	n := c.nodes[i]
	n.config.JoinToken = ""
	s, err := c.launch(n.config, func(o *server.Options) { o.RecoverQuorum = true })
	if err == nil {
		n.Server = s
	}
	return err
}

// Leader is the number of the node that leads, as the nodes themselves say.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := -1
	require.Eventually(c.t, func() bool {
		for i, n := range c.nodes {
			if n.Server == nil {
				continue
			}
			if state, err := c.Client(i).Freshness(c.t.Context()); err == nil && state.Leader {
				leader = i
			}
		}
		return leader >= 0
	}, startWait, 20*time.Millisecond, "a leader")
	return leader
}

// Config is how the node is started.
func (n *Node) Config() server.Config { return n.config }

func (c *Cluster) relaunch(n *Node) error {
	n.config.JoinToken = ""
	s, err := c.launch(n.config)
	if err == nil {
		n.Server = s
	}
	return err
}

// configure gives a node ports that it will find free again after a restart.
func (c *Cluster) configure(id string) server.Config {
	config := Config(id, filepath.Join(c.dir, id))
	free := Addresses(c.t, 4)
	config.Public.Listen, config.Ops.Listen, config.Cluster.Listen, config.Gossip.Listen = free[0], free[1], free[2], free[3]
	return config
}

// Config is a node's configuration with every listener on a loopback port that the kernel chooses.
func Config(id, dataDir string) server.Config {
	config := server.DefaultConfig()
	config.NodeID, config.DataDir = id, dataDir
	config.Public.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Cluster.Listen, config.Gossip.Listen = "127.0.0.1:0", "127.0.0.1:0"
	config.Log.Level = slog.LevelWarn
	return config
}

func (c *Cluster) start(config server.Config) (*Node, error) {
	link := c.place(&config)
	if link != nil {
		c.links = append(c.links, link)
	}
	s, err := c.launch(config)
	if err != nil {
		return nil, err
	}
	n := &Node{Server: s, ID: config.NodeID, Link: link, config: config}
	c.nodes = append(c.nodes, n)
	return n, nil
}

func (c *Cluster) launch(config server.Config, more ...func(*server.Options)) (*server.Server, error) {
	o := server.Options{
		Config: config, Logger: config.Logger(c.output), Tuning: tuning(), LeaseRenewal: 200 * time.Millisecond,
	}
	if c.adjust != nil {
		more = append(more, c.adjust)
	}
	for _, change := range more {
		change(&o)
	}
	s, err := server.New(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), startWait)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting %s: %w", config.NodeID, err)
	}
	return s, nil
}

// tuning makes promotions quick. What tells a node that is lost from one that waits for a core is as long as in
// production: several clusters share two cores under the race detector.
func tuning() cluster.Tuning {
	return cluster.Tuning{
		HeartbeatTimeout: 700 * time.Millisecond, ElectionTimeout: 700 * time.Millisecond, LeaderLeaseTimeout: 600 * time.Millisecond,
		AutopilotUpdate: 100 * time.Millisecond, AutopilotReconcile: 200 * time.Millisecond, Stabilization: 300 * time.Millisecond,
		MemberPoll: 50 * time.Millisecond, GossipProbe: 500 * time.Millisecond, GossipRejoin: time.Second,
	}
}

func (n *Node) stop() error {
	if n.Server == nil {
		return nil
	}
	s := n.Server
	n.Server = nil
	return s.Stop(context.Background())
}

func (c *Cluster) stopAll() {
	for i := len(c.nodes) - 1; i >= 0; i-- {
		if err := c.nodes[i].stop(); err != nil {
			c.t.Logf("stopping %s: %v", c.nodes[i].ID, err)
		}
	}
	for _, l := range c.links {
		l.close()
	}
}
