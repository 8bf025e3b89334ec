package api

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const noDrafts = `@description("Drafts are written by people")
forbid (principal is Agent, action == Action::"CreateSession", resource == Application::"gmail")
when { context.requested_scopes.contains("gmail.draft") };`

func newPolicy(id, text string, mode identity.PolicyMode) wire.PolicyRequest {
	return wire.PolicyRequest{ID: id, Text: text, Mode: mode}
}

func TestPolicyIsCreatedReadReplacedAndDeleted(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	a := n.send("POST", "/api/v1/policies", newPolicy("no-drafts", noDrafts, ""))
	made := ok[wire.Policy](a, 201)
	require.Equal(t, "/api/v1/policies/no-drafts", a.Header.Get("Location"))
	require.Equal(t, identity.PolicyEnforce, made.Mode)
	require.EqualValues(t, 1, made.Version)
	require.NotEmpty(t, made.ChangedBy)
	n.send("POST", "/api/v1/policies", newPolicy("no-drafts", noDrafts, "")).refused(identity.CodeAlreadyExists)
	require.Equal(t, made, ok[wire.Policy](n.send("GET", "/api/v1/policies/no-drafts", nil), 200))
	require.Equal(t, []wire.Policy{made}, ok[[]wire.Policy](n.send("GET", "/api/v1/policies", nil), 200))

	monitored := ok[wire.Policy](n.send("POST", "/api/v1/policies/no-drafts/mode", wire.PolicyModeRequest{Mode: identity.PolicyMonitor}), 200)
	require.Equal(t, identity.PolicyMonitor, monitored.Mode)
	changed := ok[wire.Policy](n.send("PUT", "/api/v1/policies/no-drafts", wire.PolicyRequest{
		ID: "no-drafts", Text: noDrafts, Description: "until spring",
	}), 200)
	require.Equal(t, identity.PolicyMonitor, changed.Mode, "a replacement without a mode leaves it")
	require.EqualValues(t, 3, changed.Version)

	// Who has seen an older one changes nothing.
	old := "?if_revision=" + strconv.FormatUint(made.Revision, 10)
	n.send("PUT", "/api/v1/policies/no-drafts"+old, newPolicy("no-drafts", noDrafts, "")).refused(identity.CodeConflict)
	n.send("POST", "/api/v1/policies/no-drafts/mode"+old, wire.PolicyModeRequest{Mode: identity.PolicyOff}).refused(identity.CodeConflict)
	n.send("DELETE", "/api/v1/policies/no-drafts"+old, nil).refused(identity.CodeConflict)
	n.send("DELETE", "/api/v1/policies/no-drafts?if_revision=soon", nil).refused(identity.CodeInvalid)

	deleted := n.send("DELETE", "/api/v1/policies/no-drafts?if_revision="+strconv.FormatUint(changed.Revision, 10), nil)
	require.True(t, ok[wire.Deleted](deleted, 200).Known)
	require.NotEmpty(t, deleted.Header.Get(wire.HeaderIndex))
	for _, method := range []string{"GET", "DELETE"} {
		n.send(method, "/api/v1/policies/no-drafts", nil).refused(identity.CodeNotFound)
	}
	n.send("PUT", "/api/v1/policies/no-drafts", newPolicy("no-drafts", noDrafts, "")).refused(identity.CodeNotFound)
}

func TestBadPolicyIsRefusedWithPlaceAndNearestName(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	problem := n.send("POST", "/api/v1/policies", newPolicy("typo", "forbid (principal is Agent, action, resource)\nwhen { context.chain_deph > 1 };", "")).
		refused(identity.CodeValidation)
	require.Equal(t, 400, problem.Status)
	require.Len(t, problem.Errors, 1)
	require.Equal(t, "/text", problem.Errors[0].Pointer)
	require.Contains(t, problem.Errors[0].Detail, "line 2, column 16")
	require.Contains(t, problem.Errors[0].Detail, `did you mean "chain_depth"?`)

	ok[wire.Policy](n.send("POST", "/api/v1/policies", newPolicy("no-drafts", noDrafts, "")), 201)
	n.send("PUT", "/api/v1/policies/no-drafts", newPolicy("no-drafts", `permit (principal, action, resource);`, "")).refused(identity.CodeValidation)
	n.send("PUT", "/api/v1/policies/no-drafts", newPolicy("other", noDrafts, "")).refused(identity.CodeInvalid)
	n.send("POST", "/api/v1/policies", newPolicy("x", noDrafts, "sometimes")).refused(identity.CodeValidation)
	n.send("POST", "/api/v1/policies/no-drafts/mode", `{"mode":"sometimes"}`).refused(identity.CodeValidation)
	n.send("POST", "/api/v1/policies", newPolicy("Not A Slug", noDrafts, "")).refused(identity.CodeValidation)
}

