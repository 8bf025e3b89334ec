package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// listener is the receiving half of a node n1, without a network: its table has n1, n2 and n3.
type listener struct {
	*denials
	table *table
	ear   *ear
	now   time.Time
	keys  map[string]NodeKey
}

func newListener(t *testing.T) *listener {
	t.Helper()
	l := &listener{table: newTable(), ear: newEar(), now: time.UnixMilli(1_700_000_000_000), keys: map[string]NodeKey{}}
	for _, id := range []string{"n1", "n2", "n3", "n4"} {
		l.keys[id] = newKey(t)
		if id != "n4" {
			l.admit(id)
		}
	}
	o := Options{
		NodeID: "n1", Key: l.keys["n1"], Directory: l.table, Applied: l.table, OnDeny: l.ear.hear,
		Clock: func() time.Time { return l.now },
	}
	r, err := newRoster(&o, nil)
	require.NoError(t, err)
	l.denials = newDenials(&o, r, newMetrics(&Node{}), slog.New(slog.DiscardHandler), func(string, []byte) error { return nil })
	return l
}

func (l *listener) admit(id string) {
	l.table.state.Members[id] = Member{ID: id, Key: l.keys[id].Public(), GossipAddr: "127.0.0.1:1"}
}

func (l *listener) says(t *testing.T, id, payload string, ago time.Duration) []byte {
	t.Helper()
	return sealed(t, l.keys[id], id, l.now.Add(-ago).UnixMilli(), []byte(payload))
}

func TestDenyIsTakenOnceAndPassedOn(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	message := l.says(t, "n2", "stop", 0)
	require.Equal(t, denyAccepted, l.take(message))
	require.Equal(t, 1, l.ear.heard("n2", "stop"))
	relayed, ok := l.relays.pop()
	require.True(t, ok)
	require.Equal(t, message, relayed, "byte for byte: the signature is the origin's")

	require.Equal(t, denyDuplicate, l.take(slices.Clone(message)))
	require.Equal(t, 1, l.ear.heard("n2", "stop"))
	require.Zero(t, l.relays.len(), "or it would go round for ever")

	require.Equal(t, denyAccepted, l.take(l.says(t, "n2", "stop", 0)), "the owner repeats it: another message")
	require.Equal(t, 2, l.ear.heard("n2", "stop"))
}

func TestDenyThatIsNotTaken(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	flipped := l.says(t, "n2", "stop", 0)
	flipped[len(flipped)-ed25519.SignatureSize-1] ^= 1 // of the payload
	truncated := l.says(t, "n2", "stop", 0)
	for _, c := range []struct {
		what, outcome string
		message       []byte
	}{
		{"garbage", denyMalformed, bytes.Repeat([]byte("garbage"), 30)},
		{"truncated", denyMalformed, truncated[:len(truncated)-1]},
		{"a bit flipped", denyForged, flipped},
		{"in the name of another member", denyForged, sealed(t, l.keys["n3"], "n2", l.now.UnixMilli(), []byte("stop"))},
		{"in the name of this node", denyForged, sealed(t, l.keys["n3"], "n1", l.now.UnixMilli(), []byte("stop"))},
		{"of nobody", denyStranger, l.says(t, "n4", "stop", 0)},
		{"older than the window", denyStale, l.says(t, "n2", "stop", 45*time.Second+time.Millisecond)},
		{"from the future", denyStale, l.says(t, "n2", "stop", -10*time.Second-time.Millisecond)},
		{"of 1970", denyStale, sealed(t, l.keys["n2"], "n2", 0, []byte("stop"))},
	} {
		require.Equal(t, c.outcome, l.take(c.message), c.what)
		require.Equal(t, c.outcome, l.take(c.message), "%s, again: it isn't remembered", c.what)
	}
	require.Zero(t, l.ear.len())
	require.Zero(t, l.relays.len())
	require.Zero(t, l.seen.len(), "what proves nothing takes no memory")
}

func TestDenyToleratesClockSkew(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	for _, ago := range []time.Duration{2 * time.Second, -2 * time.Second, 45 * time.Second, -10 * time.Second} {
		require.Equal(t, denyAccepted, l.take(l.says(t, "n2", "stop", ago)), ago)
	}
}

func TestDenyReplayedLater(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	message := l.says(t, "n2", "stop", 0)
	require.Equal(t, denyAccepted, l.take(message))
	for range 200 { // at every moment either known or too old
		l.now = l.now.Add(time.Second)
		require.Contains(t, []string{denyDuplicate, denyStale}, l.take(message))
		l.take(l.says(t, "n3", "another", 0)) // makes room
	}
	require.Equal(t, denyStale, l.take(message))
	require.LessOrEqual(t, l.seen.len(), 120, "two generations of one a second")
	require.Equal(t, 1, l.ear.heard("n2", "stop"))
}

