package api

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const articleSession = `{"agent_id": "inbox-assistant", "principal_user_id": "user@company.com",
	"requested_scopes": ["gmail.read", "gmail.draft"],
	"trigger_reason": "user clicked 'summarize inbox'", "max_duration_seconds": 14400}`

const runtimeToken = "dpt_runtime-token-of-the-tests"

// newInbox has the article's second agent, its application, and a runtime that may run it.
func newInbox(t *testing.T, size int) (g *group, application, agent string) {
	t.Helper()
	g = newGroup(t, size)
	application = g.nodes[0].applicationWithSecret(gmail)
	agent = g.nodes[0].agentWithSecret(inboxAgent)
	g.addToken(t, runtimeToken, identity.APIToken{Name: "runtime", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"inbox-assistant"}})
	return g, application, agent
}

func TestDelegatedSessionOfTheArticle(t *testing.T) {
	t.Parallel()
	g, application, _ := newInbox(t, 2)
	for i, n := range g.nodes { // at the leader, which makes the delegation, and at the follower
		a := n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken))
		s := ok[wire.Session](a, 201)
		require.Equal(t, "user@company.com", *s.PrincipalUserID)
		require.Equal(t, "gmail.draft gmail.read", s.Scope)
		require.EqualValues(t, 14400, s.ExpiresIn)
		require.Equal(t, g.time().Add(4*time.Hour), s.ExpiresAt.Time())
		require.Equal(t, i == 0, a.Header.Get(wire.HeaderIndex) != "", "only the first one had to write")

		seen := n.introspect("gmail", application, s.AccessToken)
		require.True(t, seen.Active)
		require.Equal(t, "user@company.com", seen.Subject)
		require.Equal(t, "inbox-assistant", seen.Actor.Subject)

		d := ok[wire.Delegation](n.send("GET", "/api/v1/delegations/"+s.DelegationID, nil), 200)
		require.Equal(t, identity.Scopes("gmail.draft gmail.read"), d.Scopes)
		require.Equal(t, g.time().Add(4*time.Hour), d.ExpiresAt.Time())
	}
	require.Len(t, ok[[]wire.Delegation](g.nodes[1].send("GET", "/api/v1/delegations?agent=inbox-assistant&active=true", nil), 200), 1)
}

func TestFollowerMakesTheDelegationAtTheLeader(t *testing.T) {
	t.Parallel()
	g, application, _ := newInbox(t, 3)
	a := g.nodes[2].send("POST", "/api/v1/sessions", articleSession, token(runtimeToken))
	s := ok[wire.Session](a, 201)
	require.NotEmpty(t, a.Header.Get(wire.HeaderIndex))
	for _, n := range g.nodes {
		require.True(t, n.introspect("gmail", application, s.AccessToken).Active)
	}
}

func TestAutonomousSession(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	secret := n.agentWithSecret(articleAgent)
	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent","principal_user_id":null}`), 201)
	require.Nil(t, s.PrincipalUserID)
	require.Empty(t, s.DelegationID)
	own := ok[wire.Session](n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent","max_duration_seconds":60}`, basic("support-triage-agent", secret)), 201)
	require.EqualValues(t, 60, own.ExpiresIn)
	n.send("POST", "/api/v1/sessions", `{"agent_id":"other"}`, basic("support-triage-agent", secret)).refused(identity.CodeForbidden)
	n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`, basic("support-triage-agent", "dps_wrong")).refused(identity.CodeUnauthenticated)
	n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`, with("Authorization", "Basic !")).refused(identity.CodeUnauthenticated)
}

func TestAgentOnItsOwnNeedsAnExistingDelegation(t *testing.T) {
	t.Parallel()
	g, _, secret := newInbox(t, 1)
	n := g.nodes[0]
	n.send("POST", "/api/v1/sessions", articleSession, basic("inbox-assistant", secret)).refused(identity.CodeDelegationMissing)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, basic("inbox-assistant", secret)), 201)
	g.advance(5 * time.Hour)
	n.send("POST", "/api/v1/sessions", articleSession, basic("inbox-assistant", secret)).refused(identity.CodeDelegationExpired)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
}

