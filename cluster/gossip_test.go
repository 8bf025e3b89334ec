package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// chatter has the nodes take turns in saying something, and keeps count.
type chatter struct {
	nodes []*denyNode
	said  int
}

// say says so many denies, each a while after the one before.
func (c *chatter) say(t *testing.T, count int) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for range count {
		<-ticker.C
		require.NoError(t, c.nodes[c.said%len(c.nodes)].Deny(numbered(c.said)))
		c.said++
	}
}

// allHeard waits until every node has heard what the others said.
func (c *chatter) allHeard(t *testing.T) {
	t.Helper()
	for i, n := range c.nodes {
		own := c.said / len(c.nodes)
		if i < c.said%len(c.nodes) {
			own++
		}
		eventually(t, func() bool { return n.ear.len() == c.said-own }, "node %s", n.o.NodeID)
	}
}

// The owner takes each step once all have taken the one before. Nodes take it one after the other, while all
// speak: at every moment some are a step ahead.
func TestGossipKeysRotateUnderTraffic(t *testing.T) {
	t.Parallel()
	nodes := fiveDenyNodes(t)
	run(t, nodes...)
	c := &chatter{nodes: nodes}
	current := nodes[0].GossipKeys()[0]
	for range 3 {
		fresh := gossipKeyFor(t)
		for _, step := range [][][]byte{{current, fresh}, {fresh, current}, {fresh}} { // add, use, drop
			for _, n := range nodes {
				require.NoError(t, n.SetGossipKeys(step))
				require.Equal(t, step, n.gossip.keyring.GetKeys())
				c.say(t, 10)
			}
			c.allHeard(t)
		}
		current = fresh
	}
	for _, n := range nodes {
		eventually(t, func() bool { return len(n.gossip.alive()) == 5 })
		require.Zero(t, n.overflowed(t, denyQueueOut)+n.overflowed(t, denyQueueIn)+n.overflowed(t, denyQueueRelay))
	}
}

// The other way round it shows that the test above would notice: a node that lacks the key in use is deaf.
func TestGossipKeyInUseBeforeItWasAdded(t *testing.T) {
	t.Parallel()
	key, fresh := gossipKeyFor(t), gossipKeyFor(t)
	n1, n2 := newDenyNode(t, "n1", key), newDenyNode(t, "n2", key)
	run(t, n1, n2)
	require.NoError(t, n1.SetGossipKeys([][]byte{fresh, key}))
	require.NoError(t, n1.Deny([]byte("unheard")))
	eventually(t, func() bool { return n1.events(t, denySent) == 1 })
	require.NoError(t, n2.SetGossipKeys([][]byte{key, fresh}))
	require.NoError(t, n1.Deny([]byte("heard")))
	eventually(t, func() bool { return n2.ear.heard("n1", "heard") == 1 })
}

// The log is opened after the keys were chosen, and the owner may find others in it before gossip begins.
func TestGossipKeysThatChangeDuringStart(t *testing.T) {
	t.Parallel()
	n, fresh := newDenyNode(t, "n1", gossipKeyFor(t)), gossipKeyFor(t)
	require.NoError(t, n.chooseGossipKeys())
	require.NoError(t, n.SetGossipKeys([][]byte{fresh}))
	require.NoError(t, n.startGossip())
	require.Equal(t, [][]byte{fresh}, n.gossip.keyring.GetKeys())
	require.Equal(t, [][]byte{fresh}, n.GossipKeys())
}

func TestReplaceKeys(t *testing.T) {
	t.Parallel()
	keys := make([][]byte, 8)
	for i := range keys {
		keys[i] = bytes.Repeat([]byte{byte('a' + i)}, gossipKeySize)
	}
	pick := func(letters string) [][]byte {
		var picked [][]byte
		for _, l := range letters {
			picked = append(picked, keys[l-'a'])
		}
		return picked
	}
	for _, c := range []struct{ before, after string }{
		{"a", "a"},
		{"a", "ab"},
		{"ab", "ba"},
		{"ba", "b"},
		{"abc", "d"}, // memberlist's RemoveKey, called while going through GetKeys, left b behind
		{"abcdefg", "h"},
		{"abc", "ca"},
		{"abcd", "ebd"},
		{"abc", "def"},
	} {
		ring, err := memberlist.NewKeyring(pick(c.before), keys[c.before[0]-'a'])
		require.NoError(t, err)
		held := ring.GetKeys() // by a receiver that is trying them
		require.NoError(t, replaceKeys(ring, pick(c.after)))
		require.Equal(t, pick(c.after)[0], ring.GetPrimaryKey(), "%s → %s", c.before, c.after)
		require.ElementsMatch(t, pick(c.after), ring.GetKeys(), "%s → %s", c.before, c.after)
		require.Equal(t, pick(c.before), held, "%s → %s", c.before, c.after)
	}
}

// Trying keys and replacing them at once must not lose one that stays. Meant for the race detector, too.
func TestReplaceKeysBesideReceivers(t *testing.T) {
	t.Parallel()
	var keys [3][]byte
	for i := range keys {
		keys[i] = gossipKeyFor(t)
	}
	ring, err := memberlist.NewKeyring(nil, keys[0])
	require.NoError(t, err)
	stop := make(chan struct{})
	var receivers sync.WaitGroup
	for range 4 {
		receivers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !slices.ContainsFunc(ring.GetKeys(), func(k []byte) bool { return bytes.Equal(k, keys[0]) }) {
					t.Error("the key that stays was missing")
					return
				}
			}
		})
	}
	for range 500 {
		for _, step := range [][][]byte{{keys[0], keys[1]}, {keys[1], keys[0]}, {keys[0], keys[1], keys[2]}, {keys[0]}} {
			require.NoError(t, replaceKeys(ring, step))
		}
	}
	close(stop)
	receivers.Wait()
}

func TestGossipLogIsBounded(t *testing.T) {
	t.Parallel()
	virtualtime.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&out, nil))
		w := &quietWriter{to: &lineWriter{logger: logger}, logger: logger}
		lines := func() int { defer out.Reset(); return strings.Count(out.String(), "\n") }
		for i := range 1000 {
			_, err := fmt.Fprintf(w, "[ERR] memberlist: Decrypt packet failed: %d\n", i)
			require.NoError(t, err)
		}
		require.Equal(t, quietLines, lines())
		_, err := w.Write([]byte("[INFO] memberlist: something to know\n"))
		require.NoError(t, err)
		require.Equal(t, 1, lines(), "only warnings and errors can be had for a datagram")
		time.Sleep(quietPeriod)
		_, err = w.Write([]byte("[WARN] memberlist: another\n"))
		require.NoError(t, err)
		require.Contains(t, out.String(), "lines=950")
		require.Contains(t, out.String(), "another")
		require.Equal(t, 2, lines())
	})
}