func TestDenyOfAMemberThatComesAndGoes(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	message := l.says(t, "n4", "stop", 0)
	require.Equal(t, denyStranger, l.take(message))
	l.admit("n4")
	require.Equal(t, denyAccepted, l.take(message), "what was refused is not held against it")
	delete(l.table.state.Members, "n4")
	require.Equal(t, denyStranger, l.take(l.says(t, "n4", "stop", 0)))
	require.Equal(t, 1, l.ear.len())
}

func TestDenyOfOneselfComesBack(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	require.Equal(t, denyDuplicate, l.take(l.says(t, "n1", "stop", 0)), "said before a restart")
	require.Zero(t, l.ear.len())
	require.Zero(t, l.relays.len())
}

// memberlist may use its bytes again, and must never wait.
func TestDenyDelegateCopiesAndNeverWaits(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	delegate := denyDelegate{l.denials}
	message := l.says(t, "n2", "stop", 0)
	want := slices.Clone(message)
	delegate.NotifyMsg(message)
	clear(message)
	require.Equal(t, want, <-l.inbox)

	for range denyInbox + 10 { // nobody takes them
		delegate.NotifyMsg(want)
	}
	require.Equal(t, 10, counterValue(t, l.overflow.WithLabelValues(denyQueueIn)))
	require.Equal(t, denyInbox+11, counterValue(t, l.events.WithLabelValues(denyReceived)))
	delegate.NotifyMsg(make([]byte, 1<<20))
	delegate.NotifyMsg(nil)
	require.Equal(t, 2, counterValue(t, l.events.WithLabelValues(denyMalformed)))

	require.Nil(t, delegate.NodeMeta(512))
	require.Nil(t, delegate.LocalState(true))
	require.Nil(t, delegate.GetBroadcasts(3, 1400))
	delegate.MergeRemoteState([]byte("anything"), true)
}

func TestDenyQueuesDropTheOldestAndCount(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	for i := range denyOutbox + 10 {
		require.NoError(t, l.deny(numbered(i)))
	}
	require.Equal(t, 10, counterValue(t, l.overflow.WithLabelValues(denyQueueOut)))
	oldest, _ := l.outbox.pop()
	require.Equal(t, numbered(10), oldest)

	l.relays = newDenyQueue(5)
	for range 8 {
		require.Equal(t, denyAccepted, l.take(l.says(t, "n2", "stop", 0)))
	}
	require.Equal(t, 3, counterValue(t, l.overflow.WithLabelValues(denyQueueRelay)))
}

func TestDenyIsPassedOnToThreeOthers(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	require.Equal(t, []string{"n3"}, idsOf(l.listeners("n2")), "neither to oneself nor back to the origin")
	for _, id := range []string{"n5", "n6", "n7", "n8"} {
		l.table.state.Members[id] = Member{ID: id}
	}
	told := map[string]int{}
	for range 300 {
		listeners := idsOf(l.listeners("n2"))
		require.Len(t, listeners, denyFanout)
		require.Len(t, slices.Compact(listeners), denyFanout)
		for _, id := range listeners {
			told[id]++
		}
	}
	require.Len(t, told, 5, "each has its turn: %v", told)
	require.NotContains(t, told, "n1")
	require.NotContains(t, told, "n2")
}

func idsOf(members []Member) []string {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return ids
}

// A name instead of an address would have every deny wait for DNS.
func TestDenyIsSentToAddressesOnly(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	var sent []string
	l.send = func(addr string, _ []byte) error {
		sent = append(sent, addr)
		return nil
	}
	for _, addr := range []string{"", "node-2.example:8431", "127.0.0.1:8431", "[::1]:8431"} {
		l.sendTo(Member{ID: "n2", GossipAddr: addr}, []byte("x"), denySent)
	}
	require.Equal(t, []string{"127.0.0.1:8431", "[::1]:8431"}, sent)
	require.Equal(t, 2, counterValue(t, l.events.WithLabelValues(denyUnsent)))
	require.Equal(t, 2, counterValue(t, l.events.WithLabelValues(denySent)))
}

func TestDenyRefusesWhatItCantSay(t *testing.T) {
	t.Parallel()
	n := newDenyNode(t, "n1", gossipKeyFor(t))
	require.ErrorIs(t, n.Deny([]byte("stop")), ErrStopped, "not started")
	run(t, n)
	require.NoError(t, n.Deny(make([]byte, MaxDenyPayload)), "alone, it has nobody to tell")
	require.ErrorIs(t, n.Deny(make([]byte, MaxDenyPayload+1)), ErrTooLarge)
	require.Error(t, n.Deny(nil))
	require.NoError(t, n.Stop(context.Background()))
	require.ErrorIs(t, n.Deny([]byte("stop")), ErrStopped)
}
