package api

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

func TestAgentOfTheArticleIsCreatedVerbatim(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	a := n.send("POST", "/api/v1/agents", articleAgent)
	agent := ok[wire.Agent](a, 201)
	require.Equal(t, "/api/v1/agents/support-triage-agent", a.Header.Get("Location"))
	require.NotEmpty(t, a.Header.Get(wire.HeaderIndex))
	require.Equal(t, "support-triage-agent", agent.ID)
	require.Equal(t, identity.Scopes("zendesk.tickets.assign zendesk.tickets.read"), agent.DefaultScopes)
	require.EqualValues(t, 3600, agent.MaxSessionDuration)
	require.Nil(t, agent.Credential)
	require.Equal(t, agent, ok[wire.Agent](n.send("GET", a.Header.Get("Location"), nil), 200))

	n.send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeAlreadyExists)
}

func TestAgentIsReplacedAndPatched(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	ok[wire.Agent](n.send("POST", "/api/v1/agents", articleAgent), 201)
	const path = "/api/v1/agents/support-triage-agent"

	// RFC 7396: what is named changes, null removes, the rest stays.
	patched := ok[wire.Agent](n.send("PATCH", path, `{"profile":{"description":"new","owner_group":null},"labels":{"tier":"1"}}`, mergePatchBody), 200)
	require.Equal(t, "new", patched.Profile.Description)
	require.Empty(t, patched.Profile.OwnerGroup)
	require.Equal(t, identity.AgentAutonomous, patched.Profile.AgentType)
	require.Equal(t, map[string]string{"tier": "1"}, patched.Labels)
	require.Equal(t, identity.Scopes("zendesk.tickets.assign zendesk.tickets.read"), patched.DefaultScopes)
	require.Empty(t, ok[wire.Agent](n.send("PATCH", path, `{"labels":{"tier":null}}`, mergePatchBody), 200).Labels)

	replaced := ok[wire.Agent](n.send("PUT", path, `{"profile":{"name":"support-triage-agent","agent_type":"scheduled"}}`), 200)
	require.Empty(t, replaced.DefaultScopes)
	require.EqualValues(t, 3600, replaced.MaxSessionDuration)

	p := n.send("PATCH", path, `{"profile":{"name":"other"}}`, mergePatchBody).refused(identity.CodeInvalid)
	require.Equal(t, "/profile/name", p.Errors[0].Pointer)
	p = n.send("PATCH", path, `{"max_session":1}`, mergePatchBody).refused(identity.CodeInvalid)
	require.Equal(t, "/max_session", p.Errors[0].Pointer)
	n.send("PATCH", path, `[]`, mergePatchBody).refused(identity.CodeInvalid)
	n.send("PATCH", path, ``, mergePatchBody).refused(identity.CodeInvalid)
}

func TestNarrowingSparesSessionsUnlessAskedToRevoke(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	zendesk := n.applicationWithSecret(`{"name":"zendesk","audience":"https://zendesk.example.com"}`)
	secret := n.agentWithSecret(strings.Replace(articleAgent, `"default_scopes"`, `"applications":["zendesk"],"default_scopes"`, 1))
	minted := n.mint("support-triage-agent", secret, url.Values{"audience": {"zendesk"}}).AccessToken
	const path = "/api/v1/agents/support-triage-agent"

	n.send("PATCH", path, `{"default_scopes":[]}`, mergePatchBody)
	require.True(t, n.introspect("zendesk", zendesk, minted).Active)
	agent := ok[wire.Agent](n.send("PATCH", path+"?revoke=true", `{"default_scopes":[]}`, mergePatchBody), 200)
	require.Equal(t, identity.StatusActive, agent.Status)
	require.False(t, n.introspect("zendesk", zendesk, minted).Active)
	n.mint("support-triage-agent", secret, nil)
}

