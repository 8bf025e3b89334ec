package api

import (
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

var grantForm = url.Values{"grant_type": {"client_credentials"}}

// refusedForNow wants what no client takes as final.
func (a answer) refusedForNow() {
	a.t.Helper()
	if a.Header.Get("Content-Type") == wire.ContentTypeProblem {
		a.refused(identity.CodeNotFresh)
	} else {
		a.refusedOAuth(503, "temporarily_unavailable")
	}
	require.Equal(a.t, "1", a.Header.Get("Retry-After"))
	require.Empty(a.t, a.Header.Get("Www-Authenticate"))
}

func TestNodeThatKnowsNothingCallsNobodyUnknown(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	application := g.nodes[0].applicationWithSecret(zendesk)
	secret := g.nodes[0].agentWithSecret(zendeskAgent)
	minted := g.nodes[0].mint("support-triage-agent", secret, nil)
	n := g.newcomer(t)
	g.lead(-1)

	agent := basic("support-triage-agent", secret)
	form := url.Values{"token": {minted.AccessToken}}
	for name, a := range map[string]answer{
		"a mint":              n.send("POST", "/oauth2/token", grantForm, agent),
		"an introspection":    n.send("POST", "/oauth2/introspect", form, basic("zendesk", application)),
		"a revocation":        n.send("POST", "/oauth2/revoke", form, basic("zendesk", application)),
		"an agent's session":  n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`, agent),
		"a runtime's session": n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`),
		"a read":              n.send("GET", "/api/v1/agents/support-triage-agent", nil),
		"a write":             n.send("POST", "/api/v1/agents", articleAgent),
		"an explanation":      n.send("POST", "/api/v1/tokens/explain", wire.ExplainRequest{Token: minted.AccessToken}),
		"keys":                n.send("GET", "/.well-known/jwks.json", nil),
		"metadata":            n.send("GET", "/.well-known/oauth-authorization-server", nil),
	} {
		t.Run(name, func(t *testing.T) { a.t = t; a.refusedForNow() })
	}
	require.Equal(t, 200, n.send("GET", "/openapi.json", nil).Status)

	// What is wrong with the request itself is wrong at every node.
	n.send("GET", "/api/v1/agents", nil, anonymous).refused(identity.CodeUnauthenticated)
	n.send("POST", "/oauth2/token", grantForm).refusedOAuth(401, "invalid_client")
	n.send("POST", "/oauth2/token", grantForm, with("Authorization", "Basic !!")).refusedOAuth(401, "invalid_client")
	n.send("POST", "/oauth2/token", `{}`, agent).refusedOAuth(415, "invalid_request")
	n.send("GET", "/api/v1/nothing", nil).refused(identity.CodeNotFound)
	n.send("DELETE", "/api/v1/agents", nil).refused(identity.CodeMethodNotAllowed)
}

func TestRefusalFromStateNeedsTheLease(t *testing.T) {
	t.Parallel()
	g, _, secret := newInbox(t, 1)
	n := g.nodes[0]
	g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	agent := basic("inbox-assistant", secret)
	scope := url.Values{"grant_type": {"client_credentials"}, "scope": {"root.all"}}
	send := func() []answer {
		return []answer{
			n.send("GET", "/api/v1/agents", nil, token("dpt_deleted")),
			n.send("POST", "/api/v1/sessions", articleSession, token("dpt_auditor")),
			n.send("POST", "/api/v1/sessions", `{"agent_id":"nobody"}`),
			n.send("POST", "/api/v1/sessions", articleSession, agent),
			n.send("POST", "/oauth2/token", scope, agent),
			n.send("POST", "/oauth2/token", grantForm, basic("inbox-assistant", "dps_wrong")),
			n.send("GET", "/api/v1/agents/nobody", nil),
			n.send("POST", "/api/v1/agents/nobody/lifecycle/suspend", nil),
		}
	}
	for _, a := range send() {
		require.GreaterOrEqual(t, a.Status, 400)
		require.Less(t, a.Status, 500, "%s", a.Body)
	}
	n.stale = true
	for _, a := range send() {
		a.refusedForNow()
	}
	n.send("POST", "/api/v1/sessions", `{`, agent).refused(identity.CodeInvalid)
	n.send("GET", "/api/v1/agents?limit=0", nil).refused(identity.CodeInvalid)
	n.send("POST", "/api/v1/sessions", articleSession, contentType("text/plain"), agent).refused(identity.CodeUnsupportedMedia)
	n.send("POST", "/oauth2/token", url.Values{"grant_type": {"password"}}, agent).refusedOAuth(400, "unsupported_grant_type")
	require.Len(t, ok[wire.JWKS](n.send("GET", "/.well-known/jwks.json", nil), 200).Keys, 1, "keys that are known stay known")
}

