package policytest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/policy/policytest"
)

// shipped are the policies that come along, with a network of which they only take note.
func shipped() *policy.Set {
	var list []*identity.Policy
	for _, p := range policy.Shipped() {
		if p.Mode == identity.PolicyOff {
			p.Mode = identity.PolicyMonitor
			p.Text = strings.Replace(p.Text, "192.0.2.0/24", "10.0.0.0/8", 1)
		}
		list = append(list, &p)
	}
	return policy.Compile(list)
}

func TestShippedPoliciesMeanWhatTheirCasesSay(t *testing.T) {
	data, err := os.ReadFile("testdata/shipped.yaml")
	require.NoError(t, err)
	file, err := policytest.Parse("shipped.yaml", data)
	require.NoError(t, err)
	results := file.Run(shipped())
	require.Len(t, results, 11)
	for _, r := range results {
		require.True(t, r.Passed, "line %d: %s: want %s, got %s", r.Line, r.Name, r.Want, r.Got)
		require.Empty(t, r.Want)
	}
	require.Equal(t, 13, results[0].Line)
}

const some = `
applications: [{name: crm, scopes: [crm.read]}]
agents: [{name: a}]
principals: [{id: ann@x}]
cases:
`

func run(t *testing.T, cases string, texts ...string) []policytest.Result {
	t.Helper()
	file, err := policytest.Parse("test", []byte(some+cases))
	require.NoError(t, err)
	var list []*identity.Policy
	for i, text := range texts {
		list = append(list, &identity.Policy{ID: string(rune('a' + i)), Mode: identity.PolicyEnforce, Text: text})
	}
	return file.Run(policy.Compile(list))
}