func TestLifecycleEndsWhatRunsAndGatesWhatStarts(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	zendesk := n.applicationWithSecret(`{"name":"zendesk","audience":"https://zendesk.example.com","scopes":["zendesk.tickets.read","zendesk.tickets.assign"]}`)
	secret := n.agentWithSecret(strings.Replace(articleAgent, `"default_scopes"`, `"applications":["zendesk"],"default_scopes"`, 1))
	minted := n.mint("support-triage-agent", secret, nil).AccessToken
	require.True(t, n.introspect("zendesk", zendesk, minted).Active)
	const path = "/api/v1/agents/support-triage-agent"

	suspended := ok[wire.AgentStatus](n.send("POST", path+"/lifecycle/suspend", `{"reason":"INC-42"}`), 200)
	require.Equal(t, identity.StatusSuspended, suspended.Agent.Status)
	require.Len(t, suspended.Handles, 1)
	require.False(t, n.introspect("zendesk", zendesk, minted).Active)
	form := url.Values{"grant_type": {"client_credentials"}}
	n.send("POST", "/oauth2/token", form, basic("support-triage-agent", secret)).refusedOAuth(400, "unauthorized_client")

	ok[wire.AgentStatus](n.send("POST", path+"/lifecycle/activate", nil), 200)
	require.False(t, n.introspect("zendesk", zendesk, minted).Active, "an old token never comes back")
	require.True(t, n.introspect("zendesk", zendesk, n.mint("support-triage-agent", secret, nil).AccessToken).Active)

	ok[wire.AgentStatus](n.send("POST", path+"/lifecycle/deactivate", nil), 200)
	n.send("POST", "/oauth2/token", form, basic("support-triage-agent", secret)).refusedOAuth(400, "unauthorized_client")
}

func TestKillSwitch(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	zendesk := n.applicationWithSecret(`{"name":"zendesk","audience":"https://zendesk.example.com"}`)
	secret := n.agentWithSecret(strings.Replace(articleAgent, `"default_scopes"`, `"applications":["zendesk"],"default_scopes"`, 1))
	mint := func() string {
		return n.mint("support-triage-agent", secret, url.Values{"audience": {"zendesk"}}).AccessToken
	}
	const path = "/api/v1/agents/support-triage-agent/revoke"
	minted := mint()

	dry := ok[wire.Kill](n.send("POST", path+"?dry_run=true", nil), 200)
	require.True(t, dry.DryRun)
	require.False(t, dry.Committed)
	require.True(t, n.introspect("zendesk", zendesk, minted).Active, "a dry run changes nothing")

	killed := ok[wire.Kill](n.send("POST", path, `{"reason":"INC-42","keep_active":true}`), 200)
	require.Equal(t, dry.Handles, killed.Handles)
	require.Equal(t, identity.StatusActive, killed.Status)
	require.False(t, n.introspect("zendesk", zendesk, minted).Active)
	require.True(t, n.introspect("zendesk", zendesk, mint()).Active)

	require.Equal(t, identity.StatusSuspended, ok[wire.Kill](n.send("POST", path, nil), 200).Status)
	n.send("POST", path+"?dryrun=true", nil).refused(identity.CodeInvalid)
	n.send("POST", path+"?dry_run=yes", nil).refused(identity.CodeInvalid)
	n.send("POST", "/api/v1/agents/nobody/revoke", nil).refused(identity.CodeNotFound)

	records := ok[[]wire.RevocationRecord](n.send("GET", "/api/v1/revocations", nil), 200)
	require.Len(t, records, 2)
	require.Equal(t, "INC-42", records[0].Reason)
}

func TestDeletedAgentLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	g, application, _ := newInbox(t, 1)
	n := g.nodes[0]
	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession), 201)
	const path = "/api/v1/agents/inbox-assistant"
	deleted := ok[wire.Deleted](n.send("DELETE", path+"?reason=retired", nil), 200)
	require.NotEmpty(t, deleted.Handles)
	require.False(t, n.introspect("gmail", application, s.AccessToken).Active)
	n.send("GET", "/api/v1/delegations/"+s.DelegationID, nil).refused(identity.CodeNotFound)
	n.send("DELETE", path, nil).refused(identity.CodeNotFound)

	n.agentWithSecret(inboxAgent) // a new agent of that name
	require.False(t, n.introspect("gmail", application, s.AccessToken).Active, "a name made again revives no token")
	n.send("DELETE", path+"?reason="+strings.Repeat("x", 513), nil).refused(identity.CodeInvalid)
}

