package policy_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
	"github.com/deputy-id/deputy/policy"
)

func TestExplanationListsEveryRuleAndPolicy(t *testing.T) {
	r := atProduction()
	r.Policies = policy.Compile([]*identity.Policy{
		written("all", `forbid (principal, action, resource) when { context.chain_depth > 9 };`),
		written("ledger", `forbid (principal, action == Action::"CreateSession", resource == Application::"ledger");`),
		inMode(identity.PolicyMonitor, "watch", forbidAll),
		inMode(identity.PolicyOff, "off", forbidAll),
		written("tools", `forbid (principal, action == Action::"CallTool", resource);`),
		written("users", `forbid (principal is Agent, action, resource) when { principal.agent_type == "user-delegated" };`),
		written("sum", `forbid (principal is Agent, action, resource) when { context.hour * 9223372036854775807 > 1 };`),
		written("two", "forbid (principal, action, resource) when { false };\n"+forbidAll),
	})
	x := policy.NewEngine().Explain(r)
	require.False(t, x.Allowed)
	require.Equal(t, "ledger", x.Refusal.Policy)
	require.Nil(t, x.Session)
	for _, rule := range x.Rules {
		require.Equal(t, policy.OutcomePasses, rule.Outcome, rule.Rule)
	}
	require.Len(t, x.Rules, 8)
	require.Equal(t, []policy.PolicyOutcome{
		{Policy: "all", Mode: identity.PolicyEnforce, Outcome: policy.OutcomePasses},
		{Policy: "ledger", Mode: identity.PolicyEnforce, Outcome: policy.OutcomeForbids, Application: "ledger"},
		{Policy: "off", Mode: identity.PolicyOff, Outcome: policy.OutcomeOff},
		{Policy: "sum", Mode: identity.PolicyEnforce, Outcome: policy.OutcomeError, Detail: "integer overflow while attempting to multiply `8` by `9223372036854775807`"},
		{Policy: "tools", Mode: identity.PolicyEnforce, Outcome: policy.OutcomeNotApplicable},
		{Policy: "two", Mode: identity.PolicyEnforce, Outcome: policy.OutcomeForbids},
		{Policy: "users", Mode: identity.PolicyEnforce, Outcome: policy.OutcomeNotApplicable},
		{Policy: "watch", Mode: identity.PolicyMonitor, Outcome: policy.OutcomeWouldForbid},
	}, x.Policies)
	require.Equal(t, []string{"ledger", "sum", "two"}, x.Diagnostics.Forbidding)

	r.Requested = "zendesk.delete"
	x = policy.NewEngine().Explain(r)
	require.Equal(t, identity.CodeScopeNotAllowed, x.Refusal.Code)
	require.Equal(t, policy.OutcomeRefuses, x.Rules[4].Outcome)
	require.Contains(t, x.Rules[4].Detail, "zendesk.delete")
	require.Equal(t, policy.OutcomeNotReached, x.Rules[5].Outcome)
	require.Equal(t, policy.OutcomeNotReached, x.Policies[1].Outcome, "there is no application yet")

	r = autonomous()
	x = policy.NewEngine().Explain(r)
	require.True(t, x.Allowed)
	require.Equal(t, session, x.Session.ID)
	require.Empty(t, x.Policies)

	r.Agent = nil
	x = policy.NewEngine().Explain(r)
	require.Equal(t, policy.OutcomeRefuses, x.Rules[0].Outcome)
}

// somePolicies draws sets that speak about what drawRequest draws, in all modes, some beyond repair.
var somePolicies = rapid.Custom(func(t *rapid.T) *policy.Set {
	var list []*identity.Policy
	for i := range rapid.IntRange(0, 4).Draw(t, "policies") {
		text := rapid.SampledFrom([]string{
			`forbid (principal == Agent::"a", action, resource);`,
			`forbid (principal is Agent, action, resource) when { principal.agent_type == "scheduled" };`,
			`forbid (principal, action == Action::"CreateSession", resource == Application::"gmail") unless { context.autonomous };`,
			`@approval("required") forbid (principal, action, resource) when { context.chain_depth > 1 } unless { context.approval };`,
			`@approval("required") forbid (principal, action == Action::"CreateSession", resource) when { resource.verification == "offline" } unless { context.approval };`,
			`forbid (principal is Agent, action, resource) when { context.max_seconds + 9223372036854775000 > 3600 };`,
			`forbid (principal is Agent, action, resource) when { context.requested_scopes.contains("warehouse.query") };`,
			`forbid (principal is Agent, action, resource) unless { context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8")) };`,
			`forbid (principal, action, resource) when { context.nothing };`,
		}).Draw(t, "text")
		list = append(list, inMode(rapid.SampledFrom(identity.PolicyModes()).Draw(t, "mode"), fmt.Sprint("p", i), text))
	}
	return policy.Compile(list)
})