func TestOnlyAdminsChangePolicies(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	ok[wire.Policy](n.send("POST", "/api/v1/policies", newPolicy("no-drafts", noDrafts, "")), 201)
	for _, role := range []identity.Role{identity.RoleOperator, identity.RoleProvisioner, identity.RoleAuditor, identity.RoleApprover} {
		secret := "dpt_" + string(role)
		g.addToken(t, secret, identity.APIToken{Name: string(role), Roles: []identity.Role{role}})
		n.send("POST", "/api/v1/policies", newPolicy("other", noDrafts, ""), token(secret)).refused(identity.CodeForbidden)
		n.send("PUT", "/api/v1/policies/no-drafts", newPolicy("no-drafts", noDrafts, ""), token(secret)).refused(identity.CodeForbidden)
		n.send("POST", "/api/v1/policies/no-drafts/mode", `{"mode":"off"}`, token(secret)).refused(identity.CodeForbidden)
		n.send("DELETE", "/api/v1/policies/no-drafts", nil, token(secret)).refused(identity.CodeForbidden)
		if role != identity.RoleApprover {
			ok[wire.Policy](n.send("GET", "/api/v1/policies/no-drafts", nil, token(secret)), 200)
		}
	}
	for _, method := range []string{"GET", "POST"} {
		n.send(method, "/api/v1/policies", nil, anonymous).refused(identity.CodeUnauthenticated)
	}
}

// Whoever hands the index of the change to another node has the new policies decide there, or is told that the node has
// not heard of them yet.
func TestPolicyIsInForceAtEveryNodeFromItsIndexOn(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	first, second := g.nodes[0], g.nodes[1]
	g.holdBack(1)
	a := second.send("POST", "/api/v1/policies", newPolicy("no-drafts", noDrafts, ""))
	require.Equal(t, 201, a.Status, "%s", a.Body)
	index := a.Header.Get(wire.HeaderIndex)
	require.NotEmpty(t, index)
	first.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken), with(wire.HeaderIndex, index)).refused(identity.CodePolicyDenied)
	second.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken), with(wire.HeaderIndex, index)).refused(identity.CodeStaleIndex)
	g.release(1)
	problem := second.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken), with(wire.HeaderIndex, index)).refused(identity.CodePolicyDenied)
	require.Equal(t, "no-drafts", problem.PolicyID)
}

// The article's four policies over HTTP, from their being made to their refusals: allowed, denied and monitored, with no
// restart in between. The network is TestShippedPoliciesOverHTTP's.
func TestArticlePoliciesAreMeasuredTunedAndEnforced(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	for _, p := range policy.Shipped() {
		ok[wire.Policy](n.send("POST", "/api/v1/policies", wire.PolicyRequest{ID: p.ID, Text: p.Text, Mode: p.Mode, Description: p.Description}), 201)
	}
	ok[wire.Application](n.send("POST", "/api/v1/applications", `{"name":"zendesk","audience":"https://zendesk.example.com","scopes":["zendesk.tickets.read","zendesk.tickets.assign"],"tags":["production-write"]}`), 201)
	secret := n.agentWithSecret(strings.Replace(articleAgent, `"max_session_duration_seconds"`, `"applications": ["zendesk"], "max_session_duration_seconds"`, 1))
	session := func() answer { return n.send("POST", "/api/v1/sessions", `{"agent_id":"support-triage-agent"}`) }
	mode := func(id string, mode identity.PolicyMode) {
		ok[wire.Policy](n.send("POST", "/api/v1/policies/"+id+"/mode", wire.PolicyModeRequest{Mode: mode}), 200)
	}
	require.Equal(t, "production-write-needs-approval", session().refused(identity.CodeApprovalRequired).PolicyID)
	form := url.Values{"grant_type": {"client_credentials"}}
	description := n.send("POST", "/oauth2/token", form, basic("support-triage-agent", secret)).refusedOAuth(400, "access_denied")
	require.Contains(t, description, "production-write-needs-approval", "the OAuth refusal names the policy, too")
	mode("production-write-needs-approval", identity.PolicyMonitor)
	ok[wire.Session](session(), 201)
	mode("production-write-needs-approval", identity.PolicyOff)
	ok[wire.Session](session(), 201)
	mode("corporate-network", identity.PolicyMonitor)
	ok[wire.Session](session(), 201)
	mode("corporate-network", identity.PolicyEnforce)
	require.Equal(t, "corporate-network", session().refused(identity.CodePolicyDenied).PolicyID)
	mode("corporate-network", identity.PolicyOff)
	outside := `{"agent_id":"support-triage-agent","requested_scopes":["zendesk.tickets.delete"]}`
	require.Equal(t, "scopes-within-defaults", n.send("POST", "/api/v1/sessions", outside).refused(identity.CodeScopeNotAllowed).PolicyID)
}
