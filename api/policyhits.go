package api

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// PolicyHitsAsker asks the nodes of the cluster what policies have denied there.
type PolicyHitsAsker interface {
	// PolicyHits asks every node for the hits of a policy, or, where it is empty, for the totals of all. Each node
	// answers what its OwnPolicyHits says.
	PolicyHits(ctx context.Context, policy string) []NodeHits
}

// NodeHits are the hits at one node.
type NodeHits struct {
	ID    string           `json:"id"`
	Error string           `json:"error,omitempty"` // why it has not answered; then nothing else is set but ID
	Since identity.Instant `json:"since"`
	Hits  []PolicyHits     `json:"hits"` // by policy
}

// OwnPolicyHits are the hits at this node, of one policy or, where it is empty, the totals of all.
func (a *API) OwnPolicyHits(policy string) NodeHits {
	return NodeHits{ID: a.NodeID, Since: a.started, Hits: a.hits.of(policy)}
}

// noteHits counts what policies said of the session that the request was about, where that became known: a node that
// could not vouch for its state has not spoken. Of several decisions in one request the last one counts, which is the
// one that it was answered by.
func (a *API) noteHits(c *call) {
	if c.request.Agent == nil || c.ctx.Response.StatusCode() == fasthttp.StatusServiceUnavailable {
		return
	}
	scopes := c.request.Requested
	if scopes == "" {
		scopes = c.request.Agent.DefaultScopes
	}
	a.hits.note(c.grant.Diagnostics(), hit{c.request.Agent.Name, scopes, c.now})
}

func (a *API) policyHits(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	all := PolicyHits{Policy: id}
	nodes, complete, err := a.askForHits(c, id, func(h *PolicyHits) { all.merge(h) })
	if err != nil {
		return err
	}
	if _, known := c.view.Policy(id); !known && all.Total.sum() == 0 && complete {
		return notFound("policy", id)
	}
	return c.answer(fasthttp.StatusOK, showHits(&all, nodes, complete))
}

func (a *API) listPolicyHits(c *call) error {
	all := map[string]*PolicyHits{}
	nodes, complete, err := a.askForHits(c, "", func(h *PolicyHits) {
		if all[h.Policy] == nil {
			all[h.Policy] = &PolicyHits{Policy: h.Policy}
		}
		all[h.Policy].merge(h)
	})
	if err != nil {
		return err
	}
	list := wire.PolicyHitsList{Policies: []wire.PolicySummary{}, Nodes: nodes, Complete: complete}
	for id, h := range all {
		summary := wire.PolicySummary{PolicyID: id, Agents: int64(len(h.Agents)), Hits: wire.Hits(h.Total)}
		if p, known := c.view.Policy(id); known {
			summary.Mode = p.Mode
		}
		list.Policies = append(list.Policies, summary)
	}
	slices.SortFunc(list.Policies, func(a, b wire.PolicySummary) int { return strings.Compare(a.PolicyID, b.PolicyID) })
	return c.answer(fasthttp.StatusOK, &list)
}

// askForHits asks every node, and goes on as if the request had come only then.
func (a *API) askForHits(c *call, policy string, take func(*PolicyHits)) (nodes []wire.HitsNode, complete bool, err error) {
	var answers []NodeHits
	if err := a.ask(func() { answers = a.PolicyHits.PolicyHits(context.Background(), policy) }); err != nil {
		return nil, false, err
	}
	if err := a.lookAgain(c); err != nil {
		return nil, false, err
	}
	nodes, complete = []wire.HitsNode{}, true
	for i := range answers {
		n := &answers[i]
		nodes = append(nodes, wire.HitsNode{ID: n.ID, Replied: n.Error == "", Error: n.Error, Since: n.Since})
		complete = complete && n.Error == ""
		for j := range n.Hits {
			take(&n.Hits[j])
		}
	}
	return nodes, complete, nil
}

func showHits(h *PolicyHits, nodes []wire.HitsNode, complete bool) *wire.PolicyHits {
	shown := &wire.PolicyHits{
		PolicyID: h.Policy, Denied: h.Total.Denied, Monitored: h.Total.Monitored, Agents: []wire.AgentHits{},
		Others: wire.Hits(h.Others), Complete: complete, Nodes: nodes,
	}
	for name, a := range h.Agents {
		agent := wire.AgentHits{
			AgentID: name, LastAt: a.Last, Hits: wire.Hits(a.Total), Scopes: []wire.ScopeHits{}, OtherScopes: wire.Hits(a.Others),
		}
		for scope, n := range a.Scopes {
			agent.Scopes = append(agent.Scopes, wire.ScopeHits{Scope: scope, Hits: wire.Hits(*n)})
		}
		slices.SortFunc(agent.Scopes, func(x, y wire.ScopeHits) int {
			return cmp.Or(cmp.Compare(y.Denied+y.Monitored, x.Denied+x.Monitored), strings.Compare(x.Scope, y.Scope))
		})
		shown.Agents = append(shown.Agents, agent)
	}
	slices.SortFunc(shown.Agents, func(x, y wire.AgentHits) int {
		return cmp.Or(cmp.Compare(y.Denied+y.Monitored, x.Denied+x.Monitored), strings.Compare(x.AgentID, y.AgentID))
	})
	return shown
}
