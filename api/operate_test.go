package api

import (
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// allMembers has the state know every node of the group as a member.
func (g *group) allMembers(t *testing.T) {
	t.Helper()
	for _, n := range g.nodes[1:] {
		hash := identity.HashSecret("join " + n.name())
		g.setUp(t, fsm.CreateJoinToken{JoinToken: identity.JoinToken{
			ID:   identity.NewID(identity.PrefixJoinToken, identity.InstantOf(g.time()), [10]byte(hash[:10])),
			Hash: hash[:], By: "test", Created: identity.InstantOf(g.time()), Expires: identity.InstantOf(g.time().Add(time.Minute)),
		}})
		g.setUp(t, fsm.AdmitMember{JoinTokenHash: hash[:], Member: identity.Member{
			ID: n.name(), Key: hash[:], ClusterAddr: "127.0.0.1:1" + n.name()[1:],
			GossipAddr: "127.0.0.1:2" + n.name()[1:], Joined: identity.InstantOf(g.time()),
		}})
	}
}

func TestDrainingNodeMintsNothingAndChecksOn(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.allMembers(t)
	application := g.nodes[0].applicationWithSecret(zendesk)
	secret := g.nodes[0].agentWithSecret(zendeskAgent)
	n := g.nodes[1]
	minted := n.mint("support-triage-agent", secret, nil)

	a := n.send("POST", "/api/v1/cluster/members/n2/drain", nil)
	d := ok[wire.Drain](a, 200)
	require.Equal(t, wire.Drain{ID: "n2", Draining: true, Index: d.Index}, d)
	require.NotZero(t, d.Index)
	agent := basic("support-triage-agent", secret)
	refused := n.send("POST", "/oauth2/token", grantForm, agent)
	require.Contains(t, refused.refusedOAuth(503, "temporarily_unavailable"), "ask another node")
	require.Equal(t, "1", refused.Header.Get("Retry-After"))
	require.Equal(t, "ask another node", n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`).refused(identity.CodeDraining).Hint)
	n.send("POST", "/oauth2/token", grantForm, basic("support-triage-agent", "dps_wrong")).refusedOAuth(401, "invalid_client")
	require.True(t, n.introspect("zendesk", application, minted.AccessToken).Active)
	g.nodes[0].mint("support-triage-agent", secret, nil)

	require.False(t, ok[wire.Drain](n.send("POST", "/api/v1/cluster/members/n2/drain", `{"draining":false}`), 200).Draining)
	n.mint("support-triage-agent", secret, nil)
	n.send("POST", "/api/v1/cluster/members/n7/drain", nil).refused(identity.CodeNotFound)
}

func TestBarredNodeMintsNothing(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.allMembers(t)
	secret := g.nodes[0].agentWithSecret(zendeskAgent)
	g.setUp(t, fsm.BarMember{ID: "n2", Reason: "on its way out"})
	g.nodes[1].send("POST", "/oauth2/token", grantForm, basic("support-triage-agent", secret)).refusedForNow()
	g.nodes[0].mint("support-triage-agent", secret, nil)
}

func TestClosedClusterMintsNothingUntilItIsOpened(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	application := n.applicationWithSecret(zendesk)
	secret := n.agentWithSecret(zendeskAgent)
	minted := n.mint("support-triage-agent", secret, nil)
	g.setUp(t, fsm.Recover{Node: "n1"})

	agent := basic("support-triage-agent", secret)
	require.Contains(t, n.send("POST", "/oauth2/token", grantForm, agent).refusedOAuth(503, "temporarily_unavailable"), "deputy cluster open")
	p := n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`).refused(identity.CodeMintingClosed)
	require.Contains(t, p.Hint, "deputy cluster open")
	require.Contains(t, p.Detail, "quorum")
	require.False(t, n.introspect("zendesk", application, minted.AccessToken).Active, "its key went with the quorum")
	require.NotEmpty(t, ok[wire.NodeStatus](n.send("GET", "/api/v1/cluster/freshness", nil), 200).MintingClosed)

	ok[wire.Change](n.send("POST", "/api/v1/cluster/open", nil), 200)
	require.Contains(t, n.cluster.asked, "open")
	g.setUp(t, fsm.OpenMinting{})
	require.NotContains(t, string(n.send("POST", "/oauth2/token", grantForm, agent).Body), "deputy cluster open")
}

// Nothing is lent for a session that can't be minted.
func TestClosedClusterLendsNothingForASession(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	g.setUp(t, fsm.Recover{Node: "n1"})
	before := n.fsm.Applied()
	n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)).refused(identity.CodeMintingClosed)
	require.Equal(t, before, n.fsm.Applied())
}

