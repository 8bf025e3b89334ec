package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/server"
)

// keyOf is the kid of the key that signed a token.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	require.NoError(t, err)
	var header struct{ KID string }
	require.NoError(t, json.Unmarshal(text, &header))
	return header.KID
}

// keyInUse is the key that a node says it signs with.
func keyInUse(t *testing.T, c *testcluster.Cluster, node int) string {
	t.Helper()
	state, err := c.Client(node).Freshness(t.Context())
	require.NoError(t, err)
	return state.KeyID
}

// load mints at every node and checks each token at the next one until it is stopped, and counts what went wrong.
type load struct {
	stop           context.CancelFunc
	running        sync.WaitGroup
	minted, failed atomic.Int64
	mu             sync.Mutex
	first          error
	kids           map[string]bool
}

// unhurried has nodes wait longer before they take another for dead. Where nothing may fail, a leader that waits for a
// core of a busy machine must not be deposed again and again: without one for as long as a lease, nodes rightly refuse.
func unhurried(o *server.Options) {
	o.Tuning.HeartbeatTimeout, o.Tuning.ElectionTimeout, o.Tuning.LeaderLeaseTimeout = 2*time.Second, 2*time.Second, 1500*time.Millisecond
}

func startLoad(t *testing.T, c *testcluster.Cluster, f fixture, nodes int) *load {
	t.Helper()
	var all []int
	for node := range nodes {
		all = append(all, node)
	}
	return startLoadAt(t, c, f, all)
}

