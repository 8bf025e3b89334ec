package cluster

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// at is the wall clock of now, which a node's Clock may be ahead of.
func ahead(d time.Duration) func(*Options) {
	return func(o *Options) { o.Clock = func() time.Time { return time.Now().Add(d) } }
}

func TestDenyReachesEveryNode(t *testing.T) {
	t.Parallel()
	nodes := fiveDenyNodes(t)
	run(t, nodes...)
	for _, n := range nodes {
		for i := range 10 {
			require.NoError(t, n.Deny(fmt.Appendf(nil, "%d", i)))
		}
	}
	for _, n := range nodes {
		eventually(t, func() bool { return n.ear.len() == 40 }, "node %s", n.o.NodeID)
		for _, origin := range nodes {
			for i := range 10 {
				want := 1
				if origin == n {
					want = 0 // the owner knows what it said
				}
				require.Equal(t, want, n.ear.heard(origin.o.NodeID, fmt.Sprint(i)), "%s of %s", n.o.NodeID, origin.o.NodeID)
			}
		}
		eventually(t, func() bool { return n.events(t, denySent) == 40 })
		// From each of three others a copy of what it has heard directly.
		eventually(t, func() bool { return n.events(t, denyDuplicate) == 120 }, "node %s", n.o.NodeID)
		eventually(t, func() bool { return n.events(t, denyRelayed) == 120 })
		require.Equal(t, 40, n.events(t, denyAccepted))
		require.Zero(t, n.events(t, denyForged)+n.events(t, denyStranger)+n.events(t, denyStale)+n.events(t, denyMalformed))
	}
}

// What a holder of the gossip key, or a wire that it shares, can do with messages.
func TestDenyDropsWhatIsNotRight(t *testing.T) {
	t.Parallel()
	key := gossipKeyFor(t)
	n1, n2, stranger := newDenyNode(t, "n1", key), newDenyNode(t, "n2", key), newDenyNode(t, "n3", key)
	run(t, n1, n2)
	introduce(stranger)
	stranger.admit(n2.member()) // it believes to be a member
	require.NoError(t, stranger.Start(t.Context()))

	now := time.Now().UnixMilli()
	good := sealed(t, n1.o.Key, "n1", now, []byte("stop"))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-ed25519.SignatureSize-1] ^= 1
	send := func(message []byte, event string, times int) {
		t.Helper()
		before, heard := n2.events(t, event), n2.ear.len()
		require.NoError(t, n1.gossip.send(n2.GossipAddr(), message))
		eventually(t, func() bool { return n2.events(t, event) == before+1 }, event)
		require.Equal(t, times, n2.ear.len()-heard, event)
	}
	send([]byte("garbage"), denyMalformed, 0)
	send(bytes.Repeat([]byte("garbage"), 60), denyMalformed, 0)
	send(good[:len(good)-1], denyMalformed, 0)
	send(flipped, denyForged, 0)
	send(sealed(t, newKey(t), "n1", now, []byte("stop")), denyForged, 0)
	send(sealed(t, n1.o.Key, "n2", now, []byte("stop")), denyForged, 0)
	send(sealed(t, stranger.o.Key, "n3", now, []byte("stop")), denyStranger, 0)
	send(sealed(t, n1.o.Key, "n1", now-50_000, []byte("stop")), denyStale, 0)
	send(good, denyAccepted, 1)
	send(good, denyDuplicate, 0)

	// Without the key nobody gets as far as being counted.
	received := n2.events(t, denyReceived)
	conn, err := net.Dial("udp", n2.GossipAddr())
	require.NoError(t, err)
	for _, datagram := range [][]byte{{0}, good, bytes.Repeat([]byte{1}, 1400), make([]byte, 60_000)} {
		_, err := conn.Write(datagram)
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close())
	require.NoError(t, stranger.Deny([]byte("stop")))
	eventually(t, func() bool { return n2.events(t, denyStranger) == 2 })
	require.Equal(t, received+1, n2.events(t, denyReceived))

	// A member that is let in and put out again.
	n2.admit(stranger.member())
	require.NoError(t, stranger.Deny([]byte("stop")))
	eventually(t, func() bool { return n2.ear.heard("n3", "stop") == 1 })
	n2.expel("n3")
	require.NoError(t, stranger.Deny([]byte("stop again")))
	eventually(t, func() bool { return n2.events(t, denyStranger) == 3 })
	require.Zero(t, n2.ear.heard("n3", "stop again"))
}

