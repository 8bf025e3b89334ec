package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

func (n *node) simulates(s wire.SimulateRequest) wire.Simulation {
	n.t.Helper()
	return ok[wire.Simulation](n.send("POST", "/api/v1/policies/simulate", s), 200)
}

func outcomeOf(t testing.TB, s []wire.PolicyOutcome, id string) string {
	t.Helper()
	for _, p := range s {
		if p.PolicyID == id {
			return p.Outcome
		}
	}
	require.FailNow(t, "the policy is not listed", id)
	return ""
}

// Before a policy is written, and at another time and place, it can be asked what it would do.
func TestDraftsAreSimulatedWithoutBeingWritten(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	asked := wire.SimulateRequest{
		AgentID: "inbox-assistant", PrincipalUserID: "user@company.com", RequestedScopes: "gmail.draft gmail.read", Lends: true,
	}
	require.True(t, n.simulates(asked).Allowed)
	asked.Policies = []wire.PolicyRequest{newPolicy("no-drafts", noDrafts, "")}
	refused := n.simulates(asked)
	require.False(t, refused.Allowed)
	require.Equal(t, identity.CodePolicyDenied, refused.Refusal.Code)
	require.Equal(t, "no-drafts", refused.Refusal.PolicyID)
	require.Equal(t, string(policy.OutcomeForbids), outcomeOf(t, refused.Policies, "no-drafts"))
	asked.Policies[0].Mode = identity.PolicyMonitor
	monitored := n.simulates(asked)
	require.True(t, monitored.Allowed)
	require.Equal(t, []string{"no-drafts"}, monitored.Monitored)
	require.Equal(t, identity.Scopes("gmail.draft gmail.read"), monitored.Session.Scopes)

	require.Empty(t, ok[[]wire.Policy](n.send("GET", "/api/v1/policies", nil), 200), "a draft is nowhere")
	require.Empty(t, n.api.OwnPolicyHits("").Hits, "nobody was refused")

	asked.Policies = []wire.PolicyRequest{newPolicy("nights", `forbid (principal is Agent, action == Action::"CreateSession", resource) when { context.hour >= 22 } unless { context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8")) };`, "")}
	at := func(hour int) identity.Instant {
		return identity.InstantOf(time.Date(2026, 4, 17, hour, 0, 0, 0, time.UTC))
	}
	asked.Time = at(21)
	require.True(t, n.simulates(asked).Allowed)
	asked.Time = at(23)
	require.False(t, n.simulates(asked).Allowed)
	asked.SourceIP = "10.1.1.1"
	require.True(t, n.simulates(asked).Allowed)
}

func TestSimulationOfToolsDelegationsChainsAndApprovals(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	ok[wire.Application](n.send("POST", "/api/v1/applications", `{"name":"ledger","audience":"https://ledger.example.com","scopes":["ledger.post"],"tags":["production-write"]}`), 201)
	for _, name := range []string{"bookkeeper", "clerk"} {
		ok[wire.Agent](n.send("POST", "/api/v1/agents", fmt.Sprintf(`{"profile":{"name":%q,"agent_type":"autonomous"},"default_scopes":["ledger.post"],"applications":["ledger"]}`, name)), 201)
	}
	for _, p := range policy.Shipped() {
		g.setUp(t, fsm.PutPolicy{Policy: p})
	}
	asked := wire.SimulateRequest{AgentID: "bookkeeper"}
	require.Equal(t, identity.CodeApprovalRequired, n.simulates(asked).Refusal.Code)
	asked.Approved = true
	approved := n.simulates(asked)
	require.True(t, approved.Allowed)
	require.Equal(t, string(policy.OutcomeApproved), outcomeOf(t, approved.Policies, "production-write-needs-approval"))

	asked.Approved, asked.Chain = false, []string{"clerk"}
	hop := n.simulates(asked)
	require.Equal(t, identity.CodeApprovalRequired, hop.Refusal.Code)
	asked.Approved = true
	require.Equal(t, []string{"clerk", "bookkeeper"}, n.simulates(asked).Session.Chain)
	asked.Chain = []string{"clerk", "bookkeeper"}
	require.Equal(t, identity.CodeChainCycle, n.simulates(asked).Refusal.Code)

	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "no-posting", Text: `forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"post");`}})
	tool := wire.SimulateRequest{AgentID: "clerk", Tool: &wire.SimulatedTool{Name: "post", ApplicationID: "ledger", RequiredScope: "ledger.post"}}
	refused := n.simulates(tool)
	require.Equal(t, wire.ActionCallTool, refused.Action)
	require.Equal(t, "no-posting", refused.Refusal.PolicyID)
	tool.Tool.Name = "read"
	require.True(t, n.simulates(tool).Allowed)
	tool.Tool.RequiredScope = "ledger.close"
	require.Equal(t, identity.CodeScopeNotAllowed, n.simulates(tool).Refusal.Code)

	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "short-loans", Text: `forbid (principal is User, action == Action::"Delegate", resource) when { context.max_seconds > 3600 };`}})
	lend := wire.SimulateRequest{Action: wire.ActionDelegate, AgentID: "inbox-assistant", PrincipalUserID: "user@company.com", MaxDuration: 7200}
	require.Equal(t, "short-loans", n.simulates(lend).Refusal.PolicyID)
	lend.MaxDuration = 3600
	require.True(t, n.simulates(lend).Allowed)
}