func startLoadAt(t *testing.T, c *testcluster.Cluster, f fixture, nodes []int) *load {
	t.Helper()
	l := &load{kids: map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	for i, node := range nodes {
		mints, checks := c.Client(node), c.Client(nodes[(i+1)%len(nodes)])
		l.running.Go(func() {
			for ctx.Err() == nil {
				err := l.once(t, ctx, mints, checks, f)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					l.failed.Add(1)
					l.mu.Lock()
					l.first = err
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func (l *load) once(t *testing.T, ctx context.Context, mints, checks *client.Client, f fixture) error {
	token, err := mints.MintToken(ctx, f.agent, client.TokenOptions{})
	if err != nil {
		return fmt.Errorf("minting: %w", err)
	}
	l.minted.Add(1)
	l.mu.Lock()
	l.kids[keyOf(t, token.AccessToken)] = true
	l.mu.Unlock()
	answer, err := checks.Introspect(ctx, f.application, token.AccessToken)
	if err != nil {
		return fmt.Errorf("checking: %w", err)
	}
	if !answer.Active {
		return fmt.Errorf("a good token is not active")
	}
	return nil
}

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

func TestTokenKeysRotateUnderLoadAndNothingFails(t *testing.T) {
	t.Parallel()
	c := testcluster.NewWith(t, 3, unhurried)
	f := seed(t, c)
	old := mint(t, c, 1, f)
	for node := range 3 {
		mint(t, c, node, f)
	}
	l := startLoad(t, c, f, 3)
	for range 3 {
		before := [3]string{keyInUse(t, c, 0), keyInUse(t, c, 1), keyInUse(t, c, 2)}
		_, err := c.Client().RotateKey(t.Context(), "")
		require.NoError(t, err)
		for node := range 3 {
			eventually(t, "every node has a new key", func() bool { return keyInUse(t, c, node) != before[node] })
		}
	}
	l.end()
	require.Zero(t, l.failed.Load(), "%d minted: %v", l.minted.Load(), l.first)
	require.Greater(t, l.minted.Load(), int64(27), "some for each generation of each key, however busy the machine is")
	require.GreaterOrEqual(t, len(l.kids), 9, "tokens of every generation of keys were checked")
	require.True(t, active(t, c, 2, 0, f, old), "a retired key verifies until its last token ends")
	t.Logf("%d tokens minted and checked through 3 rotations of 3 keys", l.minted.Load())
}

func TestWishForOneNodesKeyIsServedOnceAlsoAcrossARestart(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 2)
	first, other := keyInUse(t, c, 1), keyInUse(t, c, 0)
	_, err := c.Client().RotateKey(t.Context(), "n2")
	require.NoError(t, err)
	eventually(t, "a new key", func() bool { return keyInUse(t, c, 1) != first })
	second := keyInUse(t, c, 1)
	c.Stop(1)
	c.Restart(1)
	require.Equal(t, second, keyInUse(t, c, 1))
	require.Equal(t, other, keyInUse(t, c, 0))
}

// commit proposes a command past the api's checks, at whichever node leads.
func commit(t *testing.T, c *testcluster.Cluster, body fsm.Body) {
	t.Helper()
	eventually(t, "it is committed", func() bool { return c.Node(c.Leader()).Commit(t.Context(), body) == nil })
}

func TestTokenKeysRotateOnSchedule(t *testing.T) {
	t.Parallel()
	c := testcluster.NewWith(t, 2, unhurried)
	f := seed(t, c)
	for node := range 2 {
		mint(t, c, node, f)
	}
	l := startLoad(t, c, f, 2)
	settings := *c.Node(0).View().Settings()
	settings.KeyRotationSeconds = 1 // far below what the api allows
	commit(t, c, fsm.PutSettings{Settings: settings})
	seen := map[string]bool{}
	eventually(t, "each node has gone through some keys", func() bool {
		seen[keyInUse(t, c, 0)], seen[keyInUse(t, c, 1)] = true, true
		return len(seen) >= 6
	})
	l.end()
	require.Zero(t, l.failed.Load(), "%d minted: %v", l.minted.Load(), l.first)
}

func TestRevokedTokenKeyIsReplacedAndSignsNothingMeanwhile(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	f := seed(t, c)
	token := mint(t, c, 1, f)
	bad := keyOf(t, token)
	_, err := c.Client().RevokeHandles(t.Context(), []identity.Handle{identity.KeyHandle(bad)}, "the disk was stolen", client.Fenced(10*time.Second))
	require.NoError(t, err)
	at1 := c.Client(1)
	eventually(t, "the node mints again", func() bool {
		again, err := at1.MintToken(t.Context(), f.agent, client.TokenOptions{})
		if err != nil {
			require.True(t, isStatus(err, 503), "%v", err)
			return false
		}
		require.NotEqual(t, bad, keyOf(t, again.AccessToken), "a revoked key has signed")
		return true
	})
	fresh := mint(t, c, 1, f)
	for node := range 3 {
		require.False(t, active(t, c, node, 0, f, token))
		require.True(t, active(t, c, node, c.Index(), f, fresh))
	}
}

func awaitOneGossipKey(t *testing.T, c *testcluster.Cluster, other []byte, nodes ...int) []byte {
	t.Helper()
	var key []byte
	for _, node := range nodes {
		eventually(t, "the node gossips with one new key", func() bool {
			listed, used := c.Node(node).GossipKeys(), c.Node(node).GossipKeysInUse()
			if len(listed) != 1 || len(used) != 1 || bytes.Equal(listed[0], other) || !bytes.Equal(used[0], listed[0]) {
				return false
			}
			key = used[0]
			return true
		})
	}
	return key
}

func TestGossipKeyIsReplacedAndNobodyIsLost(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	key := c.Node(0).GossipKeys()[0]
	for node := range 3 {
		eventually(t, "all hear each other", func() bool { return len(c.Node(node).Alive()) == 3 })
	}
	for range 3 {
		_, err := c.Client().RotateGossipKey(t.Context())
		require.NoError(t, err)
		key = awaitOneGossipKey(t, c, key, 0, 1, 2)
		for node := range 3 {
			require.Len(t, c.Node(node).Alive(), 3, "nobody went deaf on the way")
		}
	}
	late := c.Join() // learns the key when it joins
	eventually(t, "the new node is heard", func() bool { return len(c.Node(0).Alive()) == 4 })
	require.Equal(t, key, late.GossipKeysInUse()[0])
}

// Whatever a leader has left, the next one goes on with, and ends with a key that nobody had before.
func TestGossipRotationIsFinishedByAnotherLeader(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	key := c.Node(c.Leader()).GossipKeys()[0]
	for _, newFirst := range []bool{false, true} {
		left := bytes.Repeat([]byte{42}, 32)
		list := [][]byte{key, left}
		if newFirst {
			list = [][]byte{left, key}
		}
		// As if by a leader that was lost right after.
		commit(t, c, fsm.RotateGossip{Keys: list})
		next := awaitOneGossipKey(t, c, key, 0, 1, 2)
		require.NotEqual(t, left, next)
		key = next
	}

	_, err := c.Client().RotateGossipKey(t.Context())
	require.NoError(t, err)
	handOver(t, c, "")
	awaitOneGossipKey(t, c, key, 0, 1, 2)
}

func TestGossipRotationPassesOverAMemberThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	for node := range 3 {
		c.Node(node).WaitLessForGossipKeys(300 * time.Millisecond)
	}
	key := c.Node(0).GossipKeys()[0]
	c.Stop(2)
	_, err := c.Client(0).RotateGossipKey(t.Context())
	require.NoError(t, err)
	next := awaitOneGossipKey(t, c, key, 0, 1)
	c.Restart(2)
	require.Equal(t, next, awaitOneGossipKey(t, c, key, 2), "it learns the key from the log")
	eventually(t, "it is heard again", func() bool { return len(c.Node(2).Alive()) == 3 && len(c.Node(0).Alive()) == 3 })
}

func TestRemovalReplacesTheGossipKey(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	key := c.Node(0).GossipKeys()[0]
	_, err := c.Client(0).RemoveMember(t.Context(), "n3", "INC-42")
	require.NoError(t, err)
	awaitOneGossipKey(t, c, key, 0, 1)
}
