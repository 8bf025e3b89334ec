package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

// requestWait bounds one question to a healthy cluster.
const requestWait = 30 * time.Second

// fleet is a cluster of real processes. All of them are gone when the test ends.
type fleet struct {
	on       ground
	dir      string
	token    string // role admin
	prepared int    // nodes but the first, whether they got in or not
	nodes    []*node
}

// newFleet starts a cluster of n nodes on loopback.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	needsFaults(t)
	return newFleetOn(t, loopback{}, n)
}

// newFleetOn starts a cluster of n nodes: the first bootstraps, the others join.
func newFleetOn(t *testing.T, on ground, n int) *fleet {
	t.Helper()
	f := &fleet{on: on, dir: t.TempDir()}
	first := newNode(t, on, "n1", f.dir)
	tokenFile := filepath.Join(f.dir, "root-token")
	first.configure(t, "bootstrap: true\nroot_token_file: "+tokenFile)
	first.start(t)
	token, err := os.ReadFile(tokenFile)
	require.NoError(t, err)
	f.token = strings.TrimSpace(string(token))
	f.nodes = append(f.nodes, first)
	for range n - 1 {
		f.join(t)
	}
	f.waitVoters(t, n)
	return f
}

// join adds a node with a token of its own and returns once it is ready.
func (f *fleet) join(t *testing.T) *node {
	t.Helper()
	n := f.prepare(t, f.joinToken(t, 0).Token)
	n.start(t)
	f.nodes = append(f.nodes, n)
	return n
}

// prepare configures a node that would join with the token, and does not start it.
func (f *fleet) prepare(t *testing.T, token string) *node {
	t.Helper()
	f.prepared++
	n := newNode(t, f.on, fmt.Sprintf("n%d", f.prepared+1), f.dir)
	file := filepath.Join(n.dir, "join-token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	n.configure(t, "join_token_file: "+file)
	return n
}

func (f *fleet) joinToken(t *testing.T, seconds int64) *wire.JoinToken {
	t.Helper()
	token, err := f.client(t).CreateJoinToken(within(t, requestWait), wire.JoinTokenRequest{Duration: seconds})
	require.NoError(t, err)
	return token
}

// client speaks to all nodes, down or not, and goes on to the next where one fails.
func (f *fleet) client(t *testing.T) *client.Client {
	t.Helper()
	return f.clientFrom(t, 0)
}

// clientFrom is the same, beginning with the i-th node.
func (f *fleet) clientFrom(t *testing.T, i int) *client.Client {
	t.Helper()
	urls := make([]string, len(f.nodes))
	for k := range f.nodes {
		urls[k] = f.nodes[(i+k)%len(f.nodes)].url()
	}
	c, err := client.New(client.Options{Addresses: urls, Token: f.token})
	require.NoError(t, err)
	return c
}

// members is the list as one node sees it.
func (f *fleet) members(t *testing.T, n *node) ([]wire.Member, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	page, err := n.client(t, f.token).Members(ctx)
	if err != nil {
		return nil, err
	}
	return page.Items, nil
}

// leader returns the running node that leads, once all running nodes agree on it.
func (f *fleet) leader(t *testing.T) *node {
	t.Helper()
	var leader *node
	eventually(t, readyWait, "one leader that all agree on", func() error {
		leader = nil
		for _, n := range f.running() {
			members, err := f.members(t, n)
			if err != nil {
				return err
			}
			var seen *node
			for _, m := range members {
				if m.Leader {
					seen = f.byID(m.ID)
				}
			}
			if seen == nil || (leader != nil && leader != seen) {
				return fmt.Errorf("%s sees %+v", n.id, members)
			}
			leader = seen
		}
		return nil
	})
	return leader
}

// waitVoters waits until n nodes vote: before that, one that is killed may take the quorum with it.
func (f *fleet) waitVoters(t *testing.T, n int) {
	t.Helper()
	eventually(t, readyWait, fmt.Sprintf("%d voters", n), func() error {
		members, err := f.members(t, f.running()[0])
		if err != nil {
			return err
		}
		voters := 0
		for _, m := range members {
			if m.Suffrage == "voter" && m.State == wire.MemberAlive {
				voters++
			}
		}
		if voters != n {
			return fmt.Errorf("%d voters of %+v", voters, members)
		}
		return nil
	})
}

func (f *fleet) running() []*node {
	var running []*node
	for _, n := range f.nodes {
		if n.process != nil {
			running = append(running, n)
		}
	}
	return running
}

func (f *fleet) byID(id string) *node {
	for _, n := range f.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// within is a context for one question.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