func TestCredentialsRotate(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	zendesk := n.applicationWithSecret(`{"name":"zendesk","audience":"https://zendesk.example.com"}`)
	old := n.agentWithSecret(strings.Replace(articleAgent, `"default_scopes"`, `"applications":["zendesk"],"default_scopes"`, 1))
	minted := n.mint("support-triage-agent", old, url.Values{"audience": {"zendesk"}}).AccessToken
	const path = "/api/v1/agents/support-triage-agent/credentials"

	a := n.send("POST", path, map[string]any{"expires_at": n.group.time().Add(time.Hour)})
	fresh := ok[wire.NewCredential](a, 201)
	require.Regexp(t, `^dps_[A-Za-z0-9_-]{43}$`, fresh.Secret)
	listed := ok[[]wire.Credential](n.send("GET", path, nil), 200)
	require.Len(t, listed, 2)
	require.NotContains(t, string(n.send("GET", path, nil).Body), fresh.Secret)

	removed := ok[wire.Deleted](n.send("DELETE", path+"/"+listed[0].ID+"?reason=leaked", nil), 200)
	require.Equal(t, []identity.Handle{identity.CredentialHandle(listed[0].ID)}, removed.Handles)
	require.False(t, n.introspect("zendesk", zendesk, minted).Active, "what a leaked credential minted is dead")
	n.mint("support-triage-agent", fresh.Secret, nil)

	n.group.advance(2 * time.Hour)
	form := url.Values{"grant_type": {"client_credentials"}}
	n.send("POST", "/oauth2/token", form, basic("support-triage-agent", fresh.Secret)).refusedOAuth(401, "invalid_client")
	n.send("POST", path, map[string]any{"expires_at": n.group.time().Add(-time.Hour)}).refused(identity.CodeInvalid)
	n.send("DELETE", path+"/crd_nonsense", nil).refused(identity.CodeNotFound)
}

func TestPrincipalsLiveAndDie(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	id := "user/one@company.com" // a slash, to show that ids are escaped in paths
	path := "/api/v1/principals/" + url.PathEscape(id)
	a := n.send("POST", "/api/v1/principals", wire.PrincipalRequest{ID: id, DisplayName: "One"})
	ok[wire.Principal](a, 201)
	require.Equal(t, path, a.Header.Get("Location"))
	require.Equal(t, id, ok[wire.Principal](n.send("GET", path, nil), 200).ID)

	patched := ok[wire.Principal](n.send("PATCH", path, `{"display_name":"Uno","groups":["b","a","b"]}`, mergePatchBody), 200)
	require.Equal(t, []string{"a", "b"}, patched.Groups)
	suspended := ok[wire.Principal](n.send("PATCH", path, `{"status":"suspended"}`, mergePatchBody), 200)
	require.Equal(t, identity.StatusSuspended, suspended.Status)
	require.Equal(t, "Uno", suspended.DisplayName)
	require.NotEqual(t, patched.Handle, suspended.Handle)
	n.send("PATCH", path, `{"status":"asleep"}`, mergePatchBody).refused(identity.CodeInvalid)

	require.True(t, ok[wire.Kill](n.send("POST", path+"/revoke?dry_run=true", nil), 200).DryRun)
	ok[wire.Kill](n.send("POST", path+"/revoke", `{"keep_active":true}`), 200)
	require.Empty(t, ok[[]wire.Delegation](n.send("GET", path+"/delegations", nil), 200))
	require.True(t, ok[wire.Deleted](n.send("DELETE", path, nil), 200).Known)
	n.send("GET", path, nil).refused(identity.CodeNotFound)
}

