package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/virtualtime"
	"github.com/deputy-id/deputy/revocation"
)

// carried is what a node's denials sent, as the cluster would carry it.
type carried struct {
	members []string

	mu       sync.Mutex
	gossiped []identity.Handle
	told     map[string][]identity.Handle
	calls    int
	silent   string // the member that does not answer
}

func (c *carried) Members() (members []cluster.Member) {
	for _, id := range c.members {
		members = append(members, cluster.Member{ID: id})
	}
	return members
}

func (c *carried) Deny(payload []byte) error {
	handles, err := decodeHandles(payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gossiped = append(c.gossiped, handles...)
	return err
}

func (c *carried) Call(ctx context.Context, member, _ string, body []byte) ([]byte, error) {
	if member == c.silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	<-time.After(time.Millisecond) // on its way
	handles, err := decodeHandles(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.told[member] = append(c.told[member], handles...)
	return nil, err
}

func (c *carried) gossipedTimes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.gossiped)
}

func startDenials(t *testing.T, members ...string) (*denials, *carried) {
	t.Helper()
	c := &carried{members: members, told: make(map[string][]identity.Handle)}
	d := newDenials(members[0], revocation.NewJournal(revocation.NewSet()), c, time.Now, func() time.Duration { return time.Second }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	began := time.Now()
	d.boot = func() time.Duration { return time.Since(began) }
	d.tellers.boot = d.boot
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return d, c
}

func TestDenyIsFeltHereAtOnceAndTellsEveryMember(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		d, c := startDenials(t, "n1", "n2", "n3")
		handles := []identity.Handle{"agt_a#1", "ses_x"}
		said := d.deny(handles)
		require.True(t, d.set.Revoked("agt_a#1"))
		nodes, of, _ := said.Wait(t.Context())
		require.Equal(t, 3, nodes)
		require.Equal(t, 3, of)
		<-time.After(10 * time.Millisecond)
		require.Equal(t, handles, c.told["n2"])
		require.Equal(t, handles, c.told["n3"])
		require.Equal(t, handles, c.gossiped)
		said.Release()
	})
}

func TestDenyIsRepeatedUntilItsOutcomeIsKnown(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		d, c := startDenials(t, "n1", "n2")
		said := d.deny([]identity.Handle{"agt_a#1"})
		<-time.After(time.Second)
		require.Equal(t, 3, c.gossipedTimes(), "at once, and twice soon after: a datagram may be lost")
		<-time.After(31 * time.Second)
		require.Equal(t, 6, c.gossipedTimes(), "every ten seconds")
		require.True(t, d.set.Revoked("agt_a#1"), "it lasts here as long as it is repeated")
		said.Release()
		<-time.After(provisionalFor + repeatEvery + sweepEvery)
		require.Equal(t, 6, c.gossipedTimes())
		require.False(t, d.set.Revoked("agt_a#1"), "nothing has made it final")
		require.Empty(t, d.repeats)
	})
}

func TestDenyDoesNotWaitForAMemberThatIsSilent(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		d, c := startDenials(t, "n1", "n2", "n3")
		c.silent = "n3"
		said := d.deny([]identity.Handle{"ses_x"})
		defer said.Release()
		nodes, of, after := said.Wait(t.Context())
		require.Equal(t, 2, nodes)
		require.Equal(t, 3, of)
		require.Less(t, after, tellTimeout)
	})
}

func TestFloodOfDeniesCostsFewCallsAndLosesNone(t *testing.T) {
	const n = 10_000
	virtualtime.Test(t, func(t *testing.T) {
		d, c := startDenials(t, "n1", "n2")
		var last *denied
		for i := range n {
			last = d.deny([]identity.Handle{identity.Handle(fmt.Sprintf("agt_flood#%d", i))})
			last.Release()
		}
		last.Wait(t.Context())
		virtualtime.Wait()
		require.Len(t, c.told["n2"], n)
		require.Less(t, c.calls, n/10)
		require.Equal(t, n, d.set.Len())
	})
}

func TestWhatOthersDenyIsBounded(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		d, _ := startDenials(t, "n1")
		d.provisional.Store(maxProvisional)
		payload, _ := encodeHandles([]identity.Handle{"ses_x"}, 800)
		d.onDeny("n2", payload)
		require.False(t, d.set.Revoked("ses_x"))
		<-time.After(2 * sweepEvery) // the count follows what really is in the set
		d.onDeny("n2", payload)
		require.True(t, d.set.Revoked("ses_x"))
	})
}

func TestHandlesSurviveTheirEncoding(t *testing.T) {
	handles := []identity.Handle{"ses_x", "agt_a#1", "usr_user@company.com#93"}
	payload, taken := encodeHandles(handles, 800)
	require.Equal(t, len(handles), taken)
	decoded, err := decodeHandles(payload)
	require.NoError(t, err)
	require.Equal(t, handles, decoded)

	_, taken = encodeHandles(handles, 20)
	require.Equal(t, 2, taken, "the rest goes into the next message")
	for cut := 1; cut < len(payload); cut++ {
		if decoded, err := decodeHandles(payload[:cut]); err == nil {
			require.Less(t, len(decoded), len(handles))
		}
	}
	_, err = decodeHandles([]byte{0})
	require.ErrorIs(t, err, errBadHandles)
	_, err = decodeHandles([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	require.ErrorIs(t, err, errBadHandles)
}
