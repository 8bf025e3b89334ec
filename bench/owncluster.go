package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

const (
	// ownClusterReady bounds the time until all of a benchmark's own nodes vote: seconds on an idle machine.
	ownClusterReady = 90 * time.Second
	memberPoll      = 50 * time.Millisecond
	// MaxOwnNodes bounds a benchmark's own cluster: they share one machine.
	MaxOwnNodes = 9
	// joinLasts is how long a node of the run has to join.
	joinLasts = 300
	// logTail is how much of a node's log a message shows.
	logTail = 2 << 10
)

// ownNode is one node of a benchmark's own cluster: a process with a data folder.
type ownNode struct {
	*process
	spec    nodeSpec
	address selfAddress
	log     string // file
	cpus    []int  // nil: not pinned
	running bool
}

// ownCluster are real nodes, each a process of the binary with a data folder of its own, on loopback.
type ownCluster struct {
	binary string
	dir    string
	cpus   [][]int // of each node; nil where none are pinned
	nodes  []*ownNode
	token  string // admin
	made   int    // nodes ever made: ids are never used again
	cert   string // files, "" for plain HTTP
	key    string
	ca     []byte
}

// startOwnCluster brings up so many nodes under a folder of its own in parent, which close removes. It returns once
// they all have a vote.
func startOwnCluster(ctx context.Context, o ownClusterOptions) (_ *ownCluster, err error) {
	dir, err := os.MkdirTemp(o.parent, "deputy-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the nodes: %w", err)
	}
	c := &ownCluster{binary: o.binary, dir: dir, cpus: o.cpus}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if o.tls {
		if err := c.certify(); err != nil {
			return nil, err
		}
	}
	first := c.newNode()
	first.spec.Bootstrap = true
	if err := c.launch(ctx, first); err != nil {
		return nil, err
	}
	c.nodes, c.token = append(c.nodes, first), first.address.Token
	if c.token == "" {
		return nil, errors.New("the first node of the run's own cluster gave out no admin token")
	}
	for range o.nodes - 1 {
		if _, err := c.join(ctx); err != nil {
			return nil, err
		}
	}
	return c, c.awaitVoters(ctx, votersOf(o.nodes))
}

type ownClusterOptions struct {
	binary string
	parent string // folder; "": that for temporary files
	nodes  int
	tls    bool
	cpus   [][]int // of each node; nil pins none
}

// votersOf is how many of so many nodes have a vote: an odd number, and five at most.
func votersOf(nodes int) int { return min((nodes-1)|1, 5) }

func (c *ownCluster) newNode() *ownNode {
	c.made++
	id := fmt.Sprintf("bench-%d", c.made)
	var cpus []int
	if c.made <= len(c.cpus) {
		cpus = c.cpus[c.made-1]
	}
	return &ownNode{cpus: cpus, log: filepath.Join(c.dir, id+".log"), spec: nodeSpec{ID: id, DataDir: filepath.Join(c.dir, id), TLSCert: c.cert, TLSKey: c.key}}
}

// join adds a node and returns once it is in.
func (c *ownCluster) join(ctx context.Context) (*ownNode, error) {
	api, err := c.client()
	if err != nil {
		return nil, err
	}
	token, err := api.CreateJoinToken(ctx, wire.JoinTokenRequest{Duration: joinLasts})
	if err != nil {
		return nil, fmt.Errorf("asking for a join token: %w", err)
	}
	n := c.newNode()
	n.spec.JoinToken = token.Token
	if err := c.launch(ctx, n); err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, n)
	return n, nil
}

// launch starts the node's process and returns once it serves. A node that ran before gets the addresses it had.
func (c *ownCluster) launch(ctx context.Context, n *ownNode) error {
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	p, err := start(context.WithoutCancel(ctx), c.binary, []string{"bench", "node-server"}, n.cpus, nil, log)
	if err != nil {
		return err
	}
	text, err := json.Marshal(n.spec)
	if err != nil {
		p.stop()
		return err
	}
	if _, err = p.stdin.Write(append(text, '\n')); err == nil {
		err = lineWithin(ctx, nodeReady, p.stdout, &n.address)
	}
	if err != nil {
		p.stop()
		return fmt.Errorf("node %s did not come up: %w; its log ends:\n%s", n.spec.ID, err, n.tail())
	}
	n.process, n.running = p, true
	n.spec.Bootstrap, n.spec.JoinToken = false, ""
	n.spec.Public, n.spec.Ops = hostOf(n.address.Public), n.address.Ops
	n.spec.Cluster, n.spec.Gossip = n.address.Cluster, n.address.Gossip
	return nil
}

// kill ends a node at once, as a crash does.
func (n *ownNode) kill() {
	n.process.kill()
	n.running = false
}

// stall stops a node's process for a while, as a machine that hangs does.
func (n *ownNode) stall(ctx context.Context, d time.Duration) error {
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping %s: %w", n.spec.ID, err)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("continuing %s: %w", n.spec.ID, err)
	}
	return ctx.Err()
}

// end takes a node down in order.
func (n *ownNode) end() {
	n.stop()
	n.running = false
}

func (c *ownCluster) live() (list []*ownNode) {
	for _, n := range c.nodes {
		if n.running {
			list = append(list, n)
		}
	}
	return list
}

// client reaches all nodes that run, as an admin.
func (c *ownCluster) client() (*client.Client, error) {
	var addresses []string
	for _, n := range c.live() {
		addresses = append(addresses, n.address.Public)
	}
	return c.clientOf(addresses...)
}

// leader is the node that leads, as it says itself.
func (c *ownCluster) leader(ctx context.Context) (*ownNode, error) {
	ctx, cancel := context.WithTimeout(ctx, ownClusterReady)
	defer cancel()
	for {
		for _, n := range c.live() {
			api, err := c.clientOf(n.address.Public)
			if err != nil {
				return nil, err
			}
			if state, err := api.Freshness(ctx); err == nil && state.Leader {
				return n, nil
			}
		}
		if err := pauseFor(ctx, memberPoll); err != nil {
			return nil, fmt.Errorf("looking for the leader: %w", err)
		}
	}
}

func (c *ownCluster) awaitVoters(ctx context.Context, count int) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ownClusterReady)
	defer cancel()
	for {
		voters := 0
		if members, err := api.Members(ctx); err == nil {
			for i := range members.Items {
				if members.Items[i].Suffrage == "voter" {
					voters++
				}
			}
		}
		if voters == count {
			return nil
		}
		if err := pauseFor(ctx, memberPoll); err != nil {
			return fmt.Errorf("waiting for %d nodes to vote, of which %d do: %w", count, voters, err)
		}
	}
}

// close ends all nodes and removes their data, for which nobody need say farewell.
func (c *ownCluster) close() error {
	for _, n := range c.live() {
		n.kill()
	}
	return os.RemoveAll(c.dir)
}

// tail is the end of what the node has logged, for a message.
func (n *ownNode) tail() string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