func TestApplicationsOwnTheirScopesAndAudience(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	ok[wire.Application](n.send("POST", "/api/v1/applications", gmail), 201)
	n.send("POST", "/api/v1/applications", strings.Replace(gmail, `"gmail"`, `"gmail2"`, 1)).refused(identity.CodeAlreadyExists)
	patched := ok[wire.Application](n.send("PATCH", "/api/v1/applications/gmail", `{"verification":"offline","tags":["production-write"]}`, mergePatchBody), 200)
	require.Equal(t, identity.VerifyOffline, patched.Verification)
	replaced := ok[wire.Application](n.send("PUT", "/api/v1/applications/gmail", `{"name":"gmail","audience":"https://mail.example.com"}`), 200)
	require.Empty(t, replaced.Scopes)
	n.send("PUT", "/api/v1/applications/gmail", `{"name":"other","audience":"https://mail.example.com"}`).refused(identity.CodeInvalid)
	require.Len(t, ok[[]wire.Application](n.send("GET", "/api/v1/applications", nil), 200), 1)
	secret := ok[wire.NewCredential](n.send("POST", "/api/v1/applications/gmail/credentials", nil), 201)
	require.Len(t, ok[[]wire.Credential](n.send("GET", "/api/v1/applications/gmail/credentials", nil), 200), 1)
	ok[wire.Deleted](n.send("DELETE", "/api/v1/applications/gmail/credentials/"+secret.ID, nil), 200)
	ok[wire.Deleted](n.send("DELETE", "/api/v1/applications/gmail", nil), 200)
	n.send("GET", "/api/v1/applications/gmail", nil).refused(identity.CodeNotFound)
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	for _, id := range []string{"a@x", "b@x", "c@x"} {
		ok[wire.Principal](n.send("POST", "/api/v1/principals", wire.PrincipalRequest{ID: id}), 201)
	}
	var seen []string
	next := "/api/v1/principals?limit=1"
	for range 3 {
		a := n.send("GET", next, nil)
		page := ok[[]wire.Principal](a, 200)
		require.Len(t, page, 1)
		seen = append(seen, page[0].ID)
		next, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
	}
	require.Equal(t, []string{"a@x", "b@x", "c@x"}, seen)
	require.Empty(t, next, "the last page has no next")
	for _, limit := range []string{"0", "1001", "x", "-1"} {
		n.send("GET", "/api/v1/principals?limit="+limit, nil).refused(identity.CodeInvalid)
	}
}

func TestAPITokensCarryRoles(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	a := n.send("POST", "/api/v1/api-tokens", wire.APITokenRequest{Name: "auditor", Roles: []identity.Role{identity.RoleAuditor}})
	made := ok[wire.APIToken](a, 201)
	require.Regexp(t, `^dpt_[A-Za-z0-9_-]{43}$`, made.Token)
	ok[[]wire.Agent](n.send("GET", "/api/v1/agents", nil, token(made.Token)), 200)
	ok[[]wire.Agent](n.send("GET", "/api/v1/agents", nil, with("Authorization", "Bearer "+made.Token)), 200)
	p := n.send("POST", "/api/v1/agents", articleAgent, token(made.Token)).refused(identity.CodeForbidden)
	require.Contains(t, p.Detail, "provisioner")
	require.NotContains(t, string(n.send("GET", "/api/v1/api-tokens", nil).Body), made.Token)

	n.send("POST", "/api/v1/api-tokens", wire.APITokenRequest{Name: "x", Roles: []identity.Role{"king"}}).refused(identity.CodeValidation)
	n.send("POST", "/api/v1/api-tokens", wire.APITokenRequest{Name: "x", Roles: []identity.Role{identity.RoleRuntime}}).refused(identity.CodeValidation)

	ok[wire.Deleted](n.send("DELETE", "/api/v1/api-tokens/"+made.ID, nil), 200)
	n.send("GET", "/api/v1/agents", nil, token(made.Token)).refused(identity.CodeUnauthenticated)
	tokens := ok[[]wire.APIToken](n.send("GET", "/api/v1/api-tokens", nil), 200)
	require.Len(t, tokens, 1)
	n.send("DELETE", "/api/v1/api-tokens/"+tokens[0].ID, nil).refused(identity.CodeConflict)
}

func TestExpiredAPITokenIsNobody(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	made := ok[wire.APIToken](n.send("POST", "/api/v1/api-tokens", wire.APITokenRequest{
		Name: "brief", Roles: []identity.Role{identity.RoleAuditor}, ExpiresAt: identity.InstantOf(n.group.time().Add(time.Hour)),
	}), 201)
	ok[[]wire.Agent](n.send("GET", "/api/v1/agents", nil, token(made.Token)), 200)
	n.group.advance(time.Hour)
	n.send("GET", "/api/v1/agents", nil, token(made.Token)).refused(identity.CodeUnauthenticated)
}

