package api

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// slowFence has the fence of a node wait for n3 until the request's time is up.
func slowFence(ctx context.Context, _ *node) (Fence, error) {
	<-ctx.Done()
	return Fence{Nodes: []FenceNode{{"n1", wire.NodeFenced, time.Millisecond}, {"n3", wire.NodeWaiting, time.Second}}}, nil
}

func TestFencedStopSaysHowEachNodeStands(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"at the leader": 0, "at a follower": 1} {
		t.Run(name, func(t *testing.T) {
			g, _, _ := newInbox(t, 3)
			n := g.nodes[number]
			a := n.send("POST", "/api/v1/revocations", `{"agent_id":"inbox-assistant","reason":"INC-42","wait":"fenced"}`)
			r := ok[wire.Revocation](a, 200)
			require.True(t, r.Committed)
			require.True(t, r.Fenced)
			require.Equal(t, "true", a.Header.Get(wire.HeaderFenced))
			require.Equal(t, []wire.FencedNode{{ID: "n1", State: "fenced", After: 2.5}, {ID: "n2", State: "fenced", After: 2.5}, {ID: "n3", State: "fenced", After: 2.5}}, r.Nodes)
			require.Equal(t, &wire.Denied{Nodes: 3, Of: 3, After: 1.5}, r.Denied)
			require.Equal(t, g.time().Add(12*time.Second), r.ValidatorsUntil.Time())
			require.Equal(t, g.time().Add(5*time.Minute+4*time.Second), r.OfflineUntil.Time())

			fences := g.nodes[0].cluster.raised()
			require.Len(t, fences, 1)
			require.Equal(t, r.Index, fences[0].index)
			require.Len(t, fences[0].entries, 1)
			require.Equal(t, r.Handles[0], fences[0].entries[0].Handle)
			require.NotZero(t, fences[0].entries[0].Expires)
			require.False(t, fences[0].entries[0].Provisional)
		})
	}
}

func TestCommittedStopIsNotFenced(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 2)
	a := g.nodes[1].send("POST", "/api/v1/agents/inbox-assistant/revoke?wait=committed", nil)
	k := ok[wire.Kill](a, 200)
	require.True(t, k.Committed)
	require.False(t, k.Fenced)
	require.Empty(t, k.Nodes)
	require.Nil(t, k.Denied)
	require.Zero(t, k.ValidatorsUntil)
	require.Empty(t, a.Header.Values(wire.HeaderFenced))
	require.Empty(t, g.nodes[0].cluster.raised())
}

