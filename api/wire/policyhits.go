package wire

import "github.com/deputy-id/deputy/identity"

// PolicyHits are what a policy has denied, or would have, at all nodes since each of them was started.
type PolicyHits struct {
	PolicyID  string      `json:"policy_id"`
	Denied    uint64      `json:"denied" doc:"requests that it has denied, or that a rule of the model has and the policy agrees with"`
	Monitored uint64      `json:"monitored" doc:"requests that it would have denied, were it enforced"`
	Agents    []AgentHits `json:"agents" doc:"those with the most hits first"`
	Others    Hits        `json:"others" doc:"of agents that are not listed, as each node lists only so many"`
	Complete  bool        `json:"complete" doc:"every node has answered"`
	Nodes     []HitsNode  `json:"nodes" doc:"who was asked"`
}

// PolicyHitsList are the hits of all policies that have any.
type PolicyHitsList struct {
	Policies []PolicySummary `json:"policies" doc:"by id"`
	Complete bool            `json:"complete" doc:"every node has answered"`
	Nodes    []HitsNode      `json:"nodes" doc:"who was asked"`
}

// PolicySummary is one policy in the list of hits.
type PolicySummary struct {
	PolicyID string              `json:"policy_id"`
	Mode     identity.PolicyMode `json:"mode,omitempty" doc:"as of now; absent where the policy was deleted"`
	Agents   int64               `json:"agents" doc:"how many agents are listed"`
	Hits
}

// Hits are numbers of requests.
type Hits struct {
	Denied    uint64 `json:"denied"`
	Monitored uint64 `json:"monitored"`
}

// AgentHits are the hits of one agent.
type AgentHits struct {
	AgentID string           `json:"agent_id"`
	LastAt  identity.Instant `json:"last_at"`
	Hits
	Scopes      []ScopeHits `json:"scopes" doc:"by scope that was asked for; a request counts for each of its scopes"`
	OtherScopes Hits        `json:"other_scopes" doc:"of scopes that are not listed"`
}

// ScopeHits are the hits of one scope of an agent.
type ScopeHits struct {
	Scope string `json:"scope"`
	Hits
}

// HitsNode is one node's part in the hits.
type HitsNode struct {
	ID      string           `json:"id"`
	Replied bool             `json:"replied"`
	Error   string           `json:"error,omitempty" doc:"why its hits are not known"`
	Since   identity.Instant `json:"since,omitempty" doc:"when it was started, and began to count"`
}