func TestClusterRoutes(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	members := ok[[]wire.Member](n.send("GET", "/api/v1/cluster/members", nil), 200)
	require.Len(t, members, 1)
	require.True(t, members[0].Leader)
	require.Equal(t, wire.MemberAlive, members[0].State)
	require.Equal(t, "voter", members[0].Suffrage)

	joining := ok[wire.JoinToken](n.send("POST", "/api/v1/cluster/join-tokens", nil), 201)
	require.True(t, strings.HasPrefix(joining.Token, "dpj_"))
	n.send("POST", "/api/v1/cluster/join-tokens", `{"duration_seconds":1}`).refused(identity.CodeInvalid)
	n.send("DELETE", "/api/v1/cluster/members/n9", nil).refused(identity.CodeNotFound)
	n.send("POST", "/api/v1/cluster/transfer-leadership", `{"to":"n9"}`).refused(identity.CodeNotFound)
	ok[wire.Transfer](n.send("POST", "/api/v1/cluster/transfer-leadership", `{"to":"n1"}`), 200)
	require.Equal(t, "n1", n.cluster.handed)
	removed := n.send("DELETE", "/api/v1/cluster/members/n1?reason=retired", nil)
	require.Equal(t, "n1", ok[wire.RemovedMember](removed, 200).ID)
	require.NotEmpty(t, removed.Header.Get(wire.HeaderIndex))
	require.Equal(t, testIssuer, ok[wire.Settings](n.send("GET", "/api/v1/settings", nil), 200).Issuer)
}

func TestBulkItemsFareByThemselves(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	answer := ok[wire.BulkAnswer](n.send("POST", "/api/v1/bulk", `{
		"agents": [{"profile":{"name":"a","agent_type":"autonomous"},"default_scopes":["x"]}, {"profile":{"name":"B!","agent_type":"autonomous"}}],
		"principals": [{"id":"u@x"},{"id":"u@x"}],
		"delegations": [{"principal_id":"u@x","agent_id":"a","scopes":["x"],"duration_seconds":3600},
		                {"principal_id":"u@x","agent_id":"ghost","scopes":["x"],"duration_seconds":3600}]}`), 200)
	require.Equal(t, 3, answer.Created)
	require.Equal(t, 3, answer.Refused)
	status := func(i int) (string, int, identity.Code) {
		return answer.Items[i].Pointer, answer.Items[i].Status, answer.Items[i].Code
	}
	for i, want := range []struct {
		pointer string
		status  int
		code    identity.Code
	}{
		{"/agents/0", 201, ""},
		{"/agents/1", 400, identity.CodeValidation},
		{"/principals/0", 201, ""},
		{"/principals/1", 409, identity.CodeAlreadyExists},
		{"/delegations/0", 201, ""},
		{"/delegations/1", 404, identity.CodeNotFound},
	} {
		pointer, code, kind := status(i)
		require.Equal(t, want.pointer, pointer)
		require.Equal(t, want.status, code, "%s", answer.Items[i].Detail)
		require.Equal(t, want.code, kind)
	}
	ok[wire.Delegation](n.send("GET", "/api/v1/delegations/"+answer.Items[4].ID, nil), 200)
	n.send("POST", "/api/v1/bulk", `{}`).refused(identity.CodeInvalid)
	n.send("POST", "/api/v1/bulk", `{"principals":[`+strings.Repeat(`{"id":"a"},`, 1000)+`{"id":"a"}]}`).refused(identity.CodeInvalid)
}

func TestHeadAndOptions(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	head := n.send(http.MethodHead, "/.well-known/jwks.json", nil)
	require.Equal(t, 200, head.Status)
	require.Empty(t, head.Body)
	options := n.send(http.MethodOptions, "/api/v1/agents", nil)
	require.Equal(t, 204, options.Status)
	require.Equal(t, "GET, HEAD, OPTIONS, POST", options.Header.Get("Allow"))
}