func TestReadsSayWhereTheyMayBeOld(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	fresh := n.send("GET", "/api/v1/agents", nil)
	require.Equal(t, 200, fresh.Status)
	require.Empty(t, fresh.Header.Values(wire.HeaderFresh))
	n.stale = true
	old := n.send("GET", "/api/v1/agents", nil)
	require.Equal(t, 200, old.Status)
	require.Equal(t, "false", old.Header.Get(wire.HeaderFresh))
}

func TestWritesNeedTheLeadersLeaseAlone(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	leader, follower := g.nodes[0], g.nodes[1]
	follower.stale = true
	made := follower.send("POST", "/api/v1/agents", articleAgent)
	require.Equal(t, 201, made.Status)
	require.Empty(t, made.Header.Values(wire.HeaderFresh))
	follower.send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeAlreadyExists)
	const kill = "/api/v1/agents/support-triage-agent/revoke"
	require.Empty(t, follower.send("POST", kill+"?dry_run=true", nil).Header.Values(wire.HeaderFresh))

	leader.stale, follower.stale = true, false
	follower.send("POST", "/api/v1/agents/nobody/revoke", nil).refusedForNow()
	require.Equal(t, "false", follower.send("POST", kill+"?dry_run=true", nil).Header.Get(wire.HeaderFresh))
	// What the log has decided needs nobody's lease.
	follower.send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeAlreadyExists)
	done := leader.send("POST", kill, nil)
	require.Equal(t, 200, done.Status)
	require.Empty(t, done.Header.Values(wire.HeaderFresh))
}