func TestCaseThatDoesNotHoldSaysWhatCameInstead(t *testing.T) {
	const all = "forbid (principal, action, resource);"
	for name, tc := range map[string]struct {
		cases     string
		want, got string
	}{
		"denied": {
			`- {name: x, agent: a, expect: allow}`,
			`allow`, `deny (policy-denied: policy "a" forbids this session)`,
		},
		"another policy": {
			`- {name: x, agent: a, expect: deny, policy: b, code: approval-required}`,
			`deny, code approval-required, policy b`, `deny, code policy-denied, policy a (policy-denied: policy "a" forbids this session)`,
		},
		"monitored": {
			`- {name: x, agent: a, expect: deny, monitored: [z]}`,
			`deny, monitored [z]`, `deny, monitored [] (policy-denied: policy "a" forbids this session)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, tc.cases, all)[0]
			require.False(t, r.Passed)
			require.Equal(t, tc.want, r.Want)
			require.Equal(t, tc.got, r.Got)
			require.NotEmpty(t, r.Explanation.Policies)
		})
	}
	r := run(t, `- {name: x, agent: a, expect: deny, code: policy-denied, policy: a}`)[0]
	require.Equal(t, "allow, code , policy none", r.Got)
	require.True(t, run(t, `- {name: x, agent: a, expect: deny, policy: b}`, all, all)[0].Passed, "one of several that forbid")
}

func TestCaseSetsTheScene(t *testing.T) {
	for text, cases := range map[string]string{
		`forbid (principal is Agent, action == Action::"CreateSession", resource) when { context.hour == 23 && context.max_seconds == 90 && context.trigger_reason == "r" };`: `- {name: x, agent: a, time: "2026-01-05T23:59:59Z", max_duration_seconds: 90, trigger_reason: r, expect: deny}`,
		`forbid (principal is Agent, action == Action::"CallTool", resource) when { context.max_seconds == 90 && resource.name == "t" && context has user };`:                 `- {name: x, action: CallTool, agent: a, principal: ann@x, max_duration_seconds: 90, audience: [crm], tool: {name: t, application: crm}, expect: deny}`,
		`forbid (principal is User, action, resource) when { context has max_hops && context.max_hops == 2 && context.max_seconds == 3600 };`:                                 `- {name: x, action: Delegate, agent: a, principal: ann@x, expect: deny, policy: a}`,
	} {
		require.True(t, run(t, cases, text)[0].Passed, text)
	}
	for _, cases := range []string{
		`- {name: x, agent: a, approved: true, expect: allow}`,
		`- {name: x, agent: a, action: CallTool, tool: {name: t, application: crm}, approved: true, expect: allow}`,
		`- {name: x, agent: a, action: Delegate, principal: ann@x, approved: true, expect: allow}`,
	} {
		require.True(t, run(t, cases, `@approval("required") forbid (principal, action, resource) unless { context.approval };`)[0].Passed, cases)
	}
}

// A mistake in a file is not taken for a refusal that was expected.
func TestFileIsReadStrictly(t *testing.T) {
	for name, tc := range map[string]struct{ text, says string }{
		"not YAML":            {"cases: [", "test: yaml"},
		"nothing":             {"", "no cases"},
		"unknown field":       {some + "- {name: x, agent: a, expct: deny}", "line 6: field expct not found"},
		"two documents":       {some + "- {name: x, agent: a, expect: deny}\n---\ncases: []", "more than one document"},
		"no name":             {some + "- {agent: a, expect: deny}", "line 6: case \"\": has no name"},
		"no expectation":      {some + "- {name: x, agent: a}", "it must be allow or deny"},
		"contradiction":       {some + "- {name: x, agent: a, expect: allow, policy: p}", "names a policy"},
		"unknown agent":       {some + "- {name: x, agent: b, expect: deny}", `no agent "b"`},
		"unknown in a chain":  {some + "- {name: x, agent: a, chain: [b], expect: deny}", `no agent "b"`},
		"unknown principal":   {some + "- {name: x, agent: a, principal: bob@x, expect: deny}", `no principal "bob@x"`},
		"unknown action":      {some + "- {name: x, agent: a, action: Fly, expect: deny}", `action "Fly"`},
		"no tool":             {some + "- {name: x, agent: a, action: CallTool, expect: deny}", "names none"},
		"nobody delegates":    {some + "- {name: x, agent: a, action: Delegate, expect: deny}", "names no principal"},
		"address":             {some + "- {name: x, agent: a, source_ip: 10.0.0, expect: deny}", "source_ip"},
		"time":                {some + "- {name: x, agent: a, time: noon, expect: deny}", "time"},
		"scopes":              {some + "- {name: x, agent: a, scopes: ['a b'], expect: deny}", "scopes"},
		"application":         {"applications: [{name: A}]\ncases: [{name: x}]", "lower-case"},
		"application scopes":  {"applications: [{name: a, scopes: ['']}]\ncases: [{name: x}]", "empty scope"},
		"agent type":          {"agents: [{name: a, agent_type: robot}]\ncases: [{name: x}]", "agent_type"},
		"agent scopes":        {"agents: [{name: a, default_scopes: ['']}]\ncases: [{name: x}]", "empty scope"},
		"principal":           {"principals: [{id: ''}]\ncases: [{name: x}]", "is missing"},
		"more than is useful": {strings.Repeat("#", policytest.MaxBytes+1), "at most"},
		"more cases than that": {
			"cases:\n" + strings.Repeat("- {name: x}\n", policytest.MaxCases+1), "at most 10000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policytest.Parse("test", []byte(tc.text))
			require.ErrorContains(t, err, tc.says)
			var e *identity.Error
			require.ErrorAs(t, err, &e)
		})
	}
}

func TestFileMayBeJSON(t *testing.T) {
	file, err := policytest.Parse("test.json", []byte(`{"agents": [{"name": "a", "applications": []}], "cases": [{"name": "x", "agent": "a", "expect": "allow"}]}`))
	require.NoError(t, err)
	require.True(t, file.Run(nil)[0].Passed)
}