// What is said of lending in advance holds when somebody lends, alone or with many others.
func TestDelegationsAreHeldToPolicies(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "short-loans", Text: `forbid (principal is User, action == Action::"Delegate", resource) when { context.max_seconds > 3600 };`}})
	for _, n := range g.nodes {
		body := `{"principal_id":"new@company.com","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":%d}`
		problem := n.send("POST", "/api/v1/delegations?ensure_principal=true", fmt.Sprintf(body, 7200)).refused(identity.CodePolicyDenied)
		require.Equal(t, "short-loans", problem.PolicyID)
		ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", fmt.Sprintf(body, 3600)), 201)
		bulk := ok[wire.BulkAnswer](n.send("POST", "/api/v1/bulk?ensure_principal=true", fmt.Sprintf(`{"agents":[{"profile":{"name":"newcomer-%s","agent_type":"user-delegated"},"default_scopes":["gmail.read"]}],"delegations":[%s,%s]}`,
			n.name(), fmt.Sprintf(body, 60), strings.Replace(fmt.Sprintf(body, 7200), "inbox-assistant", "newcomer-"+n.name(), 1))), 200)
		require.EqualValues(t, 2, bulk.Created)
		require.Equal(t, identity.CodePolicyDenied, bulk.Items[2].Code, "also of an agent that is made in the same request")
	}
	g.nodes[0].send("POST", "/api/v1/sessions", strings.Replace(articleSession, "user@company.com", "third@company.com", 1), token(runtimeToken)).
		refused(identity.CodePolicyDenied)
}

func TestSimulationsThatMakeNoSenseAreRefused(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	for name, body := range map[string]string{
		"no agent":              `{}`,
		"unknown action":        `{"agent_id":"inbox-assistant","action":"Fly"}`,
		"a tool without one":    `{"agent_id":"inbox-assistant","action":"CallTool"}`,
		"nobody lends":          `{"agent_id":"inbox-assistant","action":"Delegate"}`,
		"a bad address":         `{"agent_id":"inbox-assistant","source_ip":"here"}`,
		"an unknown parent":     `{"agent_id":"inbox-assistant","chain":["nobody"]}`,
		"a bad parent token":    `{"agent_id":"inbox-assistant","parent_token":"x"}`,
		"two parents":           `{"agent_id":"inbox-assistant","parent_token":"x","chain":["y"]}`,
		"a hop that lends":      `{"agent_id":"inbox-assistant","lends":true,"chain":["y"]}`,
		"a draft that is twice": `{"agent_id":"inbox-assistant","policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"},{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`,
	} {
		t.Run(name, func(t *testing.T) { n.send("POST", "/api/v1/policies/simulate", body).refused(identity.CodeInvalid) })
	}
	problem := n.send("POST", "/api/v1/policies/simulate", `{"agent_id":"inbox-assistant","policies":[{"id":"a","text":"forbid"}]}`).refused(identity.CodeValidation)
	require.Equal(t, "/policies/0/text", problem.Errors[0].Pointer)
	n.send("POST", "/api/v1/policies/simulate", `{"agent_id":"nobody"}`).refused(identity.CodeNotFound)
	n.send("POST", "/api/v1/policies/simulate", `{"agent_id":"inbox-assistant"}`, token(runtimeToken)).refused(identity.CodeForbidden)
	n.stale = true
	n.send("POST", "/api/v1/policies/simulate", `{"agent_id":"inbox-assistant"}`).refused(identity.CodeNotFresh)
}