func TestAnswerIsHeldToTheLeaseFromBeforeTheStateWasRead(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	application := n.applicationWithSecret(zendesk)
	secret := n.agentWithSecret(zendeskAgent)
	minted := n.mint("support-triage-agent", secret, nil)
	// The lease ends, and is renewed, while the request is under way.
	send := func(method, path string, body any, options ...option) answer {
		n.hiccup.Store(true)
		return n.send(method, path, body, options...)
	}
	for _, a := range []answer{
		send("POST", "/oauth2/token", grantForm, basic("support-triage-agent", secret)),
		send("POST", "/oauth2/introspect", url.Values{"token": {minted.AccessToken}}, basic("zendesk", application)),
		send("POST", "/oauth2/introspect", url.Values{"token": {"garbage"}}, basic("zendesk", application)),
		send("POST", "/oauth2/revoke", url.Values{"token": {"garbage"}}, basic("zendesk", application)),
		send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`),
		send("POST", "/api/v1/tokens/explain", wire.ExplainRequest{Token: minted.AccessToken}),
		send("GET", "/api/v1/agents/nobody", nil),
	} {
		a.refusedForNow()
	}
	require.Equal(t, "false", send("GET", "/api/v1/agents", nil).Header.Get(wire.HeaderFresh))
	n.mint("support-triage-agent", secret, nil)
}

// ahead is an index that the node has not reached.
func (n *node) ahead() option {
	return with(wire.HeaderIndex, strconv.FormatUint(n.fsm.Applied()+1, 10))
}

// whereNobodyCanWait takes every place in which a request could wait: one that tries to is refused as overloaded.
func (n *node) whereNobodyCanWait(do func()) {
	n.t.Helper()
	n.api.waiting.n.Store(maxWaiters)
	do()
	require.EqualValues(n.t, maxWaiters, n.api.waiting.n.Load(), "every place that was taken was given back")
	n.api.waiting.n.Store(0)
}

func TestNobodyWaitsForFree(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1, func(o *Options) { o.Limits = Limits{RequestsPerSecond: 1, Burst: 3} })
	n := g.nodes[0]
	n.whereNobodyCanWait(func() {
		n.send("GET", "/api/v1/agents", nil, anonymous, n.ahead()).refused(identity.CodeUnauthenticated)
		n.send("POST", "/oauth2/token", grantForm, n.ahead()).refusedOAuth(401, "invalid_client")
		n.send("GET", "/openapi.json", nil, n.ahead()).refused(identity.CodeStaleIndex)
		n.send("GET", "/api/v1/agents", nil, token("dpt_guess"), n.ahead()).refused(identity.CodeRateLimited)
	})
	n.send("GET", "/api/v1/agents", nil, n.ahead()).refused(identity.CodeStaleIndex)
}

func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	n.api.waiting.n.Store(maxStrangers)
	a := n.send("GET", "/api/v1/agents", nil, token("dpt_guess"), n.ahead())
	a.refused(identity.CodeOverloaded)
	require.Equal(t, "1", a.Header.Get("Retry-After"))
	n.send("GET", "/api/v1/agents", nil, n.ahead()).refused(identity.CodeStaleIndex) // waited: strangers leave room
	require.EqualValues(t, maxStrangers, n.api.waiting.n.Load(), "every place that was taken was given back")
	n.whereNobodyCanWait(func() {
		n.send("GET", "/api/v1/agents", nil, n.ahead()).refused(identity.CodeOverloaded)
		for _, index := range []uint64{n.fsm.Applied() + maxAhead + 1, 1<<64 - 1} {
			n.send("GET", "/api/v1/agents", nil, with(wire.HeaderIndex, strconv.FormatUint(index, 10))).refused(identity.CodeStaleIndex)
		}
	})
}

func TestCredentialMadeAMomentAgoIsWaitedFor(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1]
	g.holdBack(1)
	made := g.nodes[0].send("POST", "/api/v1/api-tokens", wire.APITokenRequest{Name: "new", Roles: []identity.Role{identity.RoleAuditor}})
	secret := ok[wire.APIToken](made, 201).Token
	created := g.nodes[0].send("POST", "/api/v1/agents?credentials=secret", articleAgent)
	client := basic("support-triage-agent", ok[wire.Agent](created, 201).Credential.Secret)
	seen := with(wire.HeaderIndex, created.Header.Get(wire.HeaderIndex))

	n.send("GET", "/api/v1/agents", nil, token(secret)).refused(identity.CodeUnauthenticated)
	n.send("GET", "/api/v1/agents", nil, token(secret), seen).refused(identity.CodeStaleIndex)
	n.api.readWait = time.Minute // they are to wait at the same time, however busy the machine is
	answers := make(chan answer, 3)
	go func() { answers <- n.send("GET", "/api/v1/agents", nil, token(secret), seen) }()
	go func() { answers <- n.send("POST", "/oauth2/token", grantForm, client, seen) }()
	go func() {
		answers <- n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`, client, seen)
	}()
	require.Eventually(t, func() bool { return n.api.waiting.n.Load() == 3 }, 5*time.Second, time.Millisecond)
	g.release(1)
	for range 3 {
		a := <-answers
		require.Less(t, a.Status, 300, "%s", a.Body)
	}
	require.Zero(t, n.api.waiting.n.Load())
}