func TestKeysAreRotatedByOperators(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1]
	g.addToken(t, "dpt_op", identity.APIToken{Name: "o", Roles: []identity.Role{identity.RoleOperator}})
	g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	op := token("dpt_op")
	a := n.send("POST", "/api/v1/cluster/members/n1/rotate-key", nil, op)
	require.NotEmpty(t, a.Header.Get(wire.HeaderIndex))
	require.NotZero(t, ok[wire.Change](a, 200).Index)
	ok[wire.Change](n.send("POST", "/api/v1/cluster/rotate-keys", nil, op), 200)
	ok[wire.Change](n.send("POST", "/api/v1/cluster/rotate-gossip-key", nil, op), 200)
	require.Equal(t, []string{"rotate-key n1", "rotate-key ", "rotate-gossip"}, g.nodes[0].cluster.asked, "at the leader")
	n.send("POST", "/api/v1/cluster/members/n7/rotate-key", nil, op).refused(identity.CodeNotFound)
	n.send("POST", "/api/v1/cluster/rotate-keys", nil, token("dpt_auditor")).refused(identity.CodeForbidden)
	n.send("POST", "/api/v1/cluster/open", nil, op).refused(identity.CodeForbidden)
}

func TestRemovalSaysHow(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.allMembers(t)
	a := g.nodes[1].send("DELETE", "/api/v1/cluster/members/n2?force=true&compromised=true&reason=stolen", nil)
	require.Equal(t, "n2", ok[wire.RemovedMember](a, 200).ID)
	require.Equal(t, RemoveOptions{Reason: "stolen", Force: true, Compromised: true}, g.nodes[0].cluster.removal)
	g.nodes[0].send("DELETE", "/api/v1/cluster/members/n2?force=yes", nil).refused(identity.CodeInvalid)
}

func TestNodesSayHowTheyAre(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1]
	one := ok[wire.NodeStatus](n.send("GET", "/api/v1/cluster/freshness", nil), 200)
	require.Equal(t, wire.NodeStatus{
		ID: "n2", Fresh: true, AgeMilliseconds: 40, RemainingMilliseconds: 9000, AppliedIndex: n.fsm.Applied(), KeyID: "k1", DiskFreeBytes: 1 << 40,
	}, one)
	all := ok[[]wire.NodeStatus](n.send("GET", "/api/v1/cluster/status", nil), 200)
	require.Len(t, all, 3)
	require.True(t, all[0].Leader)
	require.Equal(t, "it did not answer", all[2].Error)

	n.stale = true
	a := n.send("GET", "/api/v1/cluster/freshness", nil)
	require.Equal(t, "false", a.Header.Get(wire.HeaderFresh))
	require.False(t, ok[wire.NodeStatus](a, 200).Fresh)
}

func TestSettingsArePatched(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1]
	before := ok[wire.Settings](n.send("GET", "/api/v1/settings", nil), 200)
	require.EqualValues(t, n.fsm.View().RevocationsKept()/time.Second, before.RevocationsKeptSeconds)
	require.Positive(t, before.RevocationsKeptSeconds)
	n.send("PATCH", "/api/v1/settings", `{"revocations_kept_seconds":1}`, mergePatchBody).refused(identity.CodeInvalid)
	a := n.send("PATCH", "/api/v1/settings", `{"lease_milliseconds":2000,"external_urls":["https://x.example.com"],"key_rotation_seconds":86400}`, mergePatchBody)
	want := before
	want.LeaseMilliseconds, want.ExternalURLs, want.KeyRotationSeconds = 2000, []string{"https://x.example.com"}, 86400
	require.Equal(t, want, ok[wire.Settings](a, 200))
	require.Equal(t, want, ok[wire.Settings](g.nodes[0].send("GET", "/api/v1/settings", nil), 200))
	want.ExternalURLs, want.KeyRotationSeconds = []string{}, 0
	require.Equal(t, want, ok[wire.Settings](n.send("PATCH", "/api/v1/settings", `{"external_urls":null,"key_rotation_seconds":0}`), 200))

	n.send("PATCH", "/api/v1/settings", `{"issuer":"https://other.example.com"}`).refused(identity.CodeInvalid)
	n.send("PATCH", "/api/v1/settings", `{"lease_milliseconds":1}`).refused(identity.CodeValidation)
	n.send("PATCH", "/api/v1/settings", `{"lease_milliseconds":null}`).refused(identity.CodeValidation)
	g.addToken(t, "dpt_op", identity.APIToken{Name: "o", Roles: []identity.Role{identity.RoleOperator}})
	n.send("PATCH", "/api/v1/settings", `{}`, token("dpt_op")).refused(identity.CodeForbidden)
}

func TestConcurrentPatchesOfSettingsBothHold(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	var both sync.WaitGroup
	answers := make([]answer, 2)
	for i, patch := range []string{`{"lease_milliseconds":2000}`, `{"offline_token_ttl_seconds":60}`} {
		both.Go(func() { answers[i] = g.nodes[i].send("PATCH", "/api/v1/settings", patch) })
	}
	both.Wait()
	for _, a := range answers {
		require.Equal(t, 200, a.Status)
	}
	s := ok[wire.Settings](g.nodes[0].send("GET", "/api/v1/settings", nil), 200)
	require.EqualValues(t, 2000, s.LeaseMilliseconds)
	require.EqualValues(t, 60, s.OfflineTokenTTLSeconds)
}

func TestDrainingIsWorkedOutOncePerState(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	secret := n.agentWithSecret(zendeskAgent)
	form := url.Values{"grant_type": {"client_credentials"}}
	n.mint("support-triage-agent", secret, form)
	view := n.fsm.View()
	require.NoError(t, n.api.mayMint(view))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = n.api.mayMint(view) }))
}
