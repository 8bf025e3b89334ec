package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
)

const (
	shortLease = time.Second
	// leaseMemory is how long a longer lease is reckoned with after it was made shorter: that lease, by clocks that
	// differ by a fifth, and five seconds.
	leaseMemory = identity.DefaultLeaseMillis*time.Millisecond*6/5 + 5*time.Second
)

// What the suite over real processes shows at length, in short and without rights: three nodes in one process, of
// which one is not heard any more. It falls silent when its lease is over, and accepts nothing that was fenced
// meanwhile, neither then nor when it is back.
func TestNodeThatHearsNothingFallsSilentAndHonoursTheFence(t *testing.T) {
	if testing.Short() {
		t.Skip("it lives through several leases")
	}
	c := testcluster.NewBehindLinks(t, 3)
	c.AwaitVoters(3)
	admin := c.Client()
	setLease(t, newAsker(t, "n1", c.URL(0)), c.RootToken(), shortLease)
	changed := time.Now()
	var askers []*asker
	for i := range 3 {
		askers = append(askers, newAsker(t, c.Node(i).ID, c.URL(i)))
	}
	application, err := admin.CreateApplication(within(t, requestWait),
		&wire.ApplicationRequest{Name: "ledger", Audience: audience, Scopes: scope}, true)
	require.NoError(t, err)
	ledger := client.Credentials{ID: application.Credential.ClientID, Secret: application.Credential.Secret}
	subjectOf := func(kind stopKind, name string) *subject {
		s := newSubject(t, c.Client(), ledger, kind, name, c.Client())
		for _, a := range askers {
			requireAccepted(t, a, s)
		}
		return s
	}

	living := subjectOf(stopAgent, "isolated")
	for i := range 3 { // a lease that was granted before the change runs as long as it was granted for
		eventually(t, readyWait, "a lease of the new length", func() error {
			status, err := c.Client(i).Freshness(within(t, requestWait))
			if err == nil && status.RemainingMilliseconds > float64(shortLease.Milliseconds()) {
				err = fmt.Errorf("%s has %.0f ms left", status.ID, status.RemainingMilliseconds)
			}
			return err
		})
	}
	for round := range 2 {
		requireSilentWhileCut(t, c, living, askers, round)
	}
	pass(time.Until(changed.Add(leaseMemory + time.Second)))

	var asked tally
	for round, kind := range stopKinds {
		s := subjectOf(kind, fmt.Sprintf("fenced-%s", kind))
		cut, said := fencedWhileCut(t, c, s, askers, round)
		ask := func(a *asker) (clear bool) { return asked.ask(t.Context(), s, a) }
		for _, a := range askers {
			ask(a)
		}
		c.Node(cut).Link.Mend()
		for _, a := range askers {
			eventually(t, readyWait, a.node+" to say a clear no", func() error {
				if !ask(a) {
					return fmt.Errorf("%s", &asked)
				}
				return nil
			})
		}
		t.Logf("%s fenced at index %d with %s cut off: %+v", kind, said.Index, askers[cut].node, said.Nodes)
	}
	t.Logf("== in short: %s", &asked)
	require.Empty(t, asked.wrong)
}

// followers are the nodes that do not lead. A link cuts off one that hears, not one that speaks: a leader whose own
// link is cut still reaches the others.
func followers(t *testing.T, c *testcluster.Cluster) []int {
	t.Helper()
	var indexes []int
	eventually(t, readyWait, "two followers", func() error {
		members, err := c.Client().Members(within(t, requestWait))
		if err != nil {
			return err
		}
		indexes = nil
		for _, m := range members.Items {
			for i := range 3 {
				if c.Node(i).ID == m.ID && !m.Leader {
					indexes = append(indexes, i)
				}
			}
		}
		if len(indexes) != 2 {
			return fmt.Errorf("%+v", members.Items)
		}
		return nil
	})
	return indexes
}

// requireSilentWhileCut cuts a follower off and has it fall silent once its lease is over. As with fencedWhileCut the
// cut one may be elected: then it has a majority, and speaks by right.
func requireSilentWhileCut(t *testing.T, c *testcluster.Cluster, living *subject, askers []*asker, round int) {
	t.Helper()
	const tries = 8
	var last time.Duration
	for range tries {
		i := followers(t, c)[round%2]
		last, _ = lastWord(t, askers[i], living, shortLease, c.Node(i).Link.Cut)
		elected := c.Node(i).Leads()
		c.Node(i).Link.Mend()
		requireAccepted(t, askers[i], living)
		if last <= shortLease+isolationMargin {
			return
		}
		require.True(t, elected, "%s spoke %s after it was cut off, without a majority", askers[i].node, last)
	}
	require.FailNow(t, "the node that is cut off leads every time")
}

// fencedWhileCut says stop while a follower is cut off, and returns which, once that is fenced. On a machine that is
// short of time an election may make the cut one leader: it still reaches the others, and nobody reaches it. Then its
// link is mended and another is cut.
func fencedWhileCut(t *testing.T, c *testcluster.Cluster, s *subject, askers []*asker, round int) (cut int, said stopped) {
	t.Helper()
	const tries = 8
	for range tries {
		cut = followers(t, c)[round%2]
		at := askers[(cut+1+round/2)%3]
		c.Node(cut).Link.Cut()
		var err error
		if said, err = s.stop(within(t, requestWait), at, c.RootToken(), 5*time.Second); err == nil && said.Fenced {
			return cut, said
		}
		t.Logf("not fenced with %s cut off: %+v, %v", askers[cut].node, said, err)
		c.Node(cut).Link.Mend()
	}
	require.FailNow(t, "no stop was fenced", "%d tries, the last answered %+v", tries, said)
	return 0, stopped{}
}
