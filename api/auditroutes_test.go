package api

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
)

// anyID is an id that was made for the occasion.
var anyID = regexp.MustCompile(`\b([a-z]{3})_[0-9a-z]{26}\b`)

// story asks for one route after the other, and holds what is recorded of each request to what is wanted.
type story struct {
	*lent
	t    *testing.T
	told map[string]bool // routes
	asks int
}

// tells is a request of the route and its records: kind, action, decision and target of each.
func (s *story) tells(route, method, path string, body any, want []string, options ...option) answer {
	s.t.Helper()
	a, records := s.asksFor(route, method, path, body, options...)
	require.Less(s.t, a.Status, 400, "%s: %s", route, a.Body)
	require.Equal(s.t, want, records, route)
	return a
}

func (s *story) asksFor(route, method, path string, body any, options ...option) (a answer, records []string) {
	s.t.Helper()
	if !slices.ContainsFunc(Routes(), func(r Route) bool { return r.Name == route && r.Method == method }) {
		s.t.Fatalf("there is no route %s %s", method, route)
	}
	s.asks++
	s.told[route] = true
	id := fmt.Sprint("ask-", s.asks)
	a = s.n.send(method, path, body, append(options, with(wire.HeaderRequestID, id))...)
	for _, r := range s.n.records(audit.Query{RequestID: id}) {
		if !strings.HasSuffix(r.Action, "MyDelegation") { // a user has shown an ID token, and no credential of ours
			require.NotEmpty(s.t, r.Credential, "%s: who it was", route)
		}
		records = append(records, anyID.ReplaceAllString(strings.TrimSpace(fmt.Sprint(r.Kind, " ", r.Action, " ", r.Decision, " ", r.Target)), "${1}_*"))
	}
	return a, records
}