func TestWithdrawnConsentBarsTheRuntimeButNotAnAdmin(t *testing.T) {
	t.Parallel()
	g, application, _ := newInbox(t, 1)
	n := g.nodes[0]
	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
	withdrawn := ok[wire.Deleted](n.send("DELETE", "/api/v1/delegations/"+s.DelegationID+"?reason=enough", nil), 200)
	require.Contains(t, withdrawn.Handles, identity.DelegationHandle(s.DelegationID))
	require.False(t, n.introspect("gmail", application, s.AccessToken).Active)
	n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)).refused(identity.CodeDelegationWithdrawn)
	delegation := `{"principal_id":"user@company.com","agent_id":"inbox-assistant","scopes":["gmail.read","gmail.draft"],"duration_seconds":3600}`
	n.send("POST", "/api/v1/delegations", delegation, token(runtimeToken)).refused(identity.CodeConsentWithdrawn)
	ok[wire.Delegation](n.send("POST", "/api/v1/delegations", delegation), 201)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
}

// longSession asks for four hours, of gmail.read alone.
const longSession = `{"agent_id":"inbox-assistant","principal_user_id":"user@company.com","requested_scopes":["gmail.read"],"max_duration_seconds":14400}`

func TestDelegationThatIsAboutToEndIsLentAnew(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"at the leader": 0, "at a follower": 1} {
		t.Run(name, func(t *testing.T) {
			g, _, secret := newInbox(t, 2)
			n := g.nodes[number]
			start := func(seconds string, caller option) wire.Session {
				t.Helper()
				return ok[wire.Session](n.send("POST", "/api/v1/sessions", strings.Replace(longSession, "14400", seconds, 1), caller), 201)
			}
			first := start("14400", token(runtimeToken))
			g.advance(2 * time.Hour)
			half := start("86400", token(runtimeToken)) // of which the agent may have 14400
			require.Equal(t, first.DelegationID, half.DelegationID, "half of it is enough")
			require.EqualValues(t, 2*3600, half.ExpiresIn)

			g.advance(2*time.Hour - 56*time.Second)
			require.EqualValues(t, 56, start("86400", basic("inbox-assistant", secret)).ExpiresIn, "an agent lends itself nothing")
			before := n.fsm.Applied()
			require.EqualValues(t, 56, start("100", token(runtimeToken)).ExpiresIn)
			require.Equal(t, before, n.fsm.Applied())

			anew := start("86400", token(runtimeToken))
			require.NotEqual(t, first.DelegationID, anew.DelegationID)
			require.EqualValues(t, 4*3600, anew.ExpiresIn, "as long as the agent may")
			require.Equal(t, anew.DelegationID, start("86400", token(runtimeToken)).DelegationID, "once")
		})
	}
}

func TestLendingAnewLendsNoMore(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	made := ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true",
		`{"principal_id":"user@company.com","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":600,"max_hops":2}`), 201)
	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", `{"agent_id":"inbox-assistant","principal_user_id":"user@company.com"}`, token(runtimeToken)), 201)
	require.NotEqual(t, made.ID, s.DelegationID)
	require.Equal(t, "gmail.read", s.Scope)
	anew := ok[wire.Delegation](n.send("GET", "/api/v1/delegations/"+s.DelegationID, nil), 200)
	require.Equal(t, made.Scopes, anew.Scopes)
	require.Equal(t, made.MaxHops, anew.MaxHops)
}

func TestNothingIsLentAnewAgainstAWithdrawal(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	lend := func() string {
		t.Helper()
		return ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true",
			`{"principal_id":"user@company.com","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":600}`), 201).ID
	}
	left, withdrawn := lend(), lend()
	ok[wire.Deleted](n.send("DELETE", "/api/v1/delegations/"+withdrawn, nil), 200)
	before := n.fsm.Applied()
	for _, caller := range []option{token(runtimeToken), token(n.root)} {
		s := ok[wire.Session](n.send("POST", "/api/v1/sessions", longSession, caller), 201)
		require.Equal(t, left, s.DelegationID)
		require.EqualValues(t, 600, s.ExpiresIn)
	}
	require.Equal(t, before, n.fsm.Applied())
}