func TestDenyComesByWayOfOthers(t *testing.T) {
	t.Parallel()
	key := gossipKeyFor(t)
	var nodes []*denyNode
	for i := range 4 {
		nodes = append(nodes, newDenyNode(t, fmt.Sprintf("n%d", i+1), key))
	}
	far := newProxiedDenyNode(t, "n5", key)
	origin := nodes[0].socket()
	far.proxy.drop(func(from *net.UDPAddr) bool { return from.Port == origin })
	run(t, append(nodes, far)...)

	require.NoError(t, nodes[0].Deny([]byte("stop")))
	for _, n := range append(nodes[1:], far) {
		eventually(t, func() bool { return n.ear.heard("n1", "stop") == 1 }, "node %s", n.o.NodeID)
	}
	// Of four messages to n5 the direct one was lost, so what it has is of the three others.
	eventually(t, func() bool { return far.events(t, denyReceived) == 3 })
	eventually(t, func() bool { return far.events(t, denyAccepted) == 1 && far.events(t, denyDuplicate) == 2 })
}

// Gossip may take a live member for dead. It is told all the same.
func TestDenyReachesWhoCountsAsDead(t *testing.T) {
	t.Parallel()
	key := gossipKeyFor(t)
	n1 := newProxiedDenyNode(t, "n1", key)
	n2 := newProxiedDenyNode(t, "n2", key)
	for _, n := range []*denyNode{n1, n2} {
		require.NoError(t, n.proxy.tcp.Close()) // so that they never get to know each other
	}
	introduce(n1, n2)
	require.NoError(t, n1.Start(t.Context()))
	require.NoError(t, n2.Start(t.Context()))
	require.NoError(t, n1.Deny([]byte("stop")))
	eventually(t, func() bool { return n2.ear.heard("n1", "stop") == 1 })
	require.Len(t, n1.gossip.alive(), 1)
	require.Len(t, n2.gossip.alive(), 1)
}

func TestDenyBetweenClocksThatDiffer(t *testing.T) {
	t.Parallel()
	key := gossipKeyFor(t)
	slow := newDenyNode(t, "n1", key, ahead(-2*time.Second))
	right := newDenyNode(t, "n2", key)
	fast := newDenyNode(t, "n3", key, ahead(2*time.Second))
	wrong := newDenyNode(t, "n4", key, ahead(time.Hour))
	run(t, slow, right, fast, wrong)
	for _, n := range []*denyNode{slow, right, fast, wrong} {
		require.NoError(t, n.Deny([]byte("stop")))
	}
	for _, n := range []*denyNode{slow, right, fast} {
		eventually(t, func() bool { return n.ear.len() == 2 }, "node %s", n.o.NodeID)
		eventually(t, func() bool { return n.events(t, denyStale) == 1 }, "what is an hour early is a replay, or as good as one")
		require.Zero(t, n.ear.heard("n4", "stop"))
	}
	require.Zero(t, wrong.ear.len())
}

// A node that comes back has forgotten what it had said. It must not take its own words for another's.
func TestDenyAfterARestartOfItsOrigin(t *testing.T) {
	t.Parallel()
	key := gossipKeyFor(t)
	n1, n2 := newDenyNode(t, "n1", key), newDenyNode(t, "n2", key)
	run(t, n1, n2)
	require.NoError(t, n1.Deny([]byte("stop")))
	eventually(t, func() bool { return n2.ear.heard("n1", "stop") == 1 })
	n1.gossip.denials.seen.forget() // as after a restart
	require.NoError(t, n2.gossip.send(n1.GossipAddr(), sealed(t, n1.o.Key, "n1", time.Now().UnixMilli(), []byte("stop"))))
	eventually(t, func() bool { return n1.events(t, denyDuplicate) == 1 })
	require.Zero(t, n1.ear.len())
}