func TestEveryWriteCanBeFenced(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 2)
	n := g.nodes[1]
	lent := ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", `{"principal_id":"a@x","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`), 201)
	key := ok[wire.APIToken](n.send("POST", "/api/v1/api-tokens", wire.APITokenRequest{Name: "x", Roles: []identity.Role{identity.RoleAuditor}}), 201)
	crd := ok[wire.NewCredential](n.send("POST", "/api/v1/agents/inbox-assistant/credentials", nil), 201)
	session := identity.NewID(identity.PrefixSession, 1, [10]byte{1})
	for _, w := range []struct {
		method, path string
		body         any
		tells        bool // in its body
	}{
		{"POST", "/api/v1/agents", articleAgent, false},
		{"PATCH", "/api/v1/agents/support-triage-agent?revoke=true", `{"labels":{"a":"b"}}`, false},
		{"PATCH", "/api/v1/settings", `{"lease_milliseconds":5000}`, false},
		{"POST", "/api/v1/cluster/join-tokens", nil, false},
		{"POST", "/api/v1/cluster/rotate-keys", nil, false},
		{"PATCH", "/api/v1/principals/a@x", `{"status":"suspended"}`, false},
		{"DELETE", "/api/v1/agents/inbox-assistant/credentials/" + crd.ID, nil, true},
		{"DELETE", "/api/v1/api-tokens/" + key.ID, nil, true},
		{"DELETE", "/api/v1/delegations/" + lent.ID, nil, true},
		{"DELETE", "/api/v1/sessions/" + session, nil, true},
		{"POST", "/api/v1/revocations", `{"handles":["` + session + `"]}`, true},
		{"POST", "/api/v1/principals/a@x/revoke", nil, true},
		{"POST", "/api/v1/agents/inbox-assistant/lifecycle/suspend", nil, true},
		{"DELETE", "/api/v1/principals/a@x", nil, true},
		{"DELETE", "/api/v1/agents/inbox-assistant", nil, true},
	} {
		t.Run(w.method+" "+w.path, func(t *testing.T) {
			n.t = t
			before := len(g.nodes[0].cluster.raised())
			join := "?"
			if strings.Contains(w.path, "?") {
				join = "&"
			}
			a := n.send(w.method, w.path+join+"wait=fenced", w.body)
			require.Less(t, a.Status, 300, "%s", a.Body)
			require.Equal(t, "true", a.Header.Get(wire.HeaderFenced))
			raised := g.nodes[0].cluster.raised()
			require.Len(t, raised, before+1)
			require.Equal(t, w.tells, strings.Contains(string(a.Body), `"fenced":true`), "%s", a.Body)
			require.Equal(t, w.tells, strings.Contains(string(a.Body), `"denied":{`), "%s", a.Body)
		})
	}
}

func TestFenceThatIsNotThroughInTimeNamesWhoIsMissing(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"at the leader": 0, "at a follower": 1} {
		t.Run(name, func(t *testing.T) {
			g, _, _ := newInbox(t, 3)
			g.nodes[0].cluster.onFence = slowFence
			started := time.Now()
			a := g.nodes[number].send("POST", "/api/v1/agents/inbox-assistant/revoke?wait=fenced&timeout_seconds=1", nil)
			took := time.Since(started)
			require.Greater(t, took, 900*time.Millisecond)
			require.Less(t, took, 10*time.Second, "not as long as a fence is waited for by default")
			k := ok[wire.Kill](a, 200)
			require.True(t, k.Committed)
			require.False(t, k.Fenced)
			require.Equal(t, "false", a.Header.Get(wire.HeaderFenced))
			require.Equal(t, []wire.FencedNode{{ID: "n1", State: "fenced", After: 1}, {ID: "n3", State: "waiting", After: 1000}}, k.Nodes)
			require.NotNil(t, k.Denied)
			require.Zero(t, k.ValidatorsUntil)
			require.Zero(t, k.OfflineUntil)
		})
	}
}

func TestTimeoutsAreBounded(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	for _, text := range []string{"0", "61", "-1", "x", "1.5"} {
		n.send("POST", "/api/v1/agents?wait=fenced&timeout_seconds="+text, articleAgent).refused(identity.CodeInvalid)
	}
	n.send("POST", "/api/v1/cluster/transfer-leadership?wait=fenced", nil).refused(identity.CodeInvalid)
	require.Zero(t, n.cluster.handing)
	ok[wire.Agent](n.send("POST", "/api/v1/agents?wait=fenced&timeout_seconds=60", articleAgent), 201)
}

func TestFenceGoesOnAtTheNextLeader(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"asked of the old leader": 0, "asked of the new one": 1, "asked of another": 2} {
		t.Run(name, func(t *testing.T) {
			g, _, _ := newInbox(t, 3)
			g.nodes[0].cluster.onFence = func(context.Context, *node) (Fence, error) {
				g.lead(1)
				return Fence{}, errNoLeader()
			}
			const path = "/api/v1/agents/inbox-assistant/revoke?wait=fenced"
			k := ok[wire.Kill](g.nodes[number].send("POST", path, nil), 200)
			require.True(t, k.Fenced)
			require.Empty(t, k.Detail)
			require.Len(t, g.nodes[1].cluster.raised(), 1)
			require.Equal(t, g.nodes[0].cluster.raised()[0], g.nodes[1].cluster.raised()[0], "the same command, made once")
			require.Len(t, ok[[]wire.RevocationRecord](g.nodes[1].send("GET", "/api/v1/revocations", nil), 200), 1)
		})
	}
}

func TestWhatIsCommittedStaysSoWhereNobodyCanFenceIt(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"at the leader": 0, "at a follower": 1} {
		t.Run(name, func(t *testing.T) {
			g, _, _ := newInbox(t, 2)
			g.nodes[0].cluster.onFence = func(context.Context, *node) (Fence, error) {
				g.lead(-1)
				return Fence{}, errNoLeader()
			}
			a := g.nodes[number].send("DELETE", "/api/v1/agents/inbox-assistant?wait=fenced&timeout_seconds=1", nil)
			d := ok[wire.Deleted](a, 200)
			require.True(t, d.Committed)
			require.False(t, d.Fenced)
			require.NotZero(t, d.Index)
			require.Contains(t, d.Detail, "leadership changed")
			require.Equal(t, []wire.FencedNode{{ID: "n1", State: "waiting"}}, d.Nodes, "the members that are known")
			require.Equal(t, "false", a.Header.Get(wire.HeaderFenced))
			require.Empty(t, g.nodes[number].denials.kept)
		})
	}
}

func TestDeletionThatIsGoneAtTheNextLeaderIsCommittedAllTheSame(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 2)
	n := g.nodes[0]
	n.cluster.onFence = func(context.Context, *node) (Fence, error) {
		g.lead(1)
		return Fence{}, errNoLeader()
	}
	lent := ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", `{"principal_id":"a@x","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`), 201)
	for _, path := range []string{"/api/v1/delegations/" + lent.ID, "/api/v1/principals/a@x", "/api/v1/agents/inbox-assistant", "/api/v1/applications/gmail"} {
		g.lead(0)
		d := ok[wire.Deleted](n.send("DELETE", path+"?wait=fenced", nil), 200)
		require.True(t, d.Committed, path)
		if path != "/api/v1/applications/gmail" { // which the next leader no longer finds
			require.True(t, d.Fenced, path)
		}
	}
}

func TestTokenEndpointRevokesFenced(t *testing.T) {
	t.Parallel()
	g, application, agent := newInbox(t, 2)
	lend := `{"principal_id":"a@x","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`
	ok[wire.Delegation](g.nodes[0].send("POST", "/api/v1/delegations?ensure_principal=true", lend), 201)
	s := ok[wire.Session](g.nodes[0].send("POST", "/api/v1/sessions", `{"agent_id":"inbox-assistant","principal_user_id":"a@x"}`, basic("inbox-assistant", agent)), 201)
	a := g.nodes[1].send("POST", "/oauth2/revoke?wait=fenced", url.Values{"token": {s.AccessToken}}, basic("gmail", application))
	require.Equal(t, 200, a.Status)
	require.Empty(t, a.Body)
	require.Equal(t, "true", a.Header.Get(wire.HeaderFenced))
	require.Equal(t, []identity.Handle{identity.SessionHandle(s.SessionID)}, g.nodes[1].denials.denied[0])
}

func TestEarlierLongerLeaseCountsForValidators(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	ok[wire.Settings](n.send("PATCH", "/api/v1/settings", `{"lease_milliseconds":60000}`), 200)
	ok[wire.Settings](n.send("PATCH", "/api/v1/settings", `{"lease_milliseconds":500,"offline_token_ttl_seconds":60}`), 200)
	r := ok[wire.Revocation](n.send("POST", "/api/v1/revocations?wait=fenced", `{"agent_id":"inbox-assistant"}`), 200)
	require.Equal(t, g.time().Add(72*time.Second), r.ValidatorsUntil.Time())
	require.Equal(t, g.time().Add(5*time.Minute+4*time.Second), r.OfflineUntil.Time())
	g.advance(10 * time.Minute)
	g.setUp(t, fsm.Tick{})
	r = ok[wire.Revocation](n.send("POST", "/api/v1/revocations?wait=fenced", `{"agent_id":"inbox-assistant"}`), 200)
	require.Equal(t, g.time().Add(600*time.Millisecond), r.ValidatorsUntil.Time())
	require.Equal(t, g.time().Add(64*time.Second), r.OfflineUntil.Time())
}