func TestShortSessionIsBetterThanNone(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 2)
	s := ok[wire.Session](g.nodes[1].send("POST", "/api/v1/sessions", longSession, token(runtimeToken)), 201)
	g.advance(4*time.Hour - 56*time.Second)
	g.mu.Lock()
	g.onPropose = func(bool) error { return identity.Errorf(identity.CodeOverloaded, "too many writes are under way") }
	g.mu.Unlock()
	for _, n := range g.nodes {
		a := n.send("POST", "/api/v1/sessions", longSession, token(runtimeToken))
		brief := ok[wire.Session](a, 201)
		require.Equal(t, s.DelegationID, brief.DelegationID)
		require.EqualValues(t, 56, brief.ExpiresIn)
	}
}

func TestRefusedSessionWritesNothing(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	before := n.fsm.Applied()
	n.send("POST", "/api/v1/sessions", strings.Replace(articleSession, "gmail.draft", "gmail.send", 1), token(runtimeToken)).refused(identity.CodeScopeNotAllowed)
	require.Equal(t, before, n.fsm.Applied(), "no delegation for a session that is refused")

	ok[wire.Session](n.send("POST", "/api/v1/sessions", longSession, token(runtimeToken)), 201)
	g.advance(4*time.Hour - 56*time.Second)
	before = n.fsm.Applied()
	nowhere := strings.Replace(longSession, "}", `,"audience":["nowhere"]}`, 1)
	n.send("POST", "/api/v1/sessions", nowhere, token(runtimeToken)).refused(identity.CodeUnknownAudience)
	require.Equal(t, before, n.fsm.Applied(), "nor is one lent anew for it")
}

func TestSessionRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	ok[wire.Agent](n.send("POST", "/api/v1/agents", articleAgent), 201)
	for name, refused := range map[string]struct {
		body    string
		code    identity.Code
		pointer string
	}{
		"no body":            {``, identity.CodeInvalid, ""},
		"not JSON":           {`{"agent_id":`, identity.CodeInvalid, "/agent_id"},
		"unknown field":      {`{"agent_id":"inbox-assistant","scopes":[]}`, identity.CodeInvalid, "/scopes"},
		"repeated field":     {`{"agent_id":"inbox-assistant","agent_id":"x"}`, identity.CodeInvalid, "/agent_id"},
		"trailing data":      {`{"agent_id":"inbox-assistant"} x`, identity.CodeInvalid, ""},
		"no agent":           {`{}`, identity.CodeInvalid, "/agent_id"},
		"wrong type":         {`{"agent_id":5}`, identity.CodeInvalid, "/agent_id"},
		"scopes as text":     {`{"agent_id":"inbox-assistant","requested_scopes":"a b"}`, identity.CodeInvalid, "/requested_scopes"},
		"scope in a scope":   {`{"agent_id":"inbox-assistant","requested_scopes":["a b"]}`, identity.CodeInvalid, "/requested_scopes"},
		"negative duration":  {`{"agent_id":"inbox-assistant","max_duration_seconds":-1}`, identity.CodeInvalid, "/max_duration_seconds"},
		"fraction":           {`{"agent_id":"inbox-assistant","max_duration_seconds":1.5}`, identity.CodeInvalid, "/max_duration_seconds"},
		"empty principal":    {`{"agent_id":"inbox-assistant","principal_user_id":""}`, identity.CodeInvalid, "/principal_user_id"},
		"odd principal":      {`{"agent_id":"inbox-assistant","principal_user_id":"a b"}`, identity.CodeInvalid, "/principal_user_id"},
		"long reason":        {`{"agent_id":"inbox-assistant","trigger_reason":"` + strings.Repeat("x", 513) + `"}`, identity.CodeInvalid, "/trigger_reason"},
		"unknown agent":      {`{"agent_id":"nobody"}`, identity.CodeForbidden, ""}, // not even that it is unknown
		"agent of others":    {`{"agent_id":"support-triage-agent"}`, identity.CodeForbidden, ""},
		"nobody behind it":   {`{"agent_id":"inbox-assistant"}`, identity.CodeDelegationMissing, ""},
		"foreign scope":      {`{"agent_id":"inbox-assistant","principal_user_id":"u@x","requested_scopes":["root"]}`, identity.CodeScopeNotAllowed, ""},
		"unknown audience":   {`{"agent_id":"inbox-assistant","principal_user_id":"u@x","audience":["nowhere"]}`, identity.CodeUnknownAudience, ""},
		"too many audiences": {`{"agent_id":"inbox-assistant","audience":[` + strings.Repeat(`"a",`, 64) + `"a"]}`, identity.CodeInvalid, "/audience/64"},
	} {
		t.Run(name, func(t *testing.T) {
			p := n.send("POST", "/api/v1/sessions", refused.body, token(runtimeToken)).refused(refused.code)
			if refused.pointer != "" {
				require.Equal(t, refused.pointer, p.Errors[0].Pointer)
			}
		})
	}
	n.send("POST", "/api/v1/sessions", `{"agent_id":"nobody"}`).refused(identity.CodeNotFound)
	n.send("POST", "/api/v1/sessions", articleSession, anonymous).refused(identity.CodeUnauthenticated)
	n.send("POST", "/api/v1/sessions", articleSession, contentType("text/plain")).refused(identity.CodeUnsupportedMedia)
	g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	n.send("POST", "/api/v1/sessions", articleSession, token("dpt_auditor")).refused(identity.CodeForbidden)
}