func TestCredentialDeletedWhileWaitingIsNoneAnyMore(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1]
	made := g.addToken(t, "dpt_brief", identity.APIToken{Name: "brief", Roles: []identity.Role{identity.RoleAdmin}})
	g.holdBack(1)
	deleted := g.nodes[0].send("DELETE", "/api/v1/api-tokens/"+made.ID, nil)
	seen := with(wire.HeaderIndex, deleted.Header.Get(wire.HeaderIndex))
	n.api.readWait = time.Minute
	done := make(chan answer, 1)
	go func() { done <- n.send("GET", "/api/v1/agents", nil, token("dpt_brief"), seen) }()
	require.Eventually(t, func() bool { return n.api.waiting.n.Load() == 1 }, 5*time.Second, time.Millisecond)
	g.release(1)
	(<-done).refused(identity.CodeUnauthenticated)
}

func TestTwoAuthorizationHeadersAreNone(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1]
	secret := g.nodes[0].agentWithSecret(zendeskAgent)
	application := g.nodes[0].applicationWithSecret(zendesk)
	second := also("Authorization", "SSWS "+n.root)
	n.send("GET", "/api/v1/agents", nil, second).refused(identity.CodeUnauthenticated)
	n.send("GET", "/api/v1/agents", nil, token("dpt_wrong"), second).refused(identity.CodeUnauthenticated)
	n.send("POST", "/api/v1/agents", articleAgent, second).refused(identity.CodeUnauthenticated)
	agent := basic("support-triage-agent", secret)
	n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`, agent, second).refused(identity.CodeUnauthenticated)
	n.send("POST", "/oauth2/token", grantForm, agent, second).refusedOAuth(401, "invalid_client")

	// They don't stand in the way of another method either, here or at the leader.
	minted := n.mint("support-triage-agent", secret, nil).AccessToken
	form := url.Values{"token": {minted}, "client_id": {"zendesk"}, "client_secret": {application}}
	require.Equal(t, 200, n.send("POST", "/oauth2/revoke", form, with("Authorization", "Basic eDp5"), second).Status)
}

func TestRevokedAPITokenKillsWhatItMinted(t *testing.T) {
	t.Parallel()
	g, application, _ := newInbox(t, 2)
	n := g.nodes[1]
	made := ok[wire.APIToken](n.send("POST", "/api/v1/api-tokens", wire.APITokenRequest{
		Name: "leaked", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"inbox-assistant"},
	}), 201)
	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(made.Token)), 201)
	claims, err := tokens.Decode([]byte(s.AccessToken))
	require.NoError(t, err)
	require.Contains(t, claims.Ancestry, identity.CredentialHandle(made.ID))
	other := ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)

	const key = "the same for both"
	n.send("DELETE", "/api/v1/agents/nobody", nil, idempotencyKey(key)).refused(identity.CodeNotFound)
	deleted := ok[wire.Deleted](n.send("DELETE", "/api/v1/api-tokens/"+made.ID, nil, idempotencyKey(key)), 200)
	require.Equal(t, []identity.Handle{identity.CredentialHandle(made.ID)}, deleted.Handles)
	require.True(t, deleted.Known)
	require.NotZero(t, deleted.Index)
	for _, node := range g.nodes {
		require.False(t, node.introspect("gmail", application, s.AccessToken).Active)
		require.True(t, node.introspect("gmail", application, other.AccessToken).Active, "others' sessions live on")
	}
	n.send("DELETE", "/api/v1/api-tokens/"+made.ID, nil, idempotencyKey(key)).refused(identity.CodeNotFound)
	n.send("DELETE", "/api/v1/api-tokens/tok_nonsense", nil).refused(identity.CodeNotFound)
}

func TestDeletionOfAnAPITokenSurvivesAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	made := g.addToken(t, "dpt_second", identity.APIToken{Name: "second", Roles: []identity.Role{identity.RoleAuditor}})
	g.loseAnAnswer()
	deleted := ok[wire.Deleted](g.nodes[0].send("DELETE", "/api/v1/api-tokens/"+made.ID, nil), 200)
	require.Equal(t, []identity.Handle{identity.CredentialHandle(made.ID)}, deleted.Handles)
}
