package api

import (
	"context"
	"fmt"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// stubHits asks each node of a group by a function call.
type stubHits struct {
	n      *node
	silent string // why the node does not answer others
}

func (s *stubHits) PolicyHits(_ context.Context, policy string) (all []NodeHits) {
	for _, n := range s.n.group.nodes {
		if n.hits.silent != "" {
			all = append(all, NodeHits{ID: n.name(), Error: n.hits.silent})
			continue
		}
		all = append(all, n.api.OwnPolicyHits(policy))
	}
	return all
}

// What a policy would have denied is known before it is enforced: by agent and scope, and from all nodes.
func TestHitsTellWhomAPolicyWouldHaveDenied(t *testing.T) {
	g, _, secret := newInbox(t, 2)
	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "no-drafts", Mode: identity.PolicyMonitor, Text: noDrafts}})
	for _, n := range g.nodes {
		ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
	}
	first, second := g.nodes[0], g.nodes[1]
	ok[wire.Session](first.send("POST", "/api/v1/sessions", articleSession, basic("inbox-assistant", secret)), 201)
	g.setUp(t, fsm.SetPolicyMode{ID: "no-drafts", Mode: identity.PolicyEnforce})
	second.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)).refused(identity.CodePolicyDenied)

	hits := ok[wire.PolicyHits](second.send("GET", "/api/v1/policies/no-drafts/hits", nil), 200)
	require.EqualValues(t, 1, hits.Denied)
	require.EqualValues(t, 3, hits.Monitored, "once for each request, however often it had to be decided")
	require.True(t, hits.Complete)
	require.Len(t, hits.Nodes, 2)
	require.Len(t, hits.Agents, 1)
	require.Equal(t, "inbox-assistant", hits.Agents[0].AgentID)
	require.Equal(t, []wire.ScopeHits{
		{Scope: "gmail.draft", Hits: wire.Hits{Denied: 1, Monitored: 3}}, {Scope: "gmail.read", Hits: wire.Hits{Denied: 1, Monitored: 3}},
	}, hits.Agents[0].Scopes)
	list := ok[wire.PolicyHitsList](first.send("GET", "/api/v1/policy-hits", nil), 200)
	require.Equal(t, []wire.PolicySummary{
		{PolicyID: "no-drafts", Mode: identity.PolicyEnforce, Agents: 1, Hits: wire.Hits{Denied: 1, Monitored: 3}},
	}, list.Policies)
	require.Equal(t, map[string]float64{"no-drafts denied": 1, "no-drafts monitored": 1}, second.hitMetrics())

	second.hits.silent = "it did not answer"
	partly := ok[wire.PolicyHits](first.send("GET", "/api/v1/policies/no-drafts/hits", nil), 200)
	require.False(t, partly.Complete)
	require.EqualValues(t, 2, partly.Monitored)
	require.Equal(t, "it did not answer", partly.Nodes[1].Error)
	second.hits.silent = ""
	first.send("GET", "/api/v1/policies/unheard-of/hits", nil).refused(identity.CodeNotFound)
}

// A node that can't vouch for its state has decided nothing.
func TestDecisionsOfStaleNodesAreNoHits(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "no-drafts", Text: noDrafts}})
	n.stale = true
	n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)).refused(identity.CodeNotFresh)
	n.stale = false
	require.Empty(t, n.api.OwnPolicyHits("").Hits)
}

func (n *node) hitMetrics() map[string]float64 {
	n.t.Helper()
	families, err := n.registry.Gather()
	require.NoError(n.t, err)
	found := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "deputy_policy_hits_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			found[labelOf(m, "policy")+" "+labelOf(m, "outcome")] = m.GetCounter().GetValue()
		}
	}
	return found
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Whoever comes and goes, the counts add up and stay within their bounds, and who has the most hits is among those
// that are listed.
func TestHitsAreBoundedAndAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &hitCounter{}
		requests := rapid.IntRange(1, 600).Draw(t, "requests")
		spread := rapid.IntRange(1, 4*hitAgents).Draw(t, "agents")
		seed := rapid.IntRange(1, 1000).Draw(t, "seed")
		var noted HitCounts
		for i := range requests {
			agent := fmt.Sprintf("agent-%d", (i*seed+i/7)%spread)
			if i%2 == 0 {
				agent = "busy"
			}
			d := policy.Diagnostics{Monitored: []string{"p"}}
			if i%3 == 0 {
				d = policy.Diagnostics{Forbidding: []string{"p"}}
				noted.Denied++
			} else {
				noted.Monitored++
			}
			h.note(&d, hit{agent, identity.Scopes(fmt.Sprintf("s%d", i%(2*hitScopes))), identity.Instant(i)})
		}
		hits := h.of("p")[0]
		require.Equal(t, noted, hits.Total)
		require.LessOrEqual(t, len(hits.Agents), hitAgents)
		sum := hits.Others
		for _, a := range hits.Agents {
			sum.add(a.Total)
			require.LessOrEqual(t, len(a.Scopes), hitScopes)
			scopes := a.Others
			for _, s := range a.Scopes {
				scopes.add(*s)
			}
			require.Equal(t, a.Total, scopes)
		}
		require.Equal(t, noted, sum)
		require.Contains(t, hits.Agents, "busy")
	})
}

func TestHitsOfDeletedPoliciesMakeRoom(t *testing.T) {
	h := &hitCounter{}
	for i := range hitPolicies + 10 {
		h.note(&policy.Diagnostics{Forbidding: []string{fmt.Sprintf("p-%d", i)}}, hit{agent: "a"})
	}
	require.Len(t, h.of(""), hitPolicies)
	h.keep(policy.Compile([]*identity.Policy{{ID: "p-7", Mode: identity.PolicyOff}, {ID: "new", Mode: identity.PolicyOff}}))
	require.Len(t, h.of(""), 1)
	h.note(&policy.Diagnostics{Monitored: []string{"new"}}, hit{agent: "a"})
	require.Len(t, h.of(""), 2)
}