func TestSessionStateAndEnd(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	ok[wire.Agent](n.send("POST", "/api/v1/agents", articleAgent), 201)
	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`), 201)
	path := "/api/v1/sessions/" + s.SessionID
	state := ok[wire.SessionState](n.send("GET", path, nil), 200)
	require.False(t, state.Revoked)
	require.Equal(t, identity.InstantOf(g.time()), state.StartedAt)
	ended := ok[wire.Revocation](n.send("DELETE", path+"?reason=done", nil), 200)
	require.Equal(t, []identity.Handle{identity.SessionHandle(s.SessionID)}, ended.Handles)
	state = ok[wire.SessionState](n.send("GET", path, nil), 200)
	require.True(t, state.Revoked)
	require.Equal(t, "done", state.Revocation.Reason)
	n.send("GET", "/api/v1/sessions/ses_nonsense", nil).refused(identity.CodeNotFound)
	n.send("DELETE", "/api/v1/sessions/ses_nonsense", nil).refused(identity.CodeNotFound)
}

func TestRevocationsNameOneThing(t *testing.T) {
	t.Parallel()
	g, application, _ := newInbox(t, 1)
	n := g.nodes[0]
	start := func() wire.Session {
		t.Helper()
		return ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession), 201)
	}
	s := start()
	revoke := func(r wire.RevocationRequest) wire.Revocation {
		t.Helper()
		return ok[wire.Revocation](n.send("POST", "/api/v1/revocations", r), 200)
	}
	require.True(t, revoke(wire.RevocationRequest{DelegationID: s.DelegationID}).Known)
	require.False(t, n.introspect("gmail", application, s.AccessToken).Active)
	s = start()
	require.True(t, revoke(wire.RevocationRequest{PrincipalID: "user@company.com"}).Known)
	require.False(t, n.introspect("gmail", application, s.AccessToken).Active)
	require.True(t, revoke(wire.RevocationRequest{AgentID: "inbox-assistant"}).Known)
	unseen := identity.NewID(identity.PrefixDelegation, 1, [10]byte{1})
	require.False(t, revoke(wire.RevocationRequest{DelegationID: unseen}).Known)
	require.True(t, n.revoked.Revoked(identity.Handle(unseen)), "denied all the same")

	for name, body := range map[string]string{
		"nothing": `{}`, "two things": `{"agent_id":"a","session_id":"b"}`, "no such session id": `{"session_id":"x"}`,
		"no such delegation id": `{"delegation_id":"x"}`, "a wait that nobody knows": `{"agent_id":"inbox-assistant","wait":"forever"}`,
		"an unknown wait": `{"agent_id":"inbox-assistant","wait":"soon"}`,
		"a long reason":   `{"agent_id":"inbox-assistant","reason":"` + strings.Repeat("x", 513) + `"}`,
	} {
		t.Run(name, func(t *testing.T) { n.send("POST", "/api/v1/revocations", body).refused(identity.CodeInvalid) })
	}
	n.send("POST", "/api/v1/revocations", `{"agent_id":"nobody"}`).refused(identity.CodeNotFound)
	n.send("POST", "/api/v1/revocations?wait=forever", `{"agent_id":"inbox-assistant"}`).refused(identity.CodeInvalid)
}

func TestAccessSaysWhereEachScopeComesFrom(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	const path = "/api/v1/agents/inbox-assistant/access"
	before := ok[wire.Access](n.send("GET", path, nil), 200)
	require.Len(t, before.Scopes, 2)
	require.False(t, before.Scopes[0].Usable)
	require.Contains(t, before.Scopes[0].Because, "delegation")

	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession), 201)
	after := ok[wire.Access](n.send("GET", path, nil), 200)
	require.True(t, after.Scopes[0].Usable)
	require.Equal(t, "gmail", after.Scopes[0].Application)
	require.Equal(t, s.DelegationID, after.Scopes[0].From[0].DelegationID)

	n.send("PATCH", "/api/v1/agents/inbox-assistant", `{"applications":null}`, mergePatchBody)
	require.Contains(t, ok[wire.Access](n.send("GET", path, nil), 200).Scopes[0].Because, "not assigned")
	n.send("POST", "/api/v1/agents/inbox-assistant/lifecycle/suspend", nil)
	require.Contains(t, ok[wire.Access](n.send("GET", path, nil), 200).Scopes[0].Because, "suspended")
}

func TestDelegationsAreHeldToTheirBounds(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	body := func(scopes string, seconds int) string {
		return `{"principal_id":"u@x","agent_id":"inbox-assistant","scopes":` + scopes + `,"duration_seconds":` + strings.Repeat("9", seconds) + `}`
	}
	n.send("POST", "/api/v1/delegations", body(`["gmail.read"]`, 1)).refused(identity.CodeInvalid)
	n.send("POST", "/api/v1/delegations", body(`["gmail.read"]`, 18)).refused(identity.CodeInvalid)
	n.send("POST", "/api/v1/delegations", body(`[]`, 4)).refused(identity.CodeValidation)
	n.send("POST", "/api/v1/delegations", body(`["gmail.read"]`, 4)).refused(identity.CodeNotFound)
	made := ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", body(`["gmail.read"]`, 4)), 201)
	require.EqualValues(t, identity.MaxChain, made.MaxHops)
	require.Len(t, ok[[]wire.Delegation](n.send("GET", "/api/v1/principals/u@x/delegations", nil), 200), 1)
	require.True(t, ok[wire.Kill](n.send("POST", "/api/v1/principals/u@x/revoke?dry_run=true", nil), 200).ActiveDelegations == 1)
	g.advance(3 * time.Hour)
	require.True(t, ok[wire.Delegation](n.send("GET", "/api/v1/delegations/"+made.ID, nil), 200).Expired)
	require.Empty(t, ok[[]wire.Delegation](n.send("GET", "/api/v1/delegations?active=true", nil), 200))
	n.send("DELETE", "/api/v1/delegations/dlg_x", nil).refused(identity.CodeNotFound)
	n.send("GET", "/api/v1/delegations/dlg_x", nil).refused(identity.CodeNotFound)
}