// Every route by which something is decided or changed leaves its record, and no other leaves any. A route that is not
// told of here fails the test: whoever adds one has to say what it leaves.
func TestEveryDecisionOfTheRouteTableIsRecorded(t *testing.T) {
	s := &story{lent: newLent(t), t: t, told: map[string]bool{}}
	s.n = s.g.nodes[1] // which does not lead
	s.g.addToken(t, approverToken, identity.APIToken{Name: "ann", Roles: []identity.Role{identity.RoleApprover}})
	gmail := basic("gmail", s.application)
	one := func(record string) []string { return []string{record} }
	const v1 = "/api/v1"

	// What is decided by a token.
	parent := ok[wire.Token](s.tells("token", "POST", tokenPath, exchangeForm(s.delegation.ID, typeDelegation, nil), one("exchange token allowed"), s.inbox), 200)
	s.tells("token", "POST", tokenPath, url.Values{"grant_type": {grantClientCredentials}}, one("mint token allowed"), s.sub)
	hop := ok[wire.Token](s.tells("token", "POST", tokenPath, exchangeForm(parent.AccessToken, typeAccessToken, nil), one("exchange token allowed ses_*"), s.sub), 200)
	session := ok[wire.Session](s.tells("createSession", "POST", v1+"/sessions", `{"agent_id":"inbox-assistant","principal_user_id":"user@company.com"}`, one("mint createSession allowed")), 201)
	lent := s.n.send("POST", v1+"/sessions", `{"agent_id":"inbox-assistant","principal_user_id":"new@company.com"}`, with(wire.HeaderRequestID, "lends"))
	require.Equal(t, 201, lent.Status)
	require.Len(t, s.n.records(audit.Query{RequestID: "lends"}), 2, "the delegation, and the session that rests on it")
	s.tells("introspect", "POST", "/oauth2/introspect", url.Values{"token": {hop.AccessToken}, "tool": {"search"}}, one("introspect introspect allowed"), gmail)
	s.tells("introspect", "POST", "/oauth2/introspect", url.Values{"token": {hop.AccessToken}}, nil, gmail)
	s.tells("introspectBatch", "POST", "/oauth2/introspect/batch", wire.IntrospectionBatch{Tokens: []string{hop.AccessToken}, Tool: "search"}, one("introspect introspectBatch allowed"), gmail)
	s.tells("reportEvent", "POST", v1+"/audit/events", wire.AuditEvent{Token: hop.AccessToken, Tool: "search", Decision: "allowed", Action: "search"}, one("tool search allowed"), gmail)
	evaluation := fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"search"},"resource":{"type":"application","id":"gmail"}}`, hop.AccessToken)
	s.tells("evaluateAccess", "POST", evaluationPath, evaluation, one("evaluate CallTool allowed applications/gmail"), gmail)
	s.tells("evaluateManyAccesses", "POST", evaluationsPath, `{"evaluations":[`+evaluation+`,`+evaluation+`]}`,
		[]string{"evaluate CallTool allowed applications/gmail", "evaluate CallTool allowed applications/gmail"}, gmail)
	s.tells("revokeToken", "POST", "/oauth2/revoke", url.Values{"token": {hop.AccessToken}}, one("revoke revokeToken allowed"), s.sub)

	// What humans decide.
	asked := ok[wire.Backchannel](s.tells("backchannelAuthentication", "POST", backchannelPath, url.Values{"login_hint": {"user@company.com"}, "binding_message": {"mail"}},
		[]string{"approval requestApproval allowed approvals/apr_*", "approval backchannelAuthentication allowed"}, s.inbox), 200)
	ahead := s.n.record(audit.Query{Approval: asked.AuthRequestID, Target: "approvals/" + asked.AuthRequestID})
	require.Equal(t, "inbox-assistant user@company.com mail", strings.Join([]string{ahead.Agent, ahead.Principal, ahead.Detail}, " "))
	ask := func() wire.Approval {
		body := fmt.Sprintf(`{"agent_id":"summary-agent","trigger_reason":"ask %d"}`, s.asks)
		return ok[wire.Approval](s.tells("requestApproval", "POST", v1+"/approvals", body, one("approval requestApproval allowed approvals/apr_*"), s.sub), 201)
	}
	yes, no := ask(), ask()
	ann := token(approverToken)
	s.tells("approve", "POST", v1+"/approvals/"+yes.ID+"/approve", nil, one("approval approve allowed approvals/apr_*"), ann)
	s.tells("deny", "POST", v1+"/approvals/"+no.ID+"/deny", `{"note":"no"}`, one("approval deny allowed approvals/apr_*"), ann)
	s.tells("consumeApproval", "POST", v1+"/approvals/"+yes.ID+"/consume", wire.ApprovalUse{Binding: yes.Binding}, one("approval consumeApproval allowed approvals/apr_*"), s.sub)

	// What changes.
	write := func(route, method, path string, body any, record string) answer {
		t.Helper()
		return s.tells(route, method, v1+path, body, one(record))
	}
	patch := func(route, path, body, record string) {
		t.Helper()
		s.tells(route, "PATCH", v1+path, body, one(record), mergePatchBody)
	}
	write("createApplication", "POST", "/applications", zendesk, "admin createApplication allowed applications/zendesk")
	write("replaceApplication", "PUT", "/applications/zendesk", zendesk, "admin replaceApplication allowed applications/zendesk")
	patch("patchApplication", "/applications/zendesk", `{"tags":["x"]}`, "admin patchApplication allowed applications/zendesk")
	write("createAgent", "POST", "/agents", articleAgent, "admin createAgent allowed agents/support-triage-agent")
	write("replaceAgent", "PUT", "/agents/support-triage-agent", articleAgent, "admin replaceAgent allowed agents/support-triage-agent")
	patch("patchAgent", "/agents/support-triage-agent", `{"labels":{"a":"b"}}`, "admin patchAgent allowed agents/support-triage-agent")
	for _, owner := range []struct{ name, path string }{{"Agent", "agents/support-triage-agent"}, {"Application", "applications/zendesk"}} {
		made := ok[wire.NewCredential](write("add"+owner.name+"Credential", "POST", "/"+owner.path+"/credentials", nil, "admin add"+owner.name+"Credential allowed "+owner.path+"/credentials/crd_*"), 201)
		write("remove"+owner.name+"Credential", "DELETE", "/"+owner.path+"/credentials/"+made.ID, nil, "revoke remove"+owner.name+"Credential allowed "+owner.path+"/credentials/crd_*")
	}
	write("createPrincipal", "POST", "/principals", `{"id":"ann@company.com"}`, "admin createPrincipal allowed principals/ann@company.com")
	patch("patchPrincipal", "/principals/ann@company.com", `{"display_name":"Ann"}`, "admin patchPrincipal allowed principals/ann@company.com")
	lend := `{"principal_id":"ann@company.com","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`
	second := ok[wire.Delegation](write("createDelegation", "POST", "/delegations", lend, "admin createDelegation allowed delegations/dlg_*"), 201)
	write("bulk", "POST", "/bulk", `{"delegations":[`+lend+`]}`, "admin bulk allowed bulk")
	write("createPolicy", "POST", "/policies", newPolicy("p", noDrafts, "monitor"), "policy createPolicy allowed policies/p")
	write("replacePolicy", "PUT", "/policies/p", newPolicy("p", noDrafts, "monitor"), "policy replacePolicy allowed policies/p")
	write("setPolicyMode", "POST", "/policies/p/mode", `{"mode":"off"}`, "policy setPolicyMode allowed policies/p")
	write("deletePolicy", "DELETE", "/policies/p", nil, "policy deletePolicy allowed policies/p")
	issuer := ok[wire.TrustedIssuer](write("trustIssuer", "POST", "/trusted-issuers", wire.TrustedIssuerRequest{Issuer: "https://other.company.com", ClientIDs: []string{"web"}, EmailDomains: []string{"company.com"}, JWKS: s.issuer.jwks()}, "admin trustIssuer allowed trusted-issuers/iss_*"), 201)
	write("distrustIssuer", "DELETE", "/trusted-issuers/"+issuer.ID, nil, "admin distrustIssuer allowed trusted-issuers/iss_*")
	key := ok[wire.APIToken](write("createAPIToken", "POST", "/api-tokens", wire.APITokenRequest{Name: "x", Roles: []identity.Role{identity.RoleAuditor}}, "admin createAPIToken allowed api-tokens/tok_*"), 201)
	write("deleteAPIToken", "DELETE", "/api-tokens/"+key.ID, nil, "revoke deleteAPIToken allowed api-tokens/tok_*")
	patch("patchSettings", "/settings", `{"lease_milliseconds":5000}`, "admin patchSettings allowed settings")
	write("createJoinToken", "POST", "/cluster/join-tokens", nil, "cluster createJoinToken allowed cluster/join-tokens/jtk_*")
	write("rotateKey", "POST", "/cluster/members/n1/rotate-key", nil, "cluster rotateKey allowed cluster/members/n1")
	write("rotateKeys", "POST", "/cluster/rotate-keys", nil, "cluster rotateKeys allowed cluster/rotate-keys")
	write("rotateGossipKey", "POST", "/cluster/rotate-gossip-key", nil, "cluster rotateGossipKey allowed cluster/rotate-gossip-key")
	write("openMinting", "POST", "/cluster/open", nil, "cluster openMinting allowed cluster/open")
	write("transferLeadership", "POST", "/cluster/transfer-leadership", nil, "cluster transferLeadership allowed cluster/transfer-leadership")
	write("drainMember", "POST", "/cluster/members/n1/drain", `{"draining":false}`, "cluster drainMember allowed cluster/members/n1")
	write("saveSnapshot", "GET", "/cluster/snapshot", nil, "cluster saveSnapshot allowed cluster/snapshot")

	// What ends something.
	write("revokeSession", "DELETE", "/sessions/"+session.SessionID, nil, "revoke revokeSession allowed sessions/ses_*")
	write("endSessions", "DELETE", "/sessions?agent=inbox-assistant", nil, "revoke endSessions allowed sessions")
	write("revoke", "POST", "/revocations", `{"principal_id":"ann@company.com","reason":"INC-1"}`, "revoke revoke allowed revocations")
	write("withdrawDelegation", "DELETE", "/delegations/"+second.ID, nil, "revoke withdrawDelegation allowed delegations/dlg_*")
	s.tells("withdrawMyDelegation", "DELETE", v1+"/me/delegations/"+s.delegation.ID, nil, one("revoke withdrawMyDelegation allowed me/delegations/dlg_*"), bearer(s.issuer.idToken(s.g, "user@company.com", nil)))
	write("revokePrincipal", "POST", "/principals/ann@company.com/revoke", nil, "revoke revokePrincipal allowed principals/ann@company.com")
	write("deletePrincipal", "DELETE", "/principals/ann@company.com", nil, "revoke deletePrincipal allowed principals/ann@company.com")
	write("revokeAgent", "POST", "/agents/support-triage-agent/revoke", nil, "revoke revokeAgent allowed agents/support-triage-agent")
	// A step in life takes the agent to its next generation, whatever it steps to.
	write("activateAgent", "POST", "/agents/support-triage-agent/lifecycle/activate", nil, "revoke activateAgent allowed agents/support-triage-agent")
	write("suspendAgent", "POST", "/agents/support-triage-agent/lifecycle/suspend", nil, "revoke suspendAgent allowed agents/support-triage-agent")
	write("deactivateAgent", "POST", "/agents/support-triage-agent/lifecycle/deactivate", nil, "revoke deactivateAgent allowed agents/support-triage-agent")
	write("deleteAgent", "DELETE", "/agents/support-triage-agent", nil, "revoke deleteAgent allowed agents/support-triage-agent")
	write("deleteApplication", "DELETE", "/applications/zendesk", nil, "admin deleteApplication allowed applications/zendesk")
	write("removeMember", "DELETE", "/cluster/members/n1", nil, "cluster removeMember allowed cluster/members/n1")
	// A cluster that holds something refuses a backup, and records that somebody has tried.
	refused, records := s.asksFor("restoreSnapshot", "POST", v1+"/cluster/snapshot", "no backup", contentType(mediaBinary))
	require.GreaterOrEqual(t, refused.Status, 400)
	require.Equal(t, one("cluster restoreSnapshot allowed cluster/snapshot"), records)

	for _, route := range Routes() {
		reads := route.Kind == KindPublic || route.Kind == KindRead && route.Produces != mediaBinary
		require.Equal(t, !reads, s.told[route.Name], "%s: say above what it leaves, if it decides or changes anything", route.Name)
	}
	s.refusals()
}

// refusals have whoever lacks the role be refused by every route, and recorded once.
func (s *story) refusals() {
	s.g.addToken(s.t, "dpt_provisioner", identity.APIToken{Name: "p", Roles: []identity.Role{identity.RoleProvisioner}})
	for _, route := range Routes() {
		if len(route.Roles) == 0 {
			continue
		}
		other := approverToken
		if slices.Contains(route.Roles, identity.RoleApprover) {
			other = "dpt_provisioner"
		}
		path := strings.NewReplacer("{id}", "x", "{credential}", "y").Replace(route.Path)
		a, records := s.asksFor(route.Name, route.Method, path, nil, token(other))
		a.refused(identity.CodeForbidden)
		kind := audit.KindRefuse
		if route.Name == "createSession" {
			kind = audit.KindMint
		}
		require.Len(s.t, records, 1, route.Name)
		require.Contains(s.t, records[0], fmt.Sprint(kind, " ", route.Name, " denied"))
	}
}
