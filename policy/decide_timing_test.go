package policy_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// The decision lies in room of the caller's. What is left spells the handles of the agent and the principal, and
// for the hop the scopes that are none of the three sets as it stands.
func TestDecideAllocatesLittle(t *testing.T) {
	engine := policy.NewEngine()
	for name, tc := range map[string]struct {
		request *policy.Request
		most    float64
	}{
		"autonomous": {autonomous(), 1},
		"delegated":  {delegated(), 2},
		"hop":        {hop(t, delegated()), 3},
	} {
		t.Run(name, func(t *testing.T) {
			var g policy.Grant
			require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
				if err := engine.Decide(tc.request, &g); err != nil {
					t.Error(err)
				}
			}), tc.most)
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	engine := policy.NewEngine()
	for name, r := range map[string]*policy.Request{
		"autonomous": autonomous(),
		"delegated":  delegated(),
		"hop":        hop(b, delegated()),
	} {
		b.Run(name, func(b *testing.B) {
			var g policy.Grant
			b.ReportAllocs()
			for b.Loop() {
				if err := engine.Decide(r, &g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// many is a set of a hundred policies, of which ten apply to the triage agent's sessions.
func many() []*identity.Policy {
	list := []*identity.Policy{}
	for i := range 100 {
		text := fmt.Sprintf(`forbid (principal == Agent::"agent-%d", action, resource) when { context.hour > 25 };`, i)
		switch {
		case i < 10:
			text = fmt.Sprintf(`forbid (principal is Agent, action == Action::"CreateSession", resource)
				when { principal in Group::"group-%d" && resource.tags.contains("production-write") }
				unless { context has source_ip && context.source_ip.isInRange(ip("10.%d.0.0/16")) };`, i, i)
		case i < 40:
			text = fmt.Sprintf(`forbid (principal is Agent, action == Action::"CallTool", resource) when { resource.name == "tool-%d" };`, i)
		case i < 70:
			text = fmt.Sprintf(`forbid (principal is Agent, action, resource) when { principal.agent_type == "user-delegated" && context.chain_depth > %d };`, i)
		}
		list = append(list, written(fmt.Sprintf("p-%02d", i), text))
	}
	return list
}

func withShipped(t testing.TB) *policy.Request {
	r := atProductionApproved()
	r.Approval, r.Requested = nil, "zendesk.tickets.read"
	r.Agent.Groups = []string{"support"}
	r.Policies = shipped(identity.PolicyEnforce)
	require.Empty(t, r.Policies.Broken())
	return r
}

func withMany(t testing.TB) *policy.Request {
	r := withShipped(t)
	r.Policies = compiled(t, many()...)
	return r
}

// withCedar has a policy that only Cedar's own evaluator can answer.
func withCedar(t testing.TB) *policy.Request {
	r := withShipped(t)
	r.Policies = compiled(t, written("sum", `forbid (principal is Agent, action, resource) when { context.max_seconds + 1 > 86400 };`))
	return r
}

// Policies decide without garbage: what is left is what the rules leave.
func TestPoliciesAllocateNothing(t *testing.T) {
	engine := policy.NewEngine()
	for name, r := range map[string]*policy.Request{"shipped": withShipped(t), "hundred": withMany(t)} {
		t.Run(name, func(t *testing.T) {
			var g policy.Grant
			run := func() {
				if err := engine.Decide(r, &g); err != nil {
					t.Error(err)
				}
			}
			with := testing.AllocsPerRun(100, run)
			r.Policies = nil
			require.LessOrEqual(t, with, testing.AllocsPerRun(100, run))
		})
	}
}

func BenchmarkDecideWithPolicies(b *testing.B) {
	engine := policy.NewEngine()
	for _, bench := range []struct {
		name string
		make func(testing.TB) *policy.Request
	}{
		{"none", func(t testing.TB) *policy.Request { r := withShipped(t); r.Policies = nil; return r }},
		{"shipped", withShipped},
		{"hundred", withMany},
		{"cedar", withCedar},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := bench.make(b)
			var g policy.Grant
			b.ReportAllocs()
			for b.Loop() {
				if err := engine.Decide(r, &g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecideTool(b *testing.B) {
	engine := policy.NewEngine()
	r := toolCall(policy.Compile(many()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := engine.DecideTool(r); err != nil {
			b.Fatal(err)
		}
	}
}

// A change of one policy of a thousand.
func BenchmarkCompile(b *testing.B) {
	var list []*identity.Policy
	for i := range 10 {
		for _, p := range many() {
			p.ID = fmt.Sprint(p.ID, "-", i)
			list = append(list, p)
		}
	}
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			policy.Compile(list)
		}
	})
	b.Run("change", func(b *testing.B) {
		var cache policy.Cache
		revision := uint64(0)
		b.ReportAllocs()
		for b.Loop() {
			revision++
			changed := *list[revision%1000]
			list[revision%1000] = &changed
			cache.At(revision, func() []*identity.Policy { return list })
		}
	})
}

func BenchmarkCacheAt(b *testing.B) {
	var cache policy.Cache
	list := many()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			cache.At(1, func() []*identity.Policy { return list })
		}
	})
}