// Explain answers as Decide does: 100,000 requests (a fifth of that under the race detector), of which enough are granted and
// refused in each way.
func TestExplainAgreesWithDecide(t *testing.T) {
	const perSet = 50
	wanted := 100_000
	if racedetector.Enabled { // one goroutine decides and explains
		wanted = 20_000
	}
	engine := policy.NewEngine()
	came := map[identity.Code]int{}
	requests, withPolicy := 0, 0
	outcomes := []identity.Code{"", identity.CodePolicyDenied, identity.CodeApprovalRequired, identity.CodeScopeNotAllowed, identity.CodeAgentSuspended}
	rare := func() bool {
		return slices.ContainsFunc(outcomes, func(code identity.Code) bool { return came[code] <= wanted/500 })
	}
	for requests < wanted || rare() && requests < 10*wanted {
		rapid.Check(t, func(t *rapid.T) {
			set := somePolicies.Draw(t, "set")
			var parent *policy.Grant
			base := drawRequest(t, parent)
			for range perSet {
				r := *base
				// The rest varies without the generator, which would take most of the time.
				requests++
				vary(&r, requests)
				r.Policies = set
				g := new(policy.Grant)
				err := engine.Decide(&r, g)
				x := engine.Explain(&r)
				came[identity.CodeOf(err)]++
				if err != nil && x.Refusal != nil && x.Refusal.Policy != "" {
					withPolicy++
				}
				// require takes longer than both decisions.
				if x.Allowed != (err == nil) || err != nil && !reflect.DeepEqual(err, error(x.Refusal)) ||
					!reflect.DeepEqual(g.Session(), x.Session) || !reflect.DeepEqual(*g.Diagnostics(), x.Diagnostics) {
					t.Fatalf("decided %v %+v, explained %+v", err, g.Session(), x)
				}
				if requests%16 == 0 {
					requireConsistent(t, x, set)
				}
			}
		})
	}
	t.Logf("%d requests, %d refusals name a policy: %v", requests, withPolicy, came)
	for _, code := range outcomes {
		require.Greater(t, came[code], wanted/500, "enough of each, or the test says nothing: %q", code)
	}
}

// vary makes another request of the same one, by a number.
func vary(r *policy.Request, n int) {
	agent := *r.Agent
	r.Agent = &agent
	agent.Type = []identity.AgentType{identity.AgentAutonomous, identity.AgentScheduled, identity.AgentUserDelegated}[n%3]
	if n%4 != 0 {
		agent.Status = identity.StatusActive
	}
	agent.Name = []string{"a", "b"}[n/3%2]
	if r.Delegation != nil && n%7 != 0 {
		d := *r.Delegation
		d.Agent, d.Status, d.Expires = agent.Name, identity.DelegationActive, r.Now+3600*second
		r.Delegation = &d
	}
	if n%5 != 0 {
		r.Requested = ""
	}
	if n%2 == 0 {
		r.SourceIP = netip.AddrFrom4([4]byte{10, byte(n), byte(n >> 8), 1})
	}
	if n%11 == 0 {
		r.Approval = approvedBy(r)
	}
	r.MaxSeconds = int64(n % 5000)
}

// requireConsistent holds an explanation to itself.
func requireConsistent(t require.TestingT, x *policy.Explanation, set *policy.Set) {
	require.Len(t, x.Rules, 8)
	require.Len(t, x.Policies, len(set.Policies()))
	var forbidding, monitored []string
	for _, p := range x.Policies {
		switch p.Outcome {
		case policy.OutcomeForbids, policy.OutcomeRequiresApproval:
			forbidding = append(forbidding, p.Policy)
		case policy.OutcomeWouldForbid:
			monitored = append(monitored, p.Policy)
		case policy.OutcomeError:
			if p.Mode == identity.PolicyMonitor {
				monitored = append(monitored, p.Policy)
			} else {
				forbidding = append(forbidding, p.Policy)
			}
		}
	}
	require.ElementsMatch(t, forbidding, x.Diagnostics.Forbidding)
	require.ElementsMatch(t, monitored, x.Diagnostics.Monitored)
	if len(forbidding) > 0 {
		require.False(t, x.Allowed)
	}
}
