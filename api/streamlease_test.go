package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func TestLeaseIsWhatIsLeftOfTheNodesOwn(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	at := g.revoke(t, "ses_a")
	g.setUp(t, fsm.Tick{})
	n.deny("ses_b") // ahead of the log: no validator has to have it
	a := n.send("GET", leasePath, nil)
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	lease := ok[wire.ValidatorLease](a, 200)
	require.Equal(t, wire.ValidatorLease{
		ValidFor: 9000, Index: at, Log: n.fsm.View().Log(), Time: identity.InstantOf(g.time()),
	}, lease)
	for seen, reached := range map[uint64]bool{0: false, at - 1: false, at: true, at + 1: true, 1 << 60: true} {
		lease := ok[wire.ValidatorLease](n.send("GET", fmt.Sprintf("%s?seen=%d", leasePath, seen), nil), 200)
		require.Equal(t, reached, lease.Reached, "seen %d of %d", seen, at)
		require.Equal(t, at, lease.Index)
	}
	n.send("GET", leasePath+"?seen=x", nil).refused(identity.CodeInvalid)
	n.send("GET", leasePath+"?from=1", nil).refused(identity.CodeInvalid)
	secret := n.applicationWithSecret(gmail)
	ok[wire.ValidatorLease](n.send("GET", leasePath, nil, basic("gmail", secret)), 200)
}

// A validator has to have what a snapshot of the log brought, too.
func TestLeaseAfterASnapshotOfTheLogAsksForItsIndex(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	n.journal.Reset(1000)
	require.EqualValues(t, 1000, ok[wire.ValidatorLease](n.send("GET", leasePath+"?seen=999", nil), 200).Index)
}

// A lease that ended while the question was answered vouches for nothing, also where another has begun since.
func TestLeaseIsHeldToTheOneThatWasNoted(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	n.hiccup.Store(true)
	n.send("GET", leasePath, nil).refused(identity.CodeNotFresh)
	ok[wire.ValidatorLease](n.send("GET", leasePath, nil), 200)
}

// Once it is fenced, no validator's lease from before lasts longer than validators_until says: the node that granted
// it acknowledged the fence, and what was left of its own lease then was no more than the longest that there can be.
func TestValidatorsUntilOutlastsEveryLease(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	lease := ok[wire.ValidatorLease](n.send("GET", leasePath, nil), 200)
	granted := g.time()
	stopped := ok[wire.Revocation](n.send("POST", "/api/v1/revocations?wait=fenced", `{"session_id":"ses_01ks8n1x5b5e5fh2wwt0rrnq7a"}`), 200)
	require.True(t, stopped.Fenced)
	most := n.fsm.View().LeaseBound()
	require.LessOrEqual(t, time.Duration(lease.ValidFor*float64(time.Millisecond)), most)
	ends := granted.Add(most + most/10) // by a clock that is slower than any may be
	require.True(t, stopped.ValidatorsUntil.Time().After(ends))
	require.GreaterOrEqual(t, ok[wire.ValidatorLease](n.send("GET", leasePath, nil), 200).Index, stopped.Index, "from then on each needs the revocation")
}
